"""Saves the text typed in one browser tab, and resolves conflicts with other writers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from ..changes import Draft, EditResult
from .conflict import resolve_conflict

if TYPE_CHECKING:
    from .tab import ReviewTab


class Saving:
    """Handles the events of the editor."""

    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        tab.editor.on("unsent", self._on_unsent)
        for source in (tab.editor, tab.gallery):
            source.on("draft", self._on_draft).on("save", self._save).on("discard", self._discard)

    def _on_draft(self, event: GenericEventArguments) -> None:
        draft = _draft(event.args)
        self._tab.drafts.on_typed(draft)
        if self._tab.selection.current == draft.number:
            self._tab.detail.caption.show_text(draft.text)

    def _discard(self, event: GenericEventArguments) -> None:
        tab = self._tab
        tab.drafts.unsaved.pop(event.args, None)
        if tab.selection.current == event.args:
            tab.redisplay()
        tab.send_captions([event.args])

    async def _on_unsent(self, event: GenericEventArguments) -> None:
        """Save text that was typed while the server was unreachable, before the page was reloaded."""
        name, base, text = (event.args[key] for key in ("name", "base", "text"))
        entries = self._tab.review_state.library.present()
        number = next((entry.number for entry in entries if entry.name == name), None)
        if number is not None:
            await self._restore(Draft(number, base, text))

    async def restore_drafts(self) -> None:
        """Show the drafts that closed tabs could not save."""
        while self._tab.review_state.unsaved:
            await self._restore(self._tab.review_state.unsaved.pop())

    async def _restore(self, draft: Draft) -> None:
        async with self._tab.command_lock:
            self._tab.drafts.unsaved[draft.number] = draft
            self._tab.show(draft.number)
            await self._save_draft(draft)

    async def _save(self, event: GenericEventArguments) -> None:
        tab, draft, approve = self._tab, _draft(event.args), event.args["how"] == "approve"
        tab.drafts.unsaved[draft.number] = draft
        with tab.navigating(approve):
            async with tab.command_lock:
                done = await self._save_draft(tab.drafts.rebased(draft), approve=approve)
                if approve and not done.refused and tab.selection.current == draft.number:
                    tab.step(1)

    async def _save_draft(self, draft: Draft, *, approve: bool = False) -> EditResult:
        tab = self._tab
        done = await tab.drafts.save(draft, tab_id=tab.tab_id, approve=approve)
        if done.refused:
            await self._resolve_conflict(draft, done.refused[draft.number], approve=approve)
        tab.send_captions([draft.number])
        if done.refused:
            return done
        if tab.selection.current == draft.number:
            tab.redisplay()
        if done.numbers:
            tab.notify(done)
        return done

    async def _resolve_conflict(self, draft: Draft, reason: str, *, approve: bool) -> None:
        """Ask which text to keep. The journal keeps an overwritten one."""
        tab = self._tab
        entry = tab.review_state.library[draft.number]
        shown = entry.caption.digest
        answer = await resolve_conflict(entry, draft, reason)
        if answer == "mine":
            await self._save_draft(replace(draft, base=shown), approve=approve)
        elif answer == "theirs":
            tab.drafts.unsaved.pop(draft.number, None)
            if tab.selection.current == draft.number:
                tab.editor.drop()
                tab.redisplay()
        elif tab.is_open:
            ui.notify("not saved: your text stays in the box", type="warning", position="bottom-left")
            tab.detail.caption.show_decision(has_draft=True)


def _draft(payload: dict[str, Any]) -> Draft:
    return Draft(int(payload["number"]), payload["base"], str(payload["text"]))
