"""One browser tab: what it shows, going about in it, and saving what is typed. What else a command does: actions.py."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from ...errors import UsageError
from ..edits import Done, Draft
from ..library import Entry
from ..query import Query, chosen
from .components import Box, Gallery, Tile, tile
from .conflict import choose_mine
from .desk import Desk
from .detail import Detail
from .drafts import Drafts
from .keys import MOVES
from .selection import Selection


class ReviewTab:
    """Built once for each load of the page; `open` fills it when the browser is there."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.who = ""  # the browser's tab: the same after it was loaded anew
        self.query = Query()
        self.selection = Selection()
        self.drafts = Drafts(desk.library, desk.edits, rebase=lambda draft, words: self.box.rebase(draft, words))
        self.columns = 4
        self.changes = 0  # that were heard of
        self.on_view: list[Callable[[], None]] = []  # told when what is shown, or of it, has changed
        self._turn = asyncio.Lock()  # a key acts on what the key before it led to, however fast they come
        self.gallery: Gallery
        self.detail: Detail
        self.commands: dict[str, Callable[[], Any]] = {
            "next": lambda: self.step(1),
            "previous": lambda: self.step(-1),
            "down": lambda: self.step(self.columns),
            "up": lambda: self.step(-self.columns),
            "first": lambda: self.step(-len(self.selection.shown)),
            "last": lambda: self.step(len(self.selection.shown)),
            "next_flagged": lambda: self.seek(1, lambda entry: bool(entry.flags)),
            "previous_flagged": lambda: self.seek(-1, lambda entry: bool(entry.flags)),
            "next_open": lambda: self.seek(1, lambda entry: entry.decision is None),
            "play": lambda: self.detail.play(),
            "provenance": lambda: self.detail.toggle_provenance(),
            "select": self.toggle,
            "select_next": lambda: self.extend(1),
            "select_previous": lambda: self.extend(-1),
            "select_all": lambda: self.select(set(self.selection.shown)),
            "clear": self.clear,
            "refresh": lambda: self.look_for(self.query),
        }

    def open(self, who: str) -> None:
        """The browser is there. A tab that was loaded anew shows what it showed before."""
        self.who = who
        self.query, self.selection.current = self.desk.places.get(who, (Query(), None))
        self.desk.tabs.append(self)
        self.look_for(self.query)

    async def keep_draft(self) -> None:
        """The browser is out of reach: what was typed and not saved is saved, unless somebody else wrote there."""
        if (draft := self.drafts.unsaved) is not None:
            await self.drafts.save(draft, by=self.who)

    def leave(self) -> None:
        self.desk.unsaved += [self.drafts.unsaved] if self.drafts.unsaved else []
        self.desk.tabs.remove(self)
        self.desk.places[self.who] = self.query, self.selection.current

    @property
    def box(self) -> Box:
        return self.detail.box

    # What is shown

    def look_for(self, query: Query, *, by_itself: bool = False) -> None:
        """Show what the query finds. Raises nothing: what is wrong with it is told.

        by_itself: nobody asked. What is in front stays there, as long as it is among them or is being edited.
        """
        try:
            entries = chosen(self.desk.library.present(), query, self.desk.proposals)
        except UsageError as error:
            ui.notify(str(error), type="warning")
            return
        self.query = query
        selection = self.selection
        selection.show([entry.number for entry in entries])
        self.gallery.show([self.tile(entry) for entry in entries])
        self.select(selection.selected)
        if by_itself and (selection.current in selection or self.drafts.holds(selection.current)):
            return
        selection.come_into_view()
        self.show(selection.current)

    def why_nothing(self) -> str:
        if not self.who:
            return "Loading"
        if self.query.narrows:
            return "Nothing matches. Esc shows all."
        deeper = "" if self.desk.settings.selection.recursive else ". With --recursive its folders are looked into"
        return f"No images or clips in {self.desk.library.root.folder}{deeper}"

    def tile(self, entry: Entry) -> Tile:
        return tile(entry, is_offered=entry.number in self.desk.proposals)

    def entry(self) -> Entry | None:
        current = self.selection.current
        return None if current is None else self.desk.library[current]

    def changed(self, numbers: set[int]) -> None:
        self.changes += 1
        library, selection = self.desk.library, self.selection
        is_new = any(number not in selection and library[number].is_there for number in numbers)
        gone = any(number in selection and not library[number].is_there for number in numbers)
        if gone or (is_new and not self.query.narrows):
            self.look_for(self.query, by_itself=True)
        else:
            self.gallery.patch([self.tile(library[number]) for number in numbers if number in selection])
        if selection.current in numbers:
            self._show_changed()
        self._tell()

    def _show_changed(self) -> None:
        """The item in front as it is now. What was typed and not saved stays in the box."""
        self.detail.show(self.entry(), fill=not self.drafts.holds(self.selection.current))

    def _tell(self) -> None:
        for listener in self.on_view:
            listener()

    # Going about

    def show(self, number: int | None) -> None:
        self.selection.current = number
        self.drafts.box_filled()
        self.gallery.point(number)
        self.detail.show(self.entry(), fill=True)
        self._tell()

    def step(self, by: int) -> None:
        self._move(by, self.selection.step)

    def extend(self, by: int) -> None:
        if self.selection.current is not None:
            self._move(by, self.selection.extend)
            self.select(self.selection.selected)

    def _move(self, by: int, way: Callable[[int], None]) -> None:
        selection, before = self.selection, self.selection.current
        way(by)
        if not selection.shown:
            return
        if abs(by) == 1 and selection.current == before:
            ui.notify("the last one" if by > 0 else "the first one", timeout=1200, position="bottom-left")
        self.show(selection.current)

    def seek(self, direction: int, wanted: Callable[[Entry], bool]) -> None:
        """To the next that is wanted, and from the end on from the beginning."""
        if not self.selection.seek(direction, lambda number: wanted(self.desk.library[number])):
            ui.notify("none of these is shown")
        self.show(self.selection.current)

    # Selecting

    def select(self, numbers: set[int]) -> None:
        self.selection.selected = numbers
        self.gallery.select(numbers)
        self._tell()

    async def pick(self, event: GenericEventArguments) -> None:
        """A tile was clicked, perhaps with Shift (all from the last one to it) or Ctrl (it too)."""
        number, shift, ctrl = (event.args[key] for key in ("number", "shift", "ctrl"))
        with self._moving():
            async with self._turn:
                if number in self.selection:
                    self.selection.pick(number, shift=shift, ctrl=ctrl)
                    if shift or ctrl:
                        self.select(self.selection.selected)
                    self.show(number)

    def toggle(self) -> None:
        self.selection.toggle()
        self.select(self.selection.selected)

    def clear(self) -> None:
        if self.selection.selected:
            self.select(set())
        elif self.query.narrows:
            self.look_for(Query(sort=self.query.sort, is_reversed=self.query.is_reversed))

    # Changing

    async def take_draft(self, event: GenericEventArguments) -> None:
        draft = _draft(event.args)
        self.drafts.typed(draft)
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
            self.drafts.unsaved = draft
            await self.save_draft(draft)

    async def save(self, event: GenericEventArguments) -> None:
        draft, how = _draft(event.args), event.args["how"]
        self.drafts.unsaved = draft
        approves = how == "approve"
        with self._moving(approves):
            async with self._turn:
                draft = self.drafts.rebased(draft)
                done = await self.save_draft(draft, approve=approves)
                if approves and not done.refused and self.selection.current == draft.number:
                    self.step(1)

    async def _settle(self, draft: Draft, why: str, *, approve: bool) -> None:
        """What is not chosen is lost from sight, not from the disk: the journal keeps what is overwritten."""
        entry = self.desk.library[draft.number]
        mine = await choose_mine(entry, draft, why)
        self.drafts.unsaved = None
        if mine:
            await self.save_draft(replace(draft, base=entry.words.digest), approve=approve)
        elif self.selection.current == draft.number:
            self.box.drop()
            self.detail.show(entry, fill=True)

    async def save_draft(self, draft: Draft, *, approve: bool = False) -> Done:
        done = await self.drafts.save(draft, by=self.who, approve=approve)
        if done.refused:
            await self._settle(draft, done.refused[draft.number], approve=approve)
            return done
        if self.selection.current == draft.number:
            self._show_changed()
        if done.numbers:
            self.say(done)
        return done

    async def carry_out(self, work: Callable[..., Done], *arguments: Any, **named: Any) -> None:
        """What is done to many, in its turn: it may take a while."""
        async with self._turn:
            working = ui.notification("at work", spinner=True, timeout=None, position="bottom-left")
            done = await self.desk.do(work, *arguments, by=self.who, **named)
            working.dismiss()
            self.say(done)
            self.show(self.selection.current)

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
