"""A dialog that resolves an edit conflict: it shows both texts and asks which one to keep."""

from typing import Literal

from nicegui import ui

from ..changes import Draft
from ..library import ReviewItem
from .components import DiffList

Choice = Literal["mine", "theirs"]


async def resolve_conflict(entry: ReviewItem, draft: Draft, reason: str) -> Choice | None:
    """Return which text to keep, None for both: the draft stays unsaved.

    No button has the focus, because the user may still be typing.
    """
    with ui.dialog().props("no-backdrop-dismiss") as dialog, ui.card().classes("sheet"):
        ui.label(f"Not saved: {entry.name}").classes("sheet-title").props("role=heading aria-level=1")
        ui.label(f"{reason[:1].upper()}{reason[1:]}.")
        DiffList(labels=("On disk", "Yours")).show([("", entry.caption.text, draft.text)])
        with ui.element("div").classes("actions"):
            if entry.access_error is None:
                ui.button("Save mine", on_click=lambda: dialog.submit("mine")).props("outline no-caps")
            ui.button("Keep the caption on disk", on_click=lambda: dialog.submit("theirs")).props("outline no-caps")
            ui.label("Esc keeps both: your text stays in the box, not saved.").classes("muted")
    answer: Choice | None = await dialog
    if not dialog.is_deleted:
        dialog.delete()
    return answer
