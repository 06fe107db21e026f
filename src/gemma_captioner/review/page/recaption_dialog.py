"""A dialog that requests new captions for the current item, the selection or all shown items."""

from typing import TYPE_CHECKING

from nicegui import ui

from .option_fields import OptionFields

if TYPE_CHECKING:
    from .tab import ReviewTab


class RecaptionDialog:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        self._runs = 0
        with ui.dialog() as self._dialog, ui.card().classes("sheet"):
            ui.label("Recaption").classes("sheet-title").props("role=heading aria-level=1")
            ui.label("The present captions stay until you accept the new ones.").classes("muted")
            self._scope = ui.toggle({}).props('dense no-caps aria-label="Items"')
            self._fields = OptionFields(tab, of_files=True)
            ui.label("With the same prompt, use a temperature above 0 for a different caption.").classes("muted")
            with ui.element("div").classes("actions"):
                ui.button("Start", on_click=self._start).props("unelevated no-caps autofocus").classes("do-again")
                ui.button("Close", on_click=self._dialog.close).props("flat no-caps")

    def open(self) -> None:
        tab = self._tab
        scopes = {
            "this": "this one",
            "selected": f"{len(tab.selection.selected):,} selected",
            "shown": f"{len(tab.selection.shown):,} shown",
        }
        if not tab.selection.selected:
            del scopes["selected"]
        self._scope.set_options(scopes, value="selected" if tab.selection.selected else "this")
        self._dialog.open()

    def _start(self) -> None:
        tab = self._tab
        numbers = {
            "this": [tab.selection.current] if tab.selection.current is not None else [],
            "selected": tab.selection.selected_in_order,
            "shown": tab.selection.shown,
        }[self._scope.value]
        entries = [entry for entry in map(tab.review_state.library.__getitem__, numbers) if entry.access_error is None]
        self._runs += 1
        settings = self._fields.settings_or_notify(seed=self._runs)
        if settings is None or not entries:
            return
        if tab.review_state.runs.propose(entries, settings):
            self._dialog.close()
        else:
            ui.notify("a run is active: stop it first", type="warning")
