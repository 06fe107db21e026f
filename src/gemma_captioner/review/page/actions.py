"""Commands on the current item or the selection: decisions, proposals, the trash, undo."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import ui

from ..changes import Draft, EditConflictError, EditResult
from ..decisions import Decision

if TYPE_CHECKING:
    from .tab import ReviewTab

_UNSAVED = "its text in the box is not saved: press e, then Ctrl+Enter to save and approve it, or Esc to drop it"


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
            "undo": lambda: self.undo_or_redo(edits.undo, edits.next_undo, "nothing to undo"),
            "redo": lambda: self.undo_or_redo(edits.redo, edits.next_redo, "nothing to redo"),
        }

    async def decide(self, decision: Decision | None) -> None:
        tab = self._tab
        numbers, single = tab.selection.selected_or_current(), not tab.selection.selected
        edits = tab.review_state.edits
        refused = {n: _UNSAVED for n in numbers if decision is not None and tab.drafts.has_unsaved(n)}
        shown = tab.shown([number for number in numbers if number not in refused])
        done = await tab.run_edit(edits.decide, shown, decision, count=len(shown))
        done = replace(done, refused=refused | done.refused)
        tab.notify(done)
        if single and decision is not None and not done.refused:
            tab.step(1)
        else:
            tab.show(tab.selection.current)

    async def resolve_proposal(self, *, accept: bool) -> None:
        """Accept or decline the proposals of the selection or of the current item."""
        tab, review_state = self._tab, self._tab.review_state
        proposals, replaced = [], {}
        for number in tab.selection.selected_or_current():
            try:
                proposal = review_state.proposals.unless_replaced(number, tab.shown_proposals.get(number))
                proposals += [proposal] if proposal else []
            except EditConflictError as error:
                replaced[number] = str(error)
        if not proposals and not replaced:
            ui.notify("there is no new caption: press c to request one")
            tab.show(tab.selection.current)
            return
        if accept:
            bases = dict(tab.shown([proposal.number for proposal in proposals]))
            drafts = [(Draft(p.number, bases[p.number], p.text, p.provenance), p.path) for p in proposals]
            done = await tab.run_edit(review_state.edits.accept_proposals, drafts, count=len(drafts))
        else:
            declined = [(proposal.number, proposal.path) for proposal in proposals]
            done = await tab.run_edit(review_state.edits.decline_proposals, declined, count=len(declined))
        done = replace(done, refused=replaced | done.refused)
        tab.notify(done)
        if tab.selection.selected or done.refused:
            tab.show(tab.selection.current)
        else:
            tab.seek(1, lambda entry: entry.number in review_state.proposals, message="that was the last new caption")

    async def trash(self) -> None:
        tab = self._tab
        numbers = tab.selection.selected_or_current()
        tab.notify(await tab.run_edit(tab.review_state.edits.trash, numbers, count=len(numbers)))

    async def undo_or_redo(
        self, action: Callable[..., EditResult | None], count: Callable[[str], int], message: str
    ) -> None:
        tab = self._tab
        done = await tab.run_edit(action, count=count(tab.tab_id))
        if done is None:
            ui.notify(message)
            tab.show(tab.selection.current)
            return
        tab.notify(done)
        await asyncio.sleep(0)  # restored items are listed by then
        there = [number for number in done.numbers if number in tab.selection]
        tab.show(there[0] if there else tab.selection.current)
