"""The panel that starts, displays, pauses and stops a run over the folder."""

from typing import TYPE_CHECKING, Any

from nicegui import ui

from ...text import encodable
from ...types import Captioned, Failed
from .option_fields import OptionFields
from .setup_bar import SetupBar

if TYPE_CHECKING:
    from .tab import ReviewTab


class RunPanel:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab, runs = tab, tab.review_state.runs
        self._shown: Any = None
        with ui.element("div").classes("panel").props('aria-label="Run"') as self.element:
            with ui.element("div").classes("actions"):
                self._start = ui.button("Start", on_click=self._begin).props("unelevated dense no-caps")
                self._start.classes("do-start")
                self._pause = ui.button("Pause", on_click=self._pause_or_resume).props("outline dense no-caps")
                self._stop = ui.button("Stop", on_click=runs.stop).props("outline dense no-caps")
                self._unload = ui.button("Unload the model", on_click=runs.unload).props("flat dense no-caps")
            self._pause.classes("do-pause")
            self._stop.classes("do-stop")
            self._state = ui.label().classes("run-state").props("role=status aria-live=polite")
            self._progress = ui.linear_progress(show_value=False).props('aria-label="Progress"')
            self._newest = ui.element("ol").classes("newest")
            setup = SetupBar(tab)
            self.fields = setup.fields = OptionFields(tab, changed=setup.refresh)
            setup.refresh()
        self.refresh()

    def _begin(self) -> None:
        settings = self.fields.settings_or_notify()
        if settings is not None and not self._tab.review_state.runs.caption_folder(settings):
            ui.notify("a run is active: stop it first", type="warning")

    def _pause_or_resume(self) -> None:
        runs = self._tab.review_state.runs
        runs.resume() if runs.state == "paused" else runs.pause()

    def refresh(self) -> None:
        """Display the state of the run. Called on a timer, so it skips an unchanged state."""
        runs = self._tab.review_state.runs
        now = (runs.state, runs.stats.done, runs.model, runs.total, runs.is_loaded, runs.error)
        if now == self._shown:
            return
        self._shown = now
        self._start.set_enabled(not runs.is_busy)
        self._pause.set_enabled(runs.state in ("running", "paused"))
        self._pause.text = "Resume" if runs.state == "paused" else "Pause"
        self._stop.set_enabled(runs.is_busy)
        self._unload.set_visibility(runs.is_loaded and not runs.is_busy)
        self._state.text = encodable("\n".join(filter(None, (run_line(self._tab), runs.model, runs.error))))
        self._progress.value = runs.stats.done / runs.total if runs.total else 0.0
        self._progress.set_visibility(runs.state != "idle")
        self._newest.clear()
        with self._newest:
            for outcome in list(runs.recent):
                with ui.element("li"):
                    ui.label(encodable(outcome.item.name)).classes("change-name").props("dir=auto")
                    if isinstance(outcome, Captioned):
                        ui.label(encodable(outcome.caption)).props("dir=auto")
                    elif isinstance(outcome, Failed):
                        ui.label(encodable(outcome.error)).classes("fault")


def run_line(tab: "ReviewTab") -> str:
    """# running: captioning set, 12 of 40, 1 flagged, 3.1 files/s, 9.0s left"""
    runs = tab.review_state.runs
    if runs.state == "idle":
        return "no run"
    stats = runs.stats
    parts = [f"{runs.state}: {runs.what}", f"{stats.done:,} of {'?' if runs.total is None else f'{runs.total:,}'}"]
    parts += [f"{count:,} {what}" for count, what in ((stats.flagged, "flagged"), (stats.failed, "failed")) if count]
    if runs.rate is not None and runs.is_busy:
        parts.append(f"{runs.rate:.1f} files/s" if runs.rate >= 1 else f"{runs.rate * 60:.1f} files/min")
    if runs.time_left:
        parts.append(f"{runs.time_left} left")
    return encodable(", ".join(parts))
