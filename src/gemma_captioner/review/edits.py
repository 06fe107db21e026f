"""The changes that a person makes on the page. Each is written at once, atomically; it is journaled and can be undone.

Each change names the content that it starts from. If another program, tab or person has changed that content, the
change is refused, so nothing is overwritten unseen.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from ..dataset import sidecar, trash
from ..dataset.containment import CAPTION_SUFFIXES, resolve_inside
from ..dataset.journal import Journal, change_record, new_run_id
from ..dataset.sidecar import StagedCaption
from ..errors import ItemError, StorageError
from ..text import encodable
from .changes import (
    CaptionChange,
    Change,
    DecisionChange,
    Draft,
    EditConflictError,
    EditResult,
    ProposalResolution,
    TrashMove,
    WriteStamp,
    normalize_caption,
    write_stamp,
)
from .decisions import Decision
from .library import Library, caption_text, text_of
from .undo import Direction, UndoHistory, UndoStep

_CHUNK_ITEMS = 500  # share one sync of the disk. Between two chunks, other tabs may write
_SYNC_THREADS = 16  # file systems combine syncs that run at the same time
_MAX_FLAGGED_INLINE = 50  # above this, the background rescan computes the flags

_REVERTED: Mapping[Direction, str] = {"undo": "undone", "redo": "redone"}

Progress = Callable[[int], bool]  # called with the number of items done; returns whether to continue
Shown = tuple[int, str | None]  # (item number, digest of the caption that the user saw)
# Prepares each change, yields None to wait until the disk is synced, makes the change and yields it.
Stages = Generator[Change | None, None, Any]
PendingChanges = Iterable[tuple[int, Stages]]  # (item number, the stages of its changes)


class Edits:
    """Thread-safe. `tab_id` identifies the browser tab: undo reverts only the changes of the same tab."""

    def __init__(self, library: Library) -> None:
        self.run_id = new_run_id()
        self._library = library
        self._journal = Journal(self.run_id, {"version": version("gemma-captioner"), "review": True})
        self._staged: list[StagedCaption] = []  # since the last sync
        self._history = UndoHistory()

    def close(self) -> None:
        self._journal.close()

    def save(
        self, drafts: Iterable[Draft], *, tab_id: str, summary: str = "saved", progress: Progress | None = None
    ) -> EditResult:
        """Save the drafts. An empty text removes the `.txt`."""
        return self._record_step(((d.number, self._save_stages(d)) for d in drafts), tab_id, summary, progress)

    def decide(
        self, shown: Iterable[Shown], decision: Decision | None, *, tab_id: str, progress: Progress | None = None
    ) -> EditResult:
        """Decide about captions. A caption that is not the one that the user saw is refused."""
        actions = ((number, self._decision_stages(number, digest, decision)) for number, digest in shown)
        return self._record_step(actions, tab_id, decision or "reopened", progress)

    def save_and_approve(self, draft: Draft, *, tab_id: str) -> EditResult:
        actions = [(draft.number, self._save_and_approve_stages(draft))]
        return self._record_step(actions, tab_id, "saved and approved", None)

    def accept_proposals(
        self, proposals: Iterable[tuple[Draft, Path]], *, tab_id: str, progress: Progress | None = None
    ) -> EditResult:
        """Save proposals as captions. proposals: (the new caption, the file of its proposal)."""
        actions = ((draft.number, self._accept_stages(draft, path)) for draft, path in proposals)
        return self._record_step(actions, tab_id, "accepted", progress)

    def decline_proposals(
        self, proposals: Iterable[tuple[int, Path]], *, tab_id: str, progress: Progress | None = None
    ) -> EditResult:
        actions = ((number, self._resolution_stages(number, path)) for number, path in proposals)
        return self._record_step(actions, tab_id, "declined", progress)

    def trash(self, numbers: Iterable[int], *, tab_id: str, progress: Progress | None = None) -> EditResult:
        """Move media and captions to `.gemma-captioner/trash/`."""
        return self._record_step(((n, self._trash_stages(n)) for n in numbers), tab_id, "moved to the trash", progress)

    def next_undo(self, tab_id: str) -> int:
        """Return the number of changes that the next undo reverts."""
        return self._history.num_changes(tab_id, "undo")

    def next_redo(self, tab_id: str) -> int:
        return self._history.num_changes(tab_id, "redo")

    def undo(self, tab_id: str, progress: Progress | None = None) -> EditResult | None:
        """Return None if there is nothing to undo."""
        return self._revert(tab_id, "undo", progress)

    def redo(self, tab_id: str, progress: Progress | None = None) -> EditResult | None:
        return self._revert(tab_id, "redo", progress)

    def _record_step(self, actions: PendingChanges, tab_id: str, summary: str, progress: Progress | None) -> EditResult:
        done, applied = self._apply(actions, summary, progress)
        if applied:
            self._history.record(tab_id, UndoStep(done.summary, tuple(applied)))
        return done

    def _revert(self, tab_id: str, direction: Direction, progress: Progress | None) -> EditResult | None:
        if (step := self._history.pop(tab_id, direction)) is None:
            return None
        changes = [change.inverse() for change in reversed(step.changes)]
        by_number: dict[int, list[Change]] = defaultdict(list)
        for change in changes:
            by_number[change.number].append(change)
        actions = ((number, self._perform_all(of_one)) for number, of_one in by_number.items())
        done, applied = self._apply(actions, step.summary, progress)
        if applied:
            opposite: Direction = "redo" if direction == "undo" else "undo"
            self._history.push(tab_id, opposite, UndoStep(step.summary, tuple(applied)))
        if done.is_cut:  # the rest can be undone later, after a full disk once it has room
            reverted = set(map(id, applied))
            rest = tuple(change.inverse() for change in reversed(changes) if id(change) not in reverted)
            self._history.push(tab_id, direction, UndoStep(step.summary, rest))
        return replace(done, summary=f"{_REVERTED[direction]}: {step.summary}")

    # Many changes at once

    def _apply(
        self, actions: PendingChanges, summary: str, progress: Progress | None
    ) -> tuple[EditResult, list[Change]]:
        """Apply the actions chunk by chunk, until the disk is full or `progress` returns False."""
        applied: list[Change] = []
        refused: dict[int, str] = {}
        actions, left, tried, is_cut = iter(actions), 0, 0, False
        while not is_cut and (chunk := list(islice(actions, _CHUNK_ITEMS))):
            num_applied, num_refused = len(applied), len(refused)
            with self._library.lock:
                self._library.decisions.refresh()
                left, is_cut = self._apply_chunk(chunk, applied, refused)
                touched = {change.number for change in applied[num_applied:]} | set(list(refused)[num_refused:])
                changed = self._library.reload(sorted(touched), compute_flags=len(touched) <= _MAX_FLAGGED_INLINE)
            self._library.notify(touched - changed)  # a declined proposal changes no other state
            tried += len(chunk) - left
            is_cut |= progress is not None and not progress(tried)
        numbers = tuple(number for number in dict.fromkeys(c.number for c in applied) if number not in refused)
        description = summary if len(numbers) == 1 else f"{len(numbers):,} {summary}"
        return EditResult(description, numbers, refused, is_cut, left + sum(1 for _ in actions)), applied

    def _apply_chunk(
        self, chunk: list[tuple[int, Stages]], applied: list[Change], refused: dict[int, str]
    ) -> tuple[int, bool]:
        """Apply the actions, with one sync for each of their stages. Return how many are left, and if the disk is full.

        A refused change ends its own action. The changes before it stay.
        """
        left, is_full, running = 0, False, chunk
        while running:
            waiting = []
            for count, (number, action) in enumerate(running, 1):
                try:
                    if self._runs_to_sync(action, applied):
                        waiting.append((number, action))
                except (ItemError, StorageError, OSError) as error:
                    is_full |= self._refuse(number, error, refused)
                if is_full and running is chunk:
                    left = len(chunk) - count
                    break
            try:
                self._sync()
            except (ItemError, StorageError, OSError) as error:
                for number, action in waiting:
                    action.close()
                    is_full |= self._refuse(number, error, refused)
                break
            running = waiting
        return left, is_full

    def _runs_to_sync(self, action: Stages, applied: list[Change]) -> bool:
        """Continue the action. Return whether it waits for the next sync, False at its end."""
        for change in action:
            if change is None:
                return True
            applied.append(change)
        return False

    def _refuse(self, number: int, error: Exception, refused: dict[int, str]) -> bool:
        """Note why an item was not changed. Return whether the disk is full."""
        path = self._library[number].item.path
        reason = sidecar.storage_error(error, path) if isinstance(error, OSError) else error
        refused[number] = encodable(str(reason))
        return isinstance(reason, StorageError)

    def _sync(self) -> None:
        """Store on disk what was staged since the last sync: captions, journal records and decisions."""
        staged, self._staged = self._staged, []
        with ThreadPoolExecutor(_SYNC_THREADS) as threads:
            list(threads.map(StagedCaption.sync, staged))
        self._journal.flush()
        self._library.decisions.flush()

    # Changes of one item

    def _save_stages(self, draft: Draft) -> Generator[Change | None, None, bytes | None]:
        """Return the bytes of the `.txt`."""
        stamp, before = write_stamp(self._library[draft.number].item.caption_path), self._read(draft.number)
        after = normalize_caption(draft.text, before).encode("utf-8", "replace") or None
        if after == before:
            return before
        if _digest(before) != draft.base:
            raise EditConflictError
        yield from self._perform(CaptionChange(draft.number, before, after, draft.provenance), stamp)
        return after

    def _save_and_approve_stages(self, draft: Draft) -> Stages:
        saved = yield from self._save_stages(draft)
        yield from self._decision_stages(draft.number, _digest(saved), "approved")

    def _decision_stages(self, number: int, shown: str | None, decision: Decision | None) -> Stages:
        digest = _digest(self._read(number))
        if decision == "approved" and digest is None:
            raise ItemError("there is no caption to approve: write one first")
        if digest != shown:
            raise EditConflictError
        before = self._library.decisions.of(self._library[number].caption_file, digest)
        if decision != before:
            yield from self._perform(DecisionChange(number, digest, before, decision))

    def _trash_stages(self, number: int) -> Stages:
        item, caption = self._library[number].item, self._read(number)
        yield from self._perform(TrashMove(number, item.path, trash.trash_path(item, self.run_id)))
        if caption is not None:
            yield from self._perform(CaptionChange(number, caption, None))

    def _resolution_stages(self, number: int, path: Path) -> Stages:
        yield from self._perform(ProposalResolution(number, path, path.with_suffix(".settled")))

    def _accept_stages(self, draft: Draft, path: Path) -> Stages:
        yield from self._save_stages(draft)
        yield from self._resolution_stages(draft.number, path)

    def _perform_all(self, changes: list[Change]) -> Stages:
        for change in changes:
            yield from self._perform(change)

    def _perform(self, change: Change, *known: Any) -> Stages:
        """Raises `ItemError` if the disk does not match the start of the change."""
        yield from _PERFORM[type(change)](self, change, *known)
        yield change

    def _change_caption(self, change: CaptionChange, stamp: WriteStamp | None = None) -> Generator[None]:
        """stamp: of the file before it was read; None if it is still to be read."""
        entry = self._library[change.number]
        item = entry.item
        if stamp is None:
            stamp = write_stamp(item.caption_path)
            self._check_unchanged(change)
        kind = "caption" if change.provenance else "edit"
        record = change_record(kind, item.name, entry.caption_file, change.before, change.after)
        record = change.provenance | record | {"digest": _digest(change.after)}
        with ExitStack() as stack:
            staged = None
            if change.after is not None:
                staged = stack.enter_context(sidecar.staged(item.caption_path, change.after, item.store))
            self._journal.append(item.store, record, sync=False)
            self._staged += [staged] if staged else []
            yield
            if stamp is None or write_stamp(item.caption_path) != stamp:
                self._check_unchanged(change)
            if staged is None:
                sidecar.remove(item.caption_path)
                return
            written = os.stat(staged.temp_path)
            try:
                staged.rename(replace=change.before is not None)
            except sidecar.CaptionExistsError:
                raise EditConflictError from None
        entry.caption = caption_text(change.after, (written.st_mtime_ns, written.st_size))  # `reload` need not read it

    def _check_unchanged(self, change: CaptionChange) -> None:
        if self._read(change.number) != change.before:
            raise EditConflictError

    def _change_decision(self, change: DecisionChange) -> Generator[None]:
        entry = self._library[change.number]
        if _digest(self._read(change.number)) != change.digest:
            raise EditConflictError
        present = self._library.decisions.of(entry.caption_file, change.digest)
        if present not in (change.before, change.after):
            raise EditConflictError("decision")
        if present != change.after:
            self._library.decisions.decide(entry.item, change.digest, change.after)
        yield

    def _move_media(self, change: TrashMove) -> Generator[None]:
        item, within = self._library[change.number].item, self._library.root.folder

        def check_inside() -> None:
            for path in (change.source, change.target):
                resolve_inside(path.parent, within, is_folder=True)

        check_inside()
        trash.check_move(change.source, change.target)
        record = {"kind": "trash", "path": item.name, **trash.move_fields(change.source, change.target, item.store)}
        self._journal.append(item.store, record, sync=False)
        yield
        check_inside()  # again: a link may have replaced a folder
        trash.move(change.source, change.target)

    def _resolve_proposal(self, change: ProposalResolution) -> Generator[None]:
        trash.move(change.source, change.target)
        yield

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


_PERFORM: dict[type, Callable[[Edits, Any], Generator[None]]] = {
    CaptionChange: Edits._change_caption,
    DecisionChange: Edits._change_decision,
    TrashMove: Edits._move_media,
    ProposalResolution: Edits._resolve_proposal,
}
