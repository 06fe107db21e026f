"""Every change that a person makes on the page: written at once, atomically, kept in a journal, with its way back.

A change says what it starts from, and is refused where something else stands there by now: what another program, tab or
person wrote is never overwritten unseen.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from ..dataset import sidecar, trash
from ..dataset.journal import Journal, JournalRecord, new_run_id
from ..errors import ItemError, StorageError
from .decisions import Decision
from .guard import CAPTION_SUFFIXES, contained
from .library import Library, readable, text_of

_JUDGED_AT_ONCE = 50  # of more, the flags come a little later


class Changed(ItemError):
    """What stands there is not what the change starts from."""

    def __init__(self) -> None:
        super().__init__("something else was written there meanwhile")


def one_line(text: str, *, lines: bool = False) -> str:
    """As a trainer reads it: a line, or where there were `lines` as many as there are, none empty.

    # "A cat.\\n It  sits. " -> "A cat. It sits."
    """
    kept = text.splitlines() if lines else [text]
    return "\n".join(line for line in (" ".join(line.split()) for line in kept) if line)


@dataclass(frozen=True, slots=True)
class Rewording:
    """before, after: the bytes of the `.txt`, None for none. origin: of a model's caption, how it came about."""

    number: int
    before: bytes | None
    after: bytes | None
    origin: JournalRecord = field(default_factory=dict)

    def back(self) -> "Rewording":
        return Rewording(self.number, self.after, self.before)


@dataclass(frozen=True, slots=True)
class Verdict:
    """digest: of the words that it is about."""

    number: int
    digest: str | None
    before: Decision | None
    after: Decision | None

    def back(self) -> "Verdict":
        return Verdict(self.number, self.digest, self.after, self.before)


@dataclass(frozen=True, slots=True)
class Move:
    """Of a media file, to the trash or back."""

    number: int
    source: Path
    target: Path

    def back(self) -> "Move":
        return Move(self.number, self.target, self.source)


@dataclass(frozen=True, slots=True)
class Settling:
    """Of an offered caption: its file has another name once it was taken or declined."""

    number: int
    source: Path
    target: Path

    def back(self) -> "Settling":
        return Settling(self.number, self.target, self.source)


Change = Rewording | Verdict | Move | Settling


