"""One browser tab: what it shows, which item is in front, what is selected, and what each command does."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from ...errors import UsageError
from ..decisions import Decision
from ..edits import Done, Draft
from ..library import Entry
from ..query import Query, chosen
from .components import Box, Gallery, Tile
from .conflict import choose_mine
from .desk import Desk
from .detail import Detail
from .keys import MOVES

_NEVER = (-1, None), None


class ReviewTab:
    """Built once for each load of the page; `open` fills it when the browser is there."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.who = ""  # the browser's tab: the same after it was loaded anew
        self.query = Query()
        self.shown: list[int] = []
        self.current: int | None = None
        self.selected: set[int] = set()
        self.columns = 4
        self.draft: Draft | None = None  # what stands in the box and is not saved
        self._since: tuple[tuple[int, str | None], str | None] = _NEVER  # (number, base) of what was saved, new base
        self.changes = 0  # that were heard of
        self._place = 0  # of what was in front, where it is not shown any more
        self.on_view: list[Callable[[], None]] = []  # told when what is shown, or of it, has changed
        self._places: dict[int, int] = {}
        self._turn = asyncio.Lock()  # a key acts on what the key before it led to, however fast they come
        self._anchor: int | None = None  # where a selection with Shift begins
        self.gallery: Gallery
        self.detail: Detail
        self.commands: dict[str, Callable[[], Any]] = {
            "next": lambda: self.step(1),
            "previous": lambda: self.step(-1),
            "down": lambda: self.step(self.columns),
            "up": lambda: self.step(-self.columns),
            "first": lambda: self.step(-len(self.shown)),
            "last": lambda: self.step(len(self.shown)),
            "next_flagged": lambda: self.seek(1, lambda entry: bool(entry.flags)),
            "previous_flagged": lambda: self.seek(-1, lambda entry: bool(entry.flags)),
            "next_open": lambda: self.seek(1, lambda entry: entry.decision is None),
            "play": lambda: self.detail.play(),
            "provenance": lambda: self.detail.toggle_provenance(),
            "approve": lambda: self.decide("approved"),
            "reject": lambda: self.decide("rejected"),
            "reopen": lambda: self.decide(None),
            "trash": self.trash,
            "undo": lambda: self.go_back(self.desk.edits.undo, "nothing to undo"),
            "redo": lambda: self.go_back(self.desk.edits.redo, "nothing to do again"),
            "select": self.toggle,
            "select_next": lambda: self.extend(1),
            "select_previous": lambda: self.extend(-1),
            "select_all": lambda: self.select(set(self.shown)),
            "clear": self.clear,
            "accept": lambda: self.settle_offer(takes=True),
            "keep": lambda: self.settle_offer(takes=False),
            "refresh": lambda: self.look_for(self.query),
        }

    def open(self, who: str) -> None:
        """The browser is there. A tab that was loaded anew shows what it showed before."""
        self.who = who
        self.query, self.current = self.desk.places.get(who, (Query(), None))
        self.desk.tabs.append(self)
        self.look_for(self.query)

    async def keep_draft(self) -> None:
        """The browser is out of reach: what was typed and not saved is saved, unless somebody else wrote there."""
        if (draft := self.draft) is not None:
            done = await self.desk.do(self.desk.edits.save, [draft], by=self.who)
            if not done.refused:
                self._saved(draft)

    def leave(self) -> None:
        self.desk.unsaved += [self.draft] if self.draft else []
        self.desk.tabs.remove(self)
        self.desk.places[self.who] = self.query, self.current

    @property
    def box(self) -> Box:
        return self.detail.box

    # What is shown

    @property
    def place(self) -> int:
        """Of the item in front, among those shown."""
        return self._places.get(-1 if self.current is None else self.current, self._place)

    def look_for(self, query: Query, *, by_itself: bool = False) -> None:
        """Show what the query finds. Raises nothing: what is wrong with it is told.

        by_itself: nobody asked. What is in front stays there, as long as it is among them or is being edited.
        """
        try:
            entries = chosen(self.desk.library.present(), query, self.desk.proposals)
        except UsageError as error:
            ui.notify(str(error), type="warning")
            return
        place = self._place = self.place
        self.query = query
        self.shown = [entry.number for entry in entries]
        self._places = {number: place for place, number in enumerate(self.shown)}
        self.gallery.show([self.tile(entry) for entry in entries])
        self.select(self.selected & self._places.keys())
        if by_itself and (self.current in self._places or not self.box_is_free()):
            return
        if self.current not in self._places:
            self.current = self.shown[min(place, len(self.shown) - 1)] if self.shown else None
        self.show(self.current)

    def why_nothing(self) -> str:
        if not self.who:
            return "Loading"
        if self.query.narrows:
            return "Nothing matches. Esc shows all."
        deeper = "" if self.desk.settings.selection.recursive else ". With --recursive its folders are looked into"
        return f"No images or clips in {self.desk.library.root.folder}{deeper}"

    def tile(self, entry: Entry) -> Tile:
        marks = (
            ("c", entry.item.kind == "clip"),
            ("a", entry.decision == "approved"),
            ("r", entry.decision == "rejected"),
            ("f", bool(entry.flags)),
            ("n", entry.words.digest is None),
            ("p", entry.number in self.desk.proposals),
            ("e", entry.fault is not None or entry.failure is not None),
        )
        return entry.number, entry.name, "".join(mark for mark, is_so in marks if is_so)

    def entry(self) -> Entry | None:
        return None if self.current is None else self.desk.library[self.current]

    def changed(self, numbers: set[int]) -> None:
        self.changes += 1
        library = self.desk.library
        is_new = any(number not in self._places and library[number].is_there for number in numbers)
        gone = any(number in self._places and not library[number].is_there for number in numbers)
        if gone or (is_new and not self.query.narrows):
            self.look_for(self.query, by_itself=True)
        else:
            self.gallery.patch([self.tile(library[number]) for number in numbers if number in self._places])
        if self.current in numbers:
            self.detail.show(self.entry(), self.box_is_free())
        self._tell()

    def box_is_free(self) -> bool:
        """Whether the box may be filled anew: nothing that was typed would be lost."""
        draft = self.draft
        return draft is None or draft.number != self.current

    def _tell(self) -> None:
        for listener in self.on_view:
            listener()

    # Going about

    def show(self, number: int | None) -> None:
        self.current, self._since = number, _NEVER
        self.gallery.point(number)
        self.detail.show(self.entry(), fill=True)
        self._tell()

    def step(self, by: int) -> None:
        if not self.shown:
            return
        by -= by > 0 and self.current not in self._places  # another one has its place by now
        to = min(max(self.place + by, 0), len(self.shown) - 1)
        if abs(by) == 1 and self.shown[to] == self.current:
            ui.notify("the last one" if by > 0 else "the first one", timeout=1200, position="bottom-left")
        self.show(self.shown[to])

    def seek(self, direction: int, wanted: Callable[[Entry], bool]) -> None:
        """To the next that is wanted, and from the end on from the beginning."""
        around = [self.shown[(self.place + direction * n) % len(self.shown)] for n in range(1, len(self.shown) + 1)]
        found = next((number for number in around if wanted(self.desk.library[number])), None)
        if found is None:
            ui.notify("none of these is shown")
        self.show(self.current if found is None else found)

    # Selecting

    def select(self, numbers: set[int]) -> None:
        self.selected = numbers
        self.gallery.select(numbers)
        self._tell()

    async def pick(self, event: GenericEventArguments) -> None:
        """A tile was clicked, perhaps with Shift (all from the last one to it) or Ctrl (it too)."""
        number = event.args["number"]
        with self._moving():
            async with self._turn:
                if number in self._places:
                    self._pick(number, shift=event.args["shift"], ctrl=event.args["ctrl"])

    def _pick(self, number: int, *, shift: bool, ctrl: bool) -> None:
        if shift and (anchor := self._places.get(self._anchor_or_current(), None)) is not None:
            first, last = sorted((anchor, self._places[number]))
            self.select(self.selected | set(self.shown[first : last + 1]))
        elif ctrl:
            self.select(self.selected ^ {number})
            self._anchor = number
        else:
            self._anchor = number
        self.show(number)

    def _anchor_or_current(self) -> int:
        anchor = self._anchor if self._anchor in self._places else self.current
        return -1 if anchor is None else anchor

    def toggle(self) -> None:
        if self.current is not None:
            self._anchor = self.current
            self.select(self.selected ^ {self.current})

    def extend(self, by: int) -> None:
        if self.current is not None:
            before = self.current
            self.step(by)
            self.select(self.selected | {before, self.current})

    def clear(self) -> None:
        if self.selected:
            self.select(set())
        elif self.query.narrows:
            self.look_for(Query(sort=self.query.sort, is_reversed=self.query.is_reversed))

    def aimed_at(self) -> list[int]:
        """What a command for many is about: the selection, or where there is none all that is shown."""
        return [number for number in self.shown if number in self.selected] or list(self.shown)

    def _one_or_many(self) -> list[int]:
        """What a decision is about: the selection, or where there is none the item in front."""
        if self.selected:
            return [number for number in self.shown if number in self.selected]
        return [] if self.current is None else [self.current]

    # Changing

    async def take_draft(self, event: GenericEventArguments) -> None:
        draft = _draft(event.args)
        self.draft = None if draft.text == self.desk.library[draft.number].words.text else draft
        self.detail.count(draft.text)

    async def take_left(self, event: GenericEventArguments) -> None:
        """What was typed while the server was out of reach, before the page had to be loaded anew."""
        name, base, text = (event.args[key] for key in ("name", "base", "text"))
        number = next((entry.number for entry in self.desk.library.present() if entry.name == name), None)
        if number is not None:
            await self._pick_up(Draft(number, base, text))

    async def pick_up(self) -> None:
        """What tabs that are gone could not save."""
        while self.desk.unsaved:
            await self._pick_up(self.desk.unsaved.pop())

    async def _pick_up(self, draft: Draft) -> None:
        async with self._turn:
            self.show(draft.number)
            self.draft = draft
            await self.save_draft(draft)

    def _saved(self, draft: Draft) -> None:
        """What was typed since then starts from it."""
        words = self.desk.library[draft.number].words
        if words.text.split() == draft.text.split():  # nobody has written there since
            self._since = (draft.number, draft.base), words.digest
            self.box.rebase(draft, words)
        if self.draft is not None:
            is_all = (self.draft.number, self.draft.text) == (draft.number, draft.text)
            self.draft = None if is_all else self._rebased(self.draft)

    def _rebased(self, draft: Draft) -> Draft:
        """Sent by the box before it had heard that an earlier one was saved."""
        before, base = self._since
        return replace(draft, base=base) if before == (draft.number, draft.base) else draft

    async def save(self, event: GenericEventArguments) -> None:
        draft, how = _draft(event.args), event.args["how"]
        self.draft = draft
        approves = how == "approve"
        with self._moving(approves):
            async with self._turn:
                draft = self._rebased(draft)
                done = await self.save_draft(draft, approve=approves)
                if approves and not done.refused and self.current == draft.number:
                    self.step(1)

    async def _settle(self, draft: Draft, why: str, *, approve: bool) -> None:
        """What is not chosen is lost from sight, not from the disk: the journal keeps what is overwritten."""
        entry = self.desk.library[draft.number]
        mine = await choose_mine(entry, draft, why)
        self.draft = None
        if mine:
            await self.save_draft(replace(draft, base=entry.words.digest), approve=approve)
        elif self.current == draft.number:
            self.box.drop()
            self.detail.show(entry, fill=True)

    async def save_draft(self, draft: Draft, *, approve: bool = False) -> Done:
        edits = self.desk.edits
        if approve:
            done: Done = await self.desk.do(edits.save_and_approve, draft, by=self.who)
        else:
            done = await self.desk.do(edits.save, [draft], by=self.who)
        if done.refused:
            await self._settle(draft, done.refused[draft.number], approve=approve)
            return done
        self._saved(draft)
        if self.current == draft.number:
            self.detail.show(self.entry(), self.box_is_free())
        if done.numbers:
            self.say(done)
        return done

    async def decide(self, decision: Decision | None) -> None:
        numbers, single = self._one_or_many(), not self.selected
        done = await self.desk.do(self.desk.edits.decide, numbers, decision, by=self.who)
        self.say(done)
        if single and decision is not None and not done.refused:
            self.step(1)
        else:
            self.show(self.current)

    async def settle_offer(self, *, takes: bool) -> None:
        """Of the item in front, or of all those selected: the new caption, or the old one."""
        library, edits = self.desk.library, self.desk.edits
        offers = [offer for number in self._one_or_many() if (offer := self.desk.proposals.of(number))]
        if not offers:
            ui.notify("no new caption is offered")
            self.show(self.current)
            return
        if takes:
            drafts = [(Draft(o.number, library[o.number].words.digest, o.text, o.origin), o.path) for o in offers]
            done = await self.desk.do(edits.take, drafts, by=self.who)
        else:
            done = await self.desk.do(edits.decline, [(o.number, o.path) for o in offers], by=self.who)
        self.say(done)
        if self.selected or done.refused or self.query.state != "recaptioned":
            self.show(self.current)
        else:
            self.seek(1, lambda entry: entry.number in self.desk.proposals)

    async def trash(self) -> None:
        self.say(await self.desk.do(self.desk.edits.trash, self._one_or_many(), by=self.who))

    async def carry_out(self, work: Callable[..., Done], *arguments: Any, **named: Any) -> None:
        """What is done to many, in its turn: it may take a while."""
        async with self._turn:
            working = ui.notification("at work", spinner=True, timeout=None, position="bottom-left")
            done = await self.desk.do(work, *arguments, by=self.who, **named)
            working.dismiss()
            self.say(done)
            self.show(self.current)

    async def go_back(self, way: Callable[[str], Done | None], otherwise: str) -> None:
        done = await self.desk.do(way, self.who)
        if done is None:
            ui.notify(otherwise)
            self.show(self.current)
            return
        self.draft = None
        self.say(done)
        await asyncio.sleep(0)  # what came back is shown by then
        there = [number for number in done.numbers if number in self._places]
        self.show(there[0] if there else self.current)

    def say(self, done: Done) -> None:
        """What was done, for a moment; what was not, until it is read."""
        if done.numbers:
            ui.notify(done.what, timeout=1200, position="bottom-left")
        for number, why in list(done.refused.items())[:3]:
            ui.notify(f"{self.desk.library[number].name}: {why}", type="warning", timeout=8000, close_button="OK")
        if more := max(0, len(done.refused) - 3) + done.left:
            ui.notify(f"and {more:,} more were left alone", type="warning", timeout=8000)

    async def obey(self, event: GenericEventArguments) -> None:
        """A key, or a button that stands for one."""
        with self._moving(event.args in MOVES):
            await self.command(event.args)

    @contextmanager
    def _moving(self, does: bool = True) -> Iterator[None]:
        """Around what leads to another item: until the box has heard that it did, it takes no letters."""
        try:
            yield
        finally:
            if does:
                self.box.arrived()

    async def command(self, name: str) -> None:
        async with self._turn:
            if isinstance(answer := self.commands[name](), Awaitable):
                await answer

    def narrow(self, **changes: Any) -> None:
        self.look_for(replace(self.query, **changes))


def _draft(told: dict[str, Any]) -> Draft:
    return Draft(int(told["number"]), told["base"], str(told["text"]))
