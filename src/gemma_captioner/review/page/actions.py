"""What a key does to the item in front, or to those selected: decisions, offered captions, the trash, undo."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nicegui import ui

from ..decisions import Decision
from ..edits import Done, Draft

if TYPE_CHECKING:
    from .tab import ReviewTab


class Actions:
    """commands: name -> what it does, for the tab's table, which has each wait for the one before it."""

    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        edits = tab.desk.edits
        self.commands: Mapping[str, Callable[[], Any]] = {
            "approve": lambda: self.decide("approved"),
            "reject": lambda: self.decide("rejected"),
            "reopen": lambda: self.decide(None),
            "accept": lambda: self.settle_offer(takes=True),
            "keep": lambda: self.settle_offer(takes=False),
            "trash": self.trash,
            "undo": lambda: self.go_back(edits.undo, "nothing to undo"),
            "redo": lambda: self.go_back(edits.redo, "nothing to do again"),
        }

    async def decide(self, decision: Decision | None) -> None:
        tab = self._tab
        numbers, single = tab.selection.one_or_many(), not tab.selection.selected
        done = await tab.desk.do(tab.desk.edits.decide, numbers, decision, by=tab.who)
        tab.say(done)
        if single and decision is not None and not done.refused:
            tab.step(1)
        else:
            tab.show(tab.selection.current)

    async def settle_offer(self, *, takes: bool) -> None:
        """Of the item in front, or of all those selected: the new caption, or the old one."""
        tab, desk = self._tab, self._tab.desk
        offers = [offer for number in tab.selection.one_or_many() if (offer := desk.proposals.of(number))]
        if not offers:
            ui.notify("no new caption is offered")
            tab.show(tab.selection.current)
            return
        if takes:
            library = desk.library
            drafts = [(Draft(o.number, library[o.number].words.digest, o.text, o.origin), o.path) for o in offers]
            done = await desk.do(desk.edits.take, drafts, by=tab.who)
        else:
            done = await desk.do(desk.edits.decline, [(o.number, o.path) for o in offers], by=tab.who)
        tab.say(done)
        if tab.selection.selected or done.refused or tab.query.state != "recaptioned":
            tab.show(tab.selection.current)
        else:
            tab.seek(1, lambda entry: entry.number in desk.proposals)

    async def trash(self) -> None:
        tab = self._tab
        tab.say(await tab.desk.do(tab.desk.edits.trash, tab.selection.one_or_many(), by=tab.who))

    async def go_back(self, way: Callable[[str], Done | None], otherwise: str) -> None:
        tab = self._tab
        done = await tab.desk.do(way, tab.who)
        if done is None:
            ui.notify(otherwise)
            tab.show(tab.selection.current)
            return
        tab.drafts.unsaved = None
        tab.say(done)
        await asyncio.sleep(0)  # what came back is shown by then
        there = [number for number in done.numbers if number in tab.selection]
        tab.show(there[0] if there else tab.selection.current)