@dataclass(frozen=True, slots=True)
class Step:
    """What one keystroke did, to one caption or to many: what undo takes back. what: for a person, "12 approved"."""

    what: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A caption to be. base: the digest of what it starts from, None where there was no text."""

    number: int
    base: str | None
    text: str
    origin: JournalRecord = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """refused: number -> why nothing was done there. is_cut: by the disk; then so many were left, and not tried."""

    what: str
    numbers: tuple[int, ...]
    refused: dict[int, str]
    is_cut: bool = False
    left: int = 0


Actions = Iterable[tuple[int, Iterator[Change]]]  # (number, what is done to it, each change as it is done)


class Edits:
    """All methods may be called from any thread; `by` says who, as undo takes back only one's own."""

    def __init__(self, library: Library) -> None:
        self.run_id = new_run_id()
        self._library = library
        self._journal = Journal(self.run_id, {"version": version("gemma-captioner"), "review": True})
        self._undo: dict[str, list[Step]] = defaultdict(list)
        self._redo: dict[str, list[Step]] = defaultdict(list)

    def close(self) -> None:
        self._journal.close()

    def save(self, drafts: Iterable[Draft], *, by: str, what: str = "saved") -> Done:
        """An empty text takes the `.txt` away."""
        return self._step(((draft.number, self._saved(draft)) for draft in drafts), by, what)

    def decide(self, numbers: Iterable[int], decision: Decision | None, *, by: str) -> Done:
        return self._step(((n, self._decided(n, decision)) for n in numbers), by, decision or "open again")

    def save_and_approve(self, draft: Draft, *, by: str) -> Done:
        acts = (self._saved(draft), self._decided(draft.number, "approved", sees=False))
        return self._step(((draft.number, act) for act in acts), by, "saved and approved")

    def take(self, offers: Iterable[tuple[Draft, Path]], *, by: str) -> Done:
        """New captions, each with the file that offers it."""
        acts = ((draft.number, chain(self._saved(draft), self._settled(draft.number, path))) for draft, path in offers)
        return self._step(acts, by, "new caption taken")

    def decline(self, offers: Iterable[tuple[int, Path]], *, by: str) -> Done:
        return self._step(((number, self._settled(number, path)) for number, path in offers), by, "old caption kept")

    def trash(self, numbers: Iterable[int], *, by: str) -> Done:
        """Media and captions; they lie in `.gemma-captioner/trash/` from then on."""
        return self._step(((n, self._discarded(n)) for n in numbers), by, "moved to the trash")

    def undo(self, by: str) -> Done | None:
        """None where there is nothing to undo."""
        return self._back(self._undo[by], self._redo[by], "undone")

    def redo(self, by: str) -> Done | None:
        return self._back(self._redo[by], self._undo[by], "done again")

    def _step(self, actions: Actions, by: str, what: str) -> Done:
        done, applied = self._apply(actions, what)
        if applied:
            self._undo[by].append(Step(done.what, tuple(applied)))
            self._redo[by].clear()
        return done

    def _back(self, steps: list[Step], opposite: list[Step], said: str) -> Done | None:
        if not steps:
            return None
        step = steps.pop()
        changes = [change.back() for change in reversed(step.changes)]
        done, applied = self._apply(((c.number, self._performed(c)) for c in changes), step.what)
        if applied:
            opposite.append(Step(step.what, tuple(applied)))
        if done.is_cut:  # to be tried again, once the disk has room
            gone = set(map(id, applied))
            steps.append(Step(step.what, tuple(c.back() for c in reversed(changes) if id(c) not in gone)))
        return replace(done, what=f"{said}: {step.what}")

    def _apply(self, actions: Actions, what: str) -> tuple[Done, list[Change]]:
        """One after the other. What is refused costs itself alone; a full disk ends it, and what was done is kept."""
        applied: list[Change] = []
        refused: dict[int, str] = {}
        is_cut, actions = False, iter(actions)
        with self._library.lock:
            for number, action in actions:
                if number in refused:
                    continue
                try:
                    for change in action:
                        applied.append(change)  # what was done before a refusal counts
                except (ItemError, StorageError, OSError) as error:
                    path = self._library[number].item.path
                    why = sidecar.storage_error(error, path) if isinstance(error, OSError) else error
                    refused[number] = readable(str(why))
                    if is_cut := isinstance(why, StorageError):
                        break
            touched = list(dict.fromkeys([*(change.number for change in applied), *refused]))
            changed = self._library.look(touched, judge=len(touched) <= _JUDGED_AT_ONCE)
        self._library.tell(set(touched) - changed)  # an offer that was declined changes nothing else
        numbers = tuple(number for number in touched if number not in refused)
        said = what if len(numbers) == 1 else f"{len(numbers):,} {what}"
        return Done(said, numbers, refused, is_cut, sum(1 for _ in actions)), applied

    # What is done to one item

    def _saved(self, draft: Draft) -> Iterator[Change]:
        before = self._read(draft.number)
        lines = before is not None and len(before.splitlines()) > 1
        after = one_line(draft.text, lines=lines).encode("utf-8", "replace") or None
        if after == before:
            return
        if _digest(before) != draft.base:
            raise Changed
        yield from self._performed(Rewording(draft.number, before, after, draft.origin))

    def _decided(self, number: int, decision: Decision | None, *, sees: bool = True) -> Iterator[Change]:
        """sees: that the words are those which the page shows."""
        entry = self._library[number]
        digest = _digest(self._read(number))
        before = self._library.decisions.of(entry.item.caption_file, digest)
        if decision == "approved" and digest is None:
            raise ItemError("there is no caption to approve")
        if sees and digest != entry.words.digest:
            raise Changed
        if decision != before:
            yield from self._performed(Verdict(number, digest, before, decision))

    def _discarded(self, number: int) -> Iterator[Change]:
        item, caption = self._library[number].item, self._read(number)
        yield from self._performed(Move(number, item.path, trash.trash_path(item, self.run_id)))
        if caption is not None:
            yield from self._performed(Rewording(number, caption, None))

    def _settled(self, number: int, path: Path) -> Iterator[Change]:
        yield from self._performed(Settling(number, path, path.with_suffix(".settled")))

    def _performed(self, change: Change) -> Iterator[Change]:
        """Do it, and say so. Raises `ItemError` where the world is not as the change has it."""
        _PERFORM[type(change)](self, change)
        yield change

    def _reword(self, change: Rewording) -> None:
        item = self._library[change.number].item
        line: JournalRecord = {
            **change.origin,
            "kind": "caption" if change.origin else "edit",
            "path": item.name,
            "caption_file": item.caption_file,
            "digest": _digest(change.after),
            "replaced": None if change.before is None else change.before.decode("utf-8", "surrogateescape"),
        }

        def at_last() -> None:  # the new file is on the disk, and only its name is missing
            if self._read(change.number) != change.before:
                raise Changed
            self._journal.append(item.store, line)

        if change.after is None:
            sidecar.remove(item.caption_path, at_last)
            return
        try:
            over = change.before is not None
            sidecar.write(item.caption_path, change.after, item.store, at_last, replace=over)
        except sidecar.CaptionExistsError:
            raise Changed from None

    def _decide(self, change: Verdict) -> None:
        if _digest(self._read(change.number)) != change.digest:
            raise Changed
        self._library.decisions.decide(self._library[change.number].item, change.digest, change.after)

    def _move(self, change: Move) -> None:
        item, within = self._library[change.number].item, self._library.root.folder
        contained(change.source.parent / "any", within)
        contained(change.target.parent / "any", within)
        line = {"kind": "trash", "path": item.name, **trash.move_fields(change.source, change.target, item.store)}
        trash.move(change.source, change.target, partial(self._journal.append, item.store, line))

    def _settle(self, change: Settling) -> None:
        trash.move(change.source, change.target)

    def _read(self, number: int) -> bytes | None:
        """What stands in the `.txt`, None for nothing. Raises `ItemError` for what is not to be touched."""
        entry = self._library[number]
        if entry.fault is not None:
            raise ItemError(entry.fault)
        path = entry.item.caption_path
        return sidecar.read(contained(path, self._library.root.captions, CAPTION_SUFFIXES)) or None


def _digest(content: bytes | None) -> str | None:
    """As `Words` has it: None also for nothing but white space."""
    return sidecar.digest(content) if content and text_of(content) else None


_PERFORM: dict[type, Callable[[Edits, Any], None]] = {
    Rewording: Edits._reword,
    Verdict: Edits._decide,
    Move: Edits._move,
    Settling: Edits._settle,
}
