"""Announces the end of each run, with the reason of a failure and a way to what the run made."""

from typing import TYPE_CHECKING, Any

from nicegui import ui

from ...text import counted, encodable
from ...types import Failed
from ..runs import RunController
from .components import click_handler

if TYPE_CHECKING:
    from .tab import ReviewTab


class RunNotices:
    def __init__(self, tab: "ReviewTab") -> None:
        self._runs = tab.review_state.runs
        self._announced = self._runs.started - self._runs.is_busy

    def refresh(self) -> None:
        """Called on a timer."""
        runs = self._runs
        if runs.is_busy or runs.started == self._announced:
            return
        self._announced = runs.started
        has_failed = runs.state == "failed" or runs.stats.failed > 0
        ui.notification(
            options={
                "message": describe_end(runs),
                "type": "negative" if has_failed else "positive",
                "position": "bottom-left",
                "multiLine": True,
                "timeout": 0 if has_failed or runs.proposed else 8000,
                "actions": [*_actions(runs), {"label": "OK", "color": "white"}],
            }
        )


def describe_end(runs: RunController) -> str:
    """# finished: recaptioning 5 files. 3 new captions, 1 the same as before, 1 failed: a.png: cannot read ..."""
    parts = []
    if runs.proposed or runs.unchanged:
        parts += [counted(runs.proposed, "new caption")] if runs.proposed else []
        parts += [f"{runs.unchanged:,} the same as before"] if runs.unchanged else []
    elif runs.stats.captioned:
        parts.append(f"{runs.stats.captioned:,} captioned")
    parts += [f"{runs.stats.flagged:,} flagged"] if runs.stats.flagged else []
    failure = next((outcome for outcome in runs.recent if isinstance(outcome, Failed)), None)
    if failure is not None:
        parts.append(f"{runs.stats.failed:,} failed: {failure.item.name}: {failure.error}")
    if not parts and runs.state == "finished":
        parts.append("nothing was left to caption")
    return encodable(f"{runs.state}: {runs.what}. {runs.error or ', '.join(parts)}")


def _actions(runs: RunController) -> list[dict[str, Any]]:
    offers = []
    if runs.proposed:
        offers.append((f"Show {counted(runs.proposed, 'proposal')}", "show_proposals"))
    if runs.stats.failed and not runs.is_proposing:
        offers.append((f"Show {runs.stats.failed:,} failed", "show_failed"))
    if runs.state == "failed":
        offers.append(("Open the run", "run_tab"))
    return [{"label": label, "color": "white", ":handler": click_handler(command)} for label, command in offers]
