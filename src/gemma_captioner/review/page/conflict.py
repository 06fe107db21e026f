"""Somebody else wrote there meanwhile: both are shown, and the person says which is to stand."""

from nicegui import ui

from ..edits import Draft
from ..library import ReviewItem
from .components import DiffList


async def resolve_conflict(entry: ReviewItem, draft: Draft, reason: str) -> bool:
    """Whether what was typed is to stand, and not what was written there meanwhile."""
    with ui.dialog().props("persistent") as dialog, ui.card().classes("sheet"):
        ui.label(f"Not saved: {entry.name}").classes("sheet-title")
        ui.label(f"{reason[:1].upper()}{reason[1:]}.")
        ui.label("What stands there, and what you typed in its place:").classes("muted")
        DiffList(sides=True).show([("", entry.words.text, draft.text)])
        with ui.row():
            if entry.access_error is None:
                ui.button("Save mine", on_click=lambda: dialog.submit("mine")).props("unelevated no-caps autofocus")
            ui.button("Keep what stands there", on_click=lambda: dialog.submit("theirs")).props("flat no-caps")
    answer = await dialog
    dialog.delete()
    return bool(answer == "mine")
