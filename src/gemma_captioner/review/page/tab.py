"""One browser tab: its items, navigation, and saving of edits. actions.py holds the other commands."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from ...errors import UsageError
from ..edits import Draft, EditResult
from ..library import ReviewItem
from ..query import Query, filter_items
from .components import CaptionEditor, Gallery, Tile, tile
from .conflict import resolve_conflict
from .detail import Detail
from .drafts import Drafts
from .keys import NAVIGATION_COMMANDS
from .review_state import ReviewState
from .selection import Selection


class ReviewTab:
    """Built for each load of the page; `open` fills it once the browser has connected."""

    def __init__(self, review_state: ReviewState) -> None:
        self.review_state = review_state
        self.tab_id = ""  # identifies the browser tab, also after a reload
        self.query = Query()
        self.selection = Selection()
        self.drafts = Drafts(
            review_state.library, review_state.edits, rebase=lambda draft, caption: self.editor.rebase(draft, caption)
        )
        self.columns = 4
        self.changes = 0  # number of change notifications
        self.on_view: list[Callable[[], None]] = []  # called when the shown items or their state change
        self._command_lock = asyncio.Lock()  # commands run one after another, however fast the keys are
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
            "refresh": lambda: self.apply_query(self.query),
        }

    def open(self, tab_id: str) -> None:
        """The browser has connected. A reloaded tab restores its query and its current item."""
        self.tab_id = tab_id
        self.query, self.selection.current = self.review_state.saved_views.get(tab_id, (Query(), None))
        self.review_state.tabs.append(self)
        self.apply_query(self.query)

    async def save_unsaved(self) -> None:
        """The browser has disconnected: save the draft, unless the caption on disk has changed."""
        if (draft := self.drafts.unsaved) is not None:
            await self.drafts.save(draft, tab_id=self.tab_id)

    def close(self) -> None:
        self.review_state.unsaved += [self.drafts.unsaved] if self.drafts.unsaved else []
        self.review_state.tabs.remove(self)
        self.review_state.saved_views[self.tab_id] = self.query, self.selection.current

    @property
    def editor(self) -> CaptionEditor:
        return self.detail.editor

    # Display

    def apply_query(self, query: Query, *, automatic: bool = False) -> None:
        """Show the items that match. An invalid query causes a notification.

        automatic: not requested by the user, so the current item stays if it matches or has unsaved text.
        """
        try:
            entries = filter_items(self.review_state.library.present(), query, self.review_state.proposals)
        except UsageError as error:
            ui.notify(str(error), type="warning")
            return
        self.query = query
        selection = self.selection
        selection.show([entry.number for entry in entries])
        self.gallery.show([self.tile(entry) for entry in entries])
        self.select(selection.selected)
        if automatic and (selection.current in selection or self.drafts.has_unsaved(selection.current)):
            return
        selection.reselect_hidden()
        self.show(selection.current)

    def empty_message(self) -> str:
        if not self.tab_id:
            return "Loading"
        if self.query.is_filter:
            return "No item matches the filter. Press Esc to show all."
        hint = "" if self.review_state.settings.selection.recursive else ". Use --recursive to include subfolders"
        return f"No images or clips in {self.review_state.library.root.folder}{hint}"

    def tile(self, entry: ReviewItem) -> Tile:
        return tile(entry, has_proposal=entry.number in self.review_state.proposals)

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
        if selection.current in numbers:
            self._show_changed()
        self._notify_view()

    def _show_changed(self) -> None:
        """Redisplay the current item. Unsaved text stays in the editor."""
        self.detail.show(self.entry(), fill=not self.drafts.has_unsaved(self.selection.current))

    def _notify_view(self) -> None:
        for listener in self.on_view:
            listener()

    # Navigation

    def show(self, number: int | None) -> None:
        self.selection.current = number
        self.drafts.editor_refilled()
        self.gallery.highlight(number)
        self.detail.show(self.entry(), fill=True)
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

    def seek(self, direction: int, matches: Callable[[ReviewItem], bool]) -> None:
        """Go to the next item that matches, wrapping around."""
        if not self.selection.seek(direction, lambda number: matches(self.review_state.library[number])):
            ui.notify("no shown item matches")
        self.show(self.selection.current)

    # Selection

    def select(self, numbers: set[int]) -> None:
        self.selection.selected = numbers
        self.gallery.select(numbers)
        self._notify_view()

    async def pick(self, event: GenericEventArguments) -> None:
        """A tile was clicked, perhaps with Shift (select a range) or Ctrl (toggle)."""
        number, shift, ctrl = (event.args[key] for key in ("number", "shift", "ctrl"))
        with self._navigating():
            async with self._command_lock:
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
        elif self.query.is_filter:
            self.apply_query(Query(sort=self.query.sort, is_reversed=self.query.is_reversed))

    # Edits

    async def on_draft(self, event: GenericEventArguments) -> None:
        draft = _draft(event.args)
        self.drafts.on_typed(draft)
        self.detail.show_length(draft.text)

    async def on_unsent_draft(self, event: GenericEventArguments) -> None:
        """Save text that was typed while the server was unreachable, before the page was reloaded."""
        name, base, text = (event.args[key] for key in ("name", "base", "text"))
        number = next((entry.number for entry in self.review_state.library.present() if entry.name == name), None)
        if number is not None:
            await self._restore_draft(Draft(number, base, text))

    async def restore_drafts(self) -> None:
        """Show the drafts that closed tabs could not save."""
        while self.review_state.unsaved:
            await self._restore_draft(self.review_state.unsaved.pop())

    async def _restore_draft(self, draft: Draft) -> None:
        async with self._command_lock:
            self.show(draft.number)
            self.drafts.unsaved = draft
            await self.save_draft(draft)

    async def save(self, event: GenericEventArguments) -> None:
        draft, approve = _draft(event.args), event.args["how"] == "approve"
        self.drafts.unsaved = draft
        with self._navigating(approve):
            async with self._command_lock:
                draft = self.drafts.rebased(draft)
                done = await self.save_draft(draft, approve=approve)
                if approve and not done.refused and self.selection.current == draft.number:
                    self.step(1)

    async def _resolve_conflict(self, draft: Draft, reason: str, *, approve: bool) -> None:
        """Ask which text to keep. The journal keeps an overwritten one."""
        entry = self.review_state.library[draft.number]
        keeps_draft = await resolve_conflict(entry, draft, reason)
        self.drafts.unsaved = None
        if keeps_draft:
            await self.save_draft(replace(draft, base=entry.caption.digest), approve=approve)
        elif self.selection.current == draft.number:
            self.editor.drop()
            self.detail.show(entry, fill=True)

    async def save_draft(self, draft: Draft, *, approve: bool = False) -> EditResult:
        done = await self.drafts.save(draft, tab_id=self.tab_id, approve=approve)
        if done.refused:
            await self._resolve_conflict(draft, done.refused[draft.number], approve=approve)
            return done
        if self.selection.current == draft.number:
            self._show_changed()
        if done.numbers:
            self.notify(done)
        return done

    async def run_bulk(self, work: Callable[..., EditResult], *arguments: Any, **named: Any) -> None:
        """Run a slow edit of many items after the commands before it."""
        async with self._command_lock:
            working = ui.notification("Applying the changes", spinner=True, timeout=None, position="bottom-left")
            done = await asyncio.to_thread(work, *arguments, tab_id=self.tab_id, **named)
            working.dismiss()
            self.notify(done)
            self.show(self.selection.current)

    def notify(self, done: EditResult) -> None:
        """Notify the user of changes (briefly) and of refusals (longer)."""
        if done.numbers:
            ui.notify(done.summary, timeout=1200, position="bottom-left")
        for number, reason in list(done.refused.items())[:3]:
            ui.notify(
                f"{self.review_state.library[number].name}: {reason}", type="warning", timeout=8000, close_button="OK"
            )
        if more := max(0, len(done.refused) - 3) + done.left:
            ui.notify(f"{more:,} more not changed", type="warning", timeout=8000)

    async def on_command(self, event: GenericEventArguments) -> None:
        """Run the command of a key or a button."""
        with self._navigating(event.args in NAVIGATION_COMMANDS):
            await self.command(event.args)

    @contextmanager
    def _navigating(self, moves: bool = True) -> Iterator[None]:
        """Unlock the editor at the end. It accepts no input while a navigation command is pending."""
        try:
            yield
        finally:
            if moves:
                self.editor.arrived()

    async def command(self, name: str) -> None:
        async with self._command_lock:
            if isinstance(result := self.commands[name](), Awaitable):
                await result

    def filter_by(self, **changes: Any) -> None:
        self.apply_query(replace(self.query, **changes))


def _draft(payload: dict[str, Any]) -> Draft:
    return Draft(int(payload["number"]), payload["base"], str(payload["text"]))
