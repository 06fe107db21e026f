"""What is typed in one tab and not saved yet. Knows nothing of the browser."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from ..edits import Draft, EditResult, Edits
from ..library import CaptionText, Library


class Drafts:
    """A draft says which words it starts from (its base), and is refused where others stand there by now.

    The box goes on sending the old base until it has heard that a draft was saved. Such a draft, too, starts from the
    words that were saved: `save` knows that, until the box is filled anew.
    """

    def __init__(self, library: Library, edits: Edits, rebase: Callable[[Draft, CaptionText], None]) -> None:
        """rebase: tells the box that the draft was saved, as these words."""
        self.unsaved: Draft | None = None
        self._library = library
        self._edits = edits
        self._rebase = rebase
        self._saved_over: tuple[int, str | None] | None = None  # number and base of the draft that was saved last
        self._saved_as: str | None = None  # the base that its words are

    def typed(self, draft: Draft) -> None:
        self.unsaved = None if draft.text == self._library[draft.number].words.text else draft

    def holds(self, number: int | None) -> bool:
        """Whether words of this item would be lost if the box were filled anew."""
        return self.unsaved is not None and self.unsaved.number == number

    def box_filled(self) -> None:
        """What is typed from now on starts from what the box shows."""
        self._saved_over = None

    def rebased(self, draft: Draft) -> Draft:
        """From the words that were saved last, where the box had not heard of that yet."""
        return replace(draft, base=self._saved_as) if self._saved_over == (draft.number, draft.base) else draft

    async def save(self, draft: Draft, *, by: str, approve: bool = False) -> EditResult:
        """What was typed meanwhile stays unsaved, and starts from it. A draft that is refused stays as it is."""
        if approve:
            done = await asyncio.to_thread(self._edits.save_and_approve, draft, by=by)
        else:
            done = await asyncio.to_thread(self._edits.save, [draft], by=by)
        if not done.refused:
            self._was_saved(draft)
        return done

    def _was_saved(self, draft: Draft) -> None:
        words = self._library[draft.number].words
        if words.text.split() == draft.text.split():  # nobody has written there since
            self._saved_over, self._saved_as = (draft.number, draft.base), words.digest
            self._rebase(draft, words)
        if self.unsaved is not None:
            is_all = (self.unsaved.number, self.unsaved.text) == (draft.number, draft.text)
            self.unsaved = None if is_all else self.rebased(self.unsaved)
