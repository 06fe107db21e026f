"""The changes that a person makes on the page. Each is written at once, atomically; it is journaled and can be undone.

Each change names the content that it starts from. If another program, tab or person has changed that content, the
change is refused, so nothing is overwritten unseen.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Self

from ..dataset import sidecar, trash
from ..dataset.journal import Journal, JournalRecord, change_record, new_run_id
from ..errors import ItemError, StorageError
from ..text import encodable
from .decisions import Decision
from .guard import CAPTION_SUFFIXES, resolve_inside
from .library import Library, text_of

_MAX_FLAGGED_INLINE = 50  # above this, the background rescan computes the flags


class EditConflictError(ItemError):
    """The content on disk is not what the change starts from."""

    def __init__(self) -> None:
        super().__init__("the caption changed in the meantime: check it, then try again")


def normalize_whitespace(text: str, *, lines: bool = False) -> str:
    """Normalize white space as trainers do: into one line, or with `lines` into several that are not empty.

    # "A cat.\\n It  sits. " -> "A cat. It sits."
    """
    kept = text.splitlines() if lines else [text]
    return "\n".join(line for line in (" ".join(line.split()) for line in kept) if line)


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """Writes or removes a caption. before, after: the bytes of the `.txt`, None for no file."""

    number: int
    before: bytes | None
    after: bytes | None
    provenance: JournalRecord = field(default_factory=dict)  # of a generated caption

    def inverse(self) -> "CaptionChange":
        return CaptionChange(self.number, self.after, self.before)


@dataclass(frozen=True, slots=True)
class DecisionChange:
    """Sets a decision about the text with this digest."""

    number: int
    digest: str | None
    before: Decision | None
    after: Decision | None

    def inverse(self) -> "DecisionChange":
        return DecisionChange(self.number, self.digest, self.after, self.before)


@dataclass(frozen=True)
class _FileMove:
    number: int
    source: Path
    target: Path

    def inverse(self) -> Self:
        return replace(self, source=self.target, target=self.source)


class TrashMove(_FileMove):
    """Moves a media file to the trash or back."""


class ProposalResolution(_FileMove):
    """Renames a proposal's file, which marks it as accepted or declined."""


Change = CaptionChange | DecisionChange | TrashMove | ProposalResolution


