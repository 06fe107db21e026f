"""Somebody else wrote there meanwhile: both are shown, and the person says which is to stand."""

from dataclasses import replace
from typing import TYPE_CHECKING

from nicegui import ui

from ..edits import Draft
from .components import Changes

if TYPE_CHECKING:
    from .tab import ReviewTab


async def settle(tab: "ReviewTab", draft: Draft, why: str, *, approve: bool) -> None:
    """What is not chosen is lost from sight, not from the disk: the journal keeps what is overwritten."""
    entry = tab.desk.library[draft.number]
    with ui.dialog().props("persistent") as dialog, ui.card().classes("sheet"):
        ui.label(f"Not saved: {entry.name}").classes("sheet-title")
        ui.label(f"{why[:1].upper()}{why[1:]}.")
        ui.label("What stands there, and what you typed in its place:").classes("muted")
        Changes(sides=True).show([("", entry.words.text, draft.text)])
        with ui.row():
            if entry.fault is None:
                ui.button("Save mine", on_click=lambda: dialog.submit("mine")).props("unelevated no-caps autofocus")
            ui.button("Keep what stands there", on_click=lambda: dialog.submit("theirs")).props("flat no-caps")
    answer = await dialog
    dialog.delete()
    tab.draft = None
    if answer == "mine":
        await tab.save_draft(replace(draft, base=entry.words.digest), approve=approve)
    elif tab.current == draft.number:
        tab.box.drop()
        tab.detail.show(entry, fill=True)
