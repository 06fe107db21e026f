"""A dialog that resolves an edit conflict: it shows both texts and asks which one to keep."""

from nicegui import ui

from ..edits import Draft
from ..library import ReviewItem
from .components import DiffList


async def resolve_conflict(entry: ReviewItem, draft: Draft, reason: str) -> bool:
    """Return whether to save the draft over the text on disk."""
    with ui.dialog().props("persistent") as dialog, ui.card().classes("sheet"):
        ui.label(f"Not saved: {entry.name}").classes("sheet-title")
        ui.label(f"{reason[:1].upper()}{reason[1:]}.")
        ui.label("Left: the caption on disk. Right: your text.").classes("muted")
        DiffList(sides=True).show([("", entry.caption.text, draft.text)])
        with ui.row():
            if entry.access_error is None:
                ui.button("Save mine", on_click=lambda: dialog.submit("mine")).props("unelevated no-caps autofocus")
            ui.button("Keep the caption on disk", on_click=lambda: dialog.submit("theirs")).props("flat no-caps")
    answer = await dialog
    dialog.delete()
    return bool(answer == "mine")
