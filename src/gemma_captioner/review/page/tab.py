"""One browser tab: its items, navigation and selection. saving.py saves edits; actions.py holds the other commands."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from ...errors import UsageError
from ...text import encodable
from ..changes import Draft, EditResult
from ..edits import Shown
from ..library import CaptionText, ReviewItem
from ..query import Query, filter_items
from ..terms import highlighted
from ..totals import Totals
from .components import CaptionEditor, Gallery, Keys, Tile, tile
from .detail import Detail
from .drafts import Drafts
from .keys import NAVIGATION_COMMANDS, OPENING_COMMANDS
from .progress import ProgressBar
from .review_state import ReviewState
from .selection import Selection


class ReviewTab:
    """Built for each load of the page; `open` fills it once the browser has connected."""

    def __init__(self, review_state: ReviewState) -> None:
        self.review_state = review_state
        self.tab_id = ""  # identifies the browser tab, also after a reload
        self.query = Query()
        self.selection = Selection()
        self.drafts = Drafts(review_state.library, review_state.edits, rebase=self._rebase)
        self.columns = 4
        self.changes = 0  # number of change notifications
        self.is_open = False
        self.is_selecting = False  # whether a plain click toggles the selection, for fingers
        self._digests: dict[int, str | None] = {}  # item number -> digest of the caption that the browser was sent
        self._sent_texts: set[int] = set()  # items whose captions the gallery shows
        self.rejected: tuple[Query, str] | None = None  # the latest query, if it is invalid, and why
        self._sizes_shown = 0  # number of sizes that were known when the query was applied
        self._totals = -1, Totals.of(())  # and the number of changes when they were counted
        self.shown_proposals: dict[int, str | None] = {}  # item number -> digest of the proposal that it was sent
        self.on_view: list[Callable[[], None]] = []  # called when the shown items or their state change
        self.command_lock = asyncio.Lock()  # commands run one after another, however fast the keys are
        self.gallery: Gallery
        self.detail: Detail
        self.progress: ProgressBar
        self.keys: Keys
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
            "provenance": lambda: self.detail.toggle_provenance(),
            "select": self.toggle,
            "select_next": lambda: self.extend(1),
            "select_previous": lambda: self.extend(-1),
            "select_all": lambda: self.select(set(self.selection.shown)),
            "selecting": self.toggle_selecting,
            "deselect": self.deselect,
            "clear": self.clear,
            "larger": lambda: self.gallery.resize(1),
            "smaller": lambda: self.gallery.resize(-1),
            "list": lambda: self.gallery.toggle_list(),
            "show_all": lambda: self.apply_query(self.query.without_filters()),
            "refresh": self.refresh,
        }

    def open(self, tab_id: str) -> None:
        """The browser has connected. A reloaded tab restores its query and its current item."""
        self.tab_id, self.is_open = tab_id, True
        view = self.review_state.saved_views.get(tab_id, (Query(), None, frozenset()))
        self.query, self.selection.current, self.selection.selected = view
        self.review_state.tabs.append(self)
        self.apply_query(self.query)

    async def save_unsaved(self) -> None:
        """The browser has disconnected: save the drafts, unless the captions on disk have changed."""
        for draft in list(self.drafts.unsaved.values()):
            await self.drafts.save(draft, tab_id=self.tab_id)

    def close(self) -> None:
        self.is_open = False
        self.review_state.unsaved += self.drafts.unsaved.values()
        self.review_state.tabs.remove(self)

    @property
    def editor(self) -> CaptionEditor:
        return self.detail.editor

    # Display

    def apply_query(self, query: Query, *, automatic: bool = False) -> None:
        """Show the items that match. An invalid query is explained; the shown items stay.

        automatic: not requested by the user, so the current item stays if it matches or has unsaved text.
        """
        review_state = self.review_state
        try:
            entries = filter_items(review_state.library.present(), query, review_state.filter_context())
        except UsageError as error:
            self.rejected = query, str(error)
            self._notify_view()
            return
        self.rejected = None
        if query.needs_sizes:
            review_state.require_sizes()
        selection, is_other = self.selection, query != self.query
        self.query = query
        selection.show([entry.number for entry in entries])
        self.gallery.show([self.tile(entry) for entry in entries])
        self.gallery.highlight_words([encodable(word) for word in highlighted(query.terms)])
        self.select(selection.selected)
        if automatic and (selection.current in selection or self.drafts.has_unsaved(selection.current)):
            return
        selection.reselect_hidden(first=is_other)
        self.show(selection.current)

    def empty_message(self) -> str:
        if not self.tab_id:
            return "Loading"
        if self.query.is_filter:
            return "No item matches the filter. Press Esc to clear it."
        hint = "" if self.review_state.settings.selection.recursive else ". Use --recursive to include subfolders"
        folder = self.review_state.library.root.folder
        return f"No images or clips in {folder}{hint}. Files that you add appear here. Then start a run."

    def tile(self, entry: ReviewItem) -> Tile:
        self._digests[entry.number] = entry.caption.digest
        if proposal := self.review_state.proposals.of(entry.number):
            self.shown_proposals[entry.number] = proposal.digest
        return tile(entry, has_proposal=proposal is not None)

    def totals(self) -> Totals:
        """Return the numbers of the whole folder. They are counted once after each change."""
        if self._totals[0] != self.changes:
            self._totals = self.changes, Totals.of(self.review_state.library.present())
        return self._totals[1]

    def entry(self) -> ReviewItem | None:
        current = self.selection.current
        return None if current is None else self.review_state.library[current]

    def changed(self, numbers: set[int]) -> None:
        self.changes += 1
        library, selection = self.review_state.library, self.selection
        is_new = any(number not in selection and library[number].exists for number in numbers)
        gone = any(number in selection and not library[number].exists for number in numbers)
        if gone or (is_new and not self.query.is_filter):
            self.apply_query(self.query, automatic=True)
        else:
            self.gallery.patch([self.tile(library[number]) for number in numbers if number in selection])
        self.send_captions(numbers & self._sent_texts)
        if selection.current in numbers:
            self.redisplay()
        self._notify_view()

    def send_captions(self, numbers: Iterable[int]) -> None:
        """Send captions to the gallery, and from then on each change of them."""
        library = self.review_state.library
        known = [number for number in numbers if 0 <= number < len(library.entries)]
        self._sent_texts.update(known)
        self._digests.update((number, library[number].caption.digest) for number in known)
        self.gallery.fill((library[number], self.drafts.unsaved.get(number)) for number in known)

    def _rebase(self, draft: Draft, caption: CaptionText) -> None:
        self.editor.rebase(draft, caption)
        self.gallery.rebase(draft, caption)

    def refresh_text(self) -> None:
        self.detail.caption.refresh_text()

    def redisplay(self) -> None:
        """Display the current item again. Unsaved text stays in the editor."""
        self.detail.show(self.entry(), fill=not self.drafts.has_unsaved(self.selection.current))

    def _notify_view(self) -> None:
        selection = self.selection
        self.review_state.saved_views[self.tab_id] = self.query, selection.current, selection.selected
        for listener in self.on_view:
            listener()

    # Navigation

    def show(self, number: int | None) -> None:
        self.selection.current = number
        self.drafts.editor_refilled()
        self.gallery.highlight(number)
        draft = None if number is None else self.drafts.unsaved.get(number)
        self.detail.show(self.entry(), fill=True, draft=draft)
        self._notify_view()

    def step(self, offset: int) -> None:
        self._move(offset, self.selection.step)

    def extend(self, offset: int) -> None:
        if self.selection.current is not None:
            self._move(offset, self.selection.extend)
            self.select(self.selection.selected)

    def _move(self, offset: int, action: Callable[[int], None]) -> None:
        selection, before = self.selection, self.selection.current
        action(offset)
        if not selection.shown:
            return
        if abs(offset) == 1 and selection.current == before:
            ui.notify(
                "this is the last item" if offset > 0 else "this is the first item",
                timeout=1200,
                position="bottom-left",
            )
        self.show(selection.current)

    def seek(
        self, direction: int, matches: Callable[[ReviewItem], bool], message: str = "no shown item matches"
    ) -> None:
        """Go to the next item that matches, wrapping around."""
        if not self.selection.seek(direction, lambda number: matches(self.review_state.library[number])):
            ui.notify(message, position="bottom-left")
        self.show(self.selection.current)

    # Selection

    def select(self, numbers: set[int]) -> None:
        self.selection.selected = numbers
        self.gallery.select(numbers, is_selecting=self.is_selecting)
        self._notify_view()

    async def pick(self, event: GenericEventArguments) -> None:
        """A tile was clicked, perhaps with Shift (select a range) or Ctrl (toggle)."""
        number, shift, ctrl = (event.args[key] for key in ("number", "shift", "ctrl"))
        with self.navigating():
            async with self.command_lock:
                if number in self.selection:
                    self.selection.pick(number, shift=shift, ctrl=ctrl or self.is_selecting)
                    self.select(self.selection.selected)
                    self.show(number)

    def toggle(self) -> None:
        self.selection.toggle()
        self.select(self.selection.selected)

    def toggle_selecting(self) -> None:
        self.is_selecting = not self.is_selecting
        self.select(self.selection.selected)

    def deselect(self) -> None:
        self.is_selecting = False
        self.select(set())

    def clear(self) -> None:
        """Clear the selection, else one filter."""
        if self.selection.selected or self.is_selecting:
            self.deselect()
        elif self.query.is_filter:
            self.apply_query(self.query.without_one_filter())

    # Edits

    def shown(self, numbers: list[int]) -> list[Shown]:
        """Return the items with the digests of the captions that this tab was last sent."""
        return [(number, self._digests.get(number)) for number in numbers]

    async def run_edit(self, edit: Callable[..., EditResult | None], *arguments: Any, count: int, **named: Any) -> Any:
        """Run an edit of `count` items in a thread. Call it with the command lock."""
        work = partial(edit, *arguments, tab_id=self.tab_id, **named)
        return await self.progress.run(lambda progress: work(progress=progress), count)

    def notify(self, done: EditResult) -> None:
        """Notify the user of changes (briefly) and of refusals (longer)."""
        if done.numbers:
            ui.notify(done.summary, timeout=1200, position="bottom-left")
        for number, reason in list(done.refused.items())[:3]:
            ui.notify(
                f"{self.review_state.library[number].name}: {reason}", type="warning", timeout=8000, close_button="OK"
            )
        if more := max(0, len(done.refused) - 3):
            ui.notify(f"{more:,} more not changed", type="warning", timeout=8000)
        if done.left:
            ui.notify(f"ended early: {done.left:,} items stay as they were", type="warning", timeout=8000)

    async def on_command(self, event: GenericEventArguments) -> None:
        """Run the command of a key or a button. The browser names the caption that it shows at that moment."""
        name, number, base, proposal = (event.args[key] for key in ("name", "number", "base", "proposal"))
        try:
            with self.navigating(name in NAVIGATION_COMMANDS):
                async with self.command_lock:
                    if number is not None:
                        self._digests[int(number)] = self.drafts.rebased(Draft(int(number), base, "")).base
                        self.shown_proposals[int(number)] = proposal
                    await self._run(name)
        finally:
            if name in OPENING_COMMANDS:
                self.keys.opened()

    @contextmanager
    def navigating(self, moves: bool = True) -> Iterator[None]:
        """Unlock the editor at the end. It accepts no input while a navigation command is pending."""
        try:
            yield
        finally:
            if moves:
                self.arrived()

    def arrived(self) -> None:
        """Confirm one change of the shown items, for which the browser has locked the editor."""
        self.editor.arrived()
        self.gallery.arrived()

    async def command(self, name: str) -> None:
        async with self.command_lock:
            await self._run(name)

    async def _run(self, name: str) -> None:
        if isinstance(result := self.commands[name](), Awaitable):
            await result

    def filter_by(self, **changes: Any) -> None:
        """Change fields of the query, or its terms: filter_by(flag="too_long")."""
        query = self.query
        for name, value in changes.items():
            is_field = name in Query.__dataclass_fields__
            query = replace(query, **{name: value}) if is_field else query.with_term(name, value)
        self.apply_query(query)

    def refresh_sizes(self) -> None:
        """Apply the query again if it is about sizes and more of them are known. Called on a timer."""
        review_state, known = self.review_state, len(self.review_state.sizes.known)
        if not self.query.needs_sizes or known == self._sizes_shown:
            return
        if review_state.reading_sizes is None or known >= 2 * self._sizes_shown:
            self._sizes_shown = known
            self.apply_query(self.query, automatic=True)

    def refresh(self) -> None:
        if self.query.needs_sizes:
            self.review_state.sizes.forget()
            self._sizes_shown = 0
        self.apply_query(self.query)
