"""The unsaved texts of one browser tab. Independent of the browser."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from ..changes import Draft, EditResult
from ..edits import Edits
from ..library import CaptionText, Library


class Drafts:
    """Saves drafts. A draft is refused if the caption on disk is no longer its base, the text that it starts from.

    After a save, the editor sends the old base until it receives the new one. `rebased` corrects such drafts, until the
    editor is refilled.
    """

    def __init__(self, library: Library, edits: Edits, rebase: Callable[[Draft, CaptionText], None]) -> None:
        """rebase: called with each saved draft and the text on disk after it."""
        self.unsaved: dict[int, Draft] = {}  # by item number
        self._library = library
        self._edits = edits
        self._rebase = rebase
        self._saved_over: set[tuple[int, str | None]] = set()  # number and base of the saved drafts of one item
        self._saved_as: str | None = None  # the digest of the latest one's text

    def on_typed(self, draft: Draft) -> None:
        if draft.text == self._library[draft.number].caption.text:
            self.unsaved.pop(draft.number, None)
        else:
            self.unsaved[draft.number] = draft

    def has_unsaved(self, number: int | None) -> bool:
        """Whether refilling the editor would lose unsaved text of this item."""
        return number in self.unsaved

    def editor_refilled(self) -> None:
        """The editor was refilled: later drafts start from its text."""
        self._saved_over = set()

    def rebased(self, draft: Draft) -> Draft:
        """Return the draft with the base of the latest save, if the editor sent a base from before that."""
        return replace(draft, base=self._saved_as) if (draft.number, draft.base) in self._saved_over else draft

    async def save(self, draft: Draft, *, tab_id: str, approve: bool = False) -> EditResult:
        """Save a draft. Text typed in the meantime stays unsaved, with a new base. A refused draft stays unchanged."""
        if approve:
            done = await asyncio.to_thread(self._edits.save_and_approve, draft, tab_id=tab_id)
        else:
            done = await asyncio.to_thread(self._edits.save, [draft], tab_id=tab_id)
        if not done.refused:
            self._was_saved(draft)
        return done

    def _was_saved(self, draft: Draft) -> None:
        caption = self._library[draft.number].caption
        if caption.text.split() == draft.text.split():  # no other program has changed the file since
            of_item = {saved for saved in self._saved_over if saved[0] == draft.number}
            self._saved_over, self._saved_as = of_item | {(draft.number, draft.base)}, caption.digest
            self._rebase(draft, caption)
        later = self.unsaved.pop(draft.number, draft)
        if later.text != draft.text:
            self.unsaved[draft.number] = self.rebased(later)
