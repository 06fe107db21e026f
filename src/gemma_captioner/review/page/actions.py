"""Commands on the current item or the selection: decisions, proposals, the trash, undo."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nicegui import ui

from ..decisions import Decision
from ..edits import Draft, EditResult

if TYPE_CHECKING:
    from .tab import ReviewTab


class Actions:
    """Provides `commands`, name -> function, for the command table of the tab."""

    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        edits = tab.review_state.edits
        self.commands: Mapping[str, Callable[[], Any]] = {
            "approve": lambda: self.decide("approved"),
            "reject": lambda: self.decide("rejected"),
            "reopen": lambda: self.decide(None),
            "accept": lambda: self.resolve_proposal(accept=True),
            "keep": lambda: self.resolve_proposal(accept=False),
            "trash": self.trash,
            "undo": lambda: self.undo_or_redo(edits.undo, "nothing to undo"),
            "redo": lambda: self.undo_or_redo(edits.redo, "nothing to redo"),
        }

    async def decide(self, decision: Decision | None) -> None:
        tab = self._tab
        numbers, single = tab.selection.selected_or_current(), not tab.selection.selected
        done = await asyncio.to_thread(tab.review_state.edits.decide, numbers, decision, tab_id=tab.tab_id)
        tab.notify(done)
        if single and decision is not None and not done.refused:
            tab.step(1)
        else:
            tab.show(tab.selection.current)

    async def resolve_proposal(self, *, accept: bool) -> None:
        """Accept or decline the proposals of the selection or of the current item."""
        tab, review_state = self._tab, self._tab.review_state
        proposals = [
            proposal
            for number in tab.selection.selected_or_current()
            if (proposal := review_state.proposals.of(number))
        ]
        if not proposals:
            ui.notify("there is no new caption: press c to request one")
            tab.show(tab.selection.current)
            return
        if accept:
            library = review_state.library
            drafts = [
                (Draft(p.number, library[p.number].caption.digest, p.text, p.provenance), p.path) for p in proposals
            ]
            done = await asyncio.to_thread(review_state.edits.accept_proposals, drafts, tab_id=tab.tab_id)
        else:
            declined = [(proposal.number, proposal.path) for proposal in proposals]
            done = await asyncio.to_thread(review_state.edits.decline_proposals, declined, tab_id=tab.tab_id)
        tab.notify(done)
        if tab.selection.selected or done.refused or tab.query.state != "recaptioned":
            tab.show(tab.selection.current)
        else:
            tab.seek(1, lambda entry: entry.number in review_state.proposals)

    async def trash(self) -> None:
        tab = self._tab
        numbers = tab.selection.selected_or_current()
        tab.notify(await asyncio.to_thread(tab.review_state.edits.trash, numbers, tab_id=tab.tab_id))

    async def undo_or_redo(self, action: Callable[[str], EditResult | None], message: str) -> None:
        tab = self._tab
        done = await asyncio.to_thread(action, tab.tab_id)
        if done is None:
            ui.notify(message)
            tab.show(tab.selection.current)
            return
        tab.drafts.unsaved = None
        tab.notify(done)
        await asyncio.sleep(0)  # restored items are listed by then
        there = [number for number in done.numbers if number in tab.selection]
        tab.show(there[0] if there else tab.selection.current)