@dataclass(frozen=True, slots=True)
class UndoStep:
    """The changes that one undo reverts. summary: their description, "12 approved"."""

    summary: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A caption to save. base: the digest of the text that it starts from, None if there was none."""

    number: int
    base: str | None
    text: str
    provenance: JournalRecord = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EditResult:
    """The outcome of one operation."""

    summary: str  # for the user: "12 approved"
    numbers: tuple[int, ...]  # of the changed items
    refused: dict[int, str]  # item number -> the reason why it was not changed
    disk_full: bool = False  # a full disk ended the operation
    left: int = 0  # items that were not tried after that


PendingChanges = Iterable[tuple[int, Iterator[Change]]]  # (number, a generator that makes the changes and yields each)


class Edits:
    """Thread-safe. `tab_id` identifies the browser tab: undo reverts only the changes of the same tab."""

    def __init__(self, library: Library) -> None:
        self.run_id = new_run_id()
        self._library = library
        self._journal = Journal(self.run_id, {"version": version("gemma-captioner"), "review": True})
        self._undo: dict[str, list[UndoStep]] = defaultdict(list)
        self._redo: dict[str, list[UndoStep]] = defaultdict(list)

    def close(self) -> None:
        self._journal.close()

    def save(self, drafts: Iterable[Draft], *, tab_id: str, summary: str = "saved") -> EditResult:
        """Save the drafts. An empty text removes the `.txt`."""
        return self._record_step(((draft.number, self._save_changes(draft)) for draft in drafts), tab_id, summary)

    def decide(self, numbers: Iterable[int], decision: Decision | None, *, tab_id: str) -> EditResult:
        return self._record_step(
            ((n, self._decision_changes(n, decision)) for n in numbers), tab_id, decision or "reopened"
        )

    def save_and_approve(self, draft: Draft, *, tab_id: str) -> EditResult:
        actions = (self._save_changes(draft), self._decision_changes(draft.number, "approved", is_shown=False))
        return self._record_step(((draft.number, act) for act in actions), tab_id, "saved and approved")

    def accept_proposals(self, proposals: Iterable[tuple[Draft, Path]], *, tab_id: str) -> EditResult:
        """Save proposals as captions. proposals: (the new caption, the file of its proposal)."""
        actions = (
            (draft.number, chain(self._save_changes(draft), self._resolution_changes(draft.number, path)))
            for draft, path in proposals
        )
        return self._record_step(actions, tab_id, "accepted")

    def decline_proposals(self, proposals: Iterable[tuple[int, Path]], *, tab_id: str) -> EditResult:
        return self._record_step(
            ((number, self._resolution_changes(number, path)) for number, path in proposals), tab_id, "declined"
        )

    def trash(self, numbers: Iterable[int], *, tab_id: str) -> EditResult:
        """Move media and captions to `.gemma-captioner/trash/`."""
        return self._record_step(((n, self._trash_changes(n)) for n in numbers), tab_id, "moved to the trash")

    def undo(self, tab_id: str) -> EditResult | None:
        """Return None if there is nothing to undo."""
        return self._revert(self._undo[tab_id], self._redo[tab_id], "undone")

    def redo(self, tab_id: str) -> EditResult | None:
        return self._revert(self._redo[tab_id], self._undo[tab_id], "redone")

    def _record_step(self, actions: PendingChanges, tab_id: str, summary: str) -> EditResult:
        done, applied = self._apply(actions, summary)
        if applied:
            self._undo[tab_id].append(UndoStep(done.summary, tuple(applied)))
            self._redo[tab_id].clear()
        return done

    def _revert(self, steps: list[UndoStep], opposite: list[UndoStep], description: str) -> EditResult | None:
        if not steps:
            return None
        step = steps.pop()
        changes = [change.inverse() for change in reversed(step.changes)]
        done, applied = self._apply(((c.number, self._perform(c)) for c in changes), step.summary)
        if applied:
            opposite.append(UndoStep(step.summary, tuple(applied)))
        if done.disk_full:  # the rest can be undone once the disk has room
            gone = set(map(id, applied))
            steps.append(UndoStep(step.summary, tuple(c.inverse() for c in reversed(changes) if id(c) not in gone)))
        return replace(done, summary=f"{description}: {step.summary}")

    def _apply(self, actions: PendingChanges, summary: str) -> tuple[EditResult, list[Change]]:
        """Apply the actions in order. A refused change skips its item; a full disk ends the loop."""
        applied: list[Change] = []
        refused: dict[int, str] = {}
        disk_full, actions = False, iter(actions)
        with self._library.lock:
            for number, action in actions:
                if number in refused:
                    continue
                try:
                    for change in action:
                        applied.append(change)  # changes before a refusal stay
                except (ItemError, StorageError, OSError) as error:
                    path = self._library[number].item.path
                    reason = sidecar.storage_error(error, path) if isinstance(error, OSError) else error
                    refused[number] = encodable(str(reason))
                    if disk_full := isinstance(reason, StorageError):
                        break
            touched = list(dict.fromkeys([*(change.number for change in applied), *refused]))
            changed = self._library.reload(touched, compute_flags=len(touched) <= _MAX_FLAGGED_INLINE)
        self._library.notify(set(touched) - changed)  # a declined proposal changes no other state
        numbers = tuple(number for number in touched if number not in refused)
        description = summary if len(numbers) == 1 else f"{len(numbers):,} {summary}"
        return EditResult(description, numbers, refused, disk_full, sum(1 for _ in actions)), applied

    # Changes of one item

    def _save_changes(self, draft: Draft) -> Iterator[Change]:
        before = self._read(draft.number)
        lines = before is not None and len(before.splitlines()) > 1
        after = normalize_whitespace(draft.text, lines=lines).encode("utf-8", "replace") or None
        if after == before:
            return
        if _digest(before) != draft.base:
            raise EditConflictError
        yield from self._perform(CaptionChange(draft.number, before, after, draft.provenance))

    def _decision_changes(self, number: int, decision: Decision | None, *, is_shown: bool = True) -> Iterator[Change]:
        """is_shown: require that the text on disk is the text on the page."""
        entry = self._library[number]
        digest = _digest(self._read(number))
        before = self._library.decisions.of(entry.item.caption_file, digest)
        if decision == "approved" and digest is None:
            raise ItemError("there is no caption to approve: write one first")
        if is_shown and digest != entry.caption.digest:
            raise EditConflictError
        if decision != before:
            yield from self._perform(DecisionChange(number, digest, before, decision))

    def _trash_changes(self, number: int) -> Iterator[Change]:
        item, caption = self._library[number].item, self._read(number)
        yield from self._perform(TrashMove(number, item.path, trash.trash_path(item, self.run_id)))
        if caption is not None:
            yield from self._perform(CaptionChange(number, caption, None))

    def _resolution_changes(self, number: int, path: Path) -> Iterator[Change]:
        yield from self._perform(ProposalResolution(number, path, path.with_suffix(".settled")))

    def _perform(self, change: Change) -> Iterator[Change]:
        """Make the change, then yield it. Raises `ItemError` if the disk does not match its start."""
        _PERFORM[type(change)](self, change)
        yield change

    def _write_caption(self, change: CaptionChange) -> None:
        item = self._library[change.number].item
        kind = "caption" if change.provenance else "edit"
        line = change_record(kind, item.name, item.caption_file, change.before, change.after)
        line = change.provenance | line | {"digest": _digest(change.after)}

        def before_rename() -> None:  # the new file is complete and waits for its rename
            if self._read(change.number) != change.before:
                raise EditConflictError
            self._journal.append(item.store, line)

        if change.after is None:
            sidecar.remove(item.caption_path, before_rename)
            return
        try:
            over = change.before is not None
            sidecar.write(item.caption_path, change.after, item.store, before_rename, replace=over)
        except sidecar.CaptionExistsError:
            raise EditConflictError from None

    def _write_decision(self, change: DecisionChange) -> None:
        if _digest(self._read(change.number)) != change.digest:
            raise EditConflictError
        self._library.decisions.decide(self._library[change.number].item, change.digest, change.after)

    def _move_media(self, change: TrashMove) -> None:
        item, within = self._library[change.number].item, self._library.root.folder
        resolve_inside(change.source.parent / "any", within)
        resolve_inside(change.target.parent / "any", within)
        line = {"kind": "trash", "path": item.name, **trash.move_fields(change.source, change.target, item.store)}
        trash.move(change.source, change.target, partial(self._journal.append, item.store, line))

    def _resolve_proposal(self, change: ProposalResolution) -> None:
        trash.move(change.source, change.target)

    def _read(self, number: int) -> bytes | None:
        """Return the bytes of the `.txt`, None for no caption. Raises `ItemError` for a file outside the folder."""
        entry = self._library[number]
        if entry.access_error is not None:
            raise ItemError(entry.access_error)
        path = entry.item.caption_path
        return sidecar.read(resolve_inside(path, self._library.root.captions, CAPTION_SUFFIXES)) or None


def _digest(content: bytes | None) -> str | None:
    """The digest as in `CaptionText`: None also for white space alone."""
    return sidecar.digest(content) if content and text_of(content) else None


_PERFORM: dict[type, Callable[[Edits, Any], None]] = {
    CaptionChange: Edits._write_caption,
    DecisionChange: Edits._write_decision,
    TrashMove: Edits._move_media,
    ProposalResolution: Edits._resolve_proposal,
}
