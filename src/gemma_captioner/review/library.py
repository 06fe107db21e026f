"""What is in the folder: media, captions as they stand on disk, what the journal and a person say of them.

Read when the page starts and again and again meanwhile, since other programs write there too.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..captions.flags import evaluate
from ..captions.limits import length_flags
from ..config.settings import Settings
from ..dataset import sidecar
from ..dataset.discover import Discovery, Root
from ..errors import ItemError, StorageError
from ..types import Failed, MediaItem
from .decisions import Decision, Decisions
from .guard import CAPTION_SUFFIXES, MEDIA_SUFFIXES, check_store_is_contained, resolve_inside
from .provenance import Provenance, ProvenanceIndex


def readable(text: str) -> str:
    """Text that any browser takes: stray bytes of a file's name, halves of characters replaced."""
    return text.encode("utf-8", "replace").decode()


def text_of(content: bytes | None) -> str:
    """What a `.txt` says, "" for nothing but white space."""
    return "" if content is None else content.decode("utf-8-sig", "replace").strip()


@dataclass(frozen=True, slots=True)
class CaptionText:
    """A caption as it stood when it was read. text: "" where there is none. digest: of its bytes, None without any."""

    text: str = ""
    digest: str | None = None
    stamp: tuple[int, int] | None = None  # nanoseconds of the last change, bytes

    @property
    def count(self) -> int:
        return len(self.text.split())


@dataclass(slots=True)
class ReviewItem:
    """number: what the page calls it, as long as the server runs. access_error: why it can be neither shown nor edited."""

    number: int
    item: MediaItem
    words: CaptionText = CaptionText()
    flags: tuple[str, ...] = ()
    decision: Decision | None = None
    provenance: Provenance | None = None
    failure: str | None = None
    access_error: str | None = None
    exists: bool = True
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = readable(self.item.name)

    @property
    def state(self) -> tuple[object, ...]:
        """All of it that changes."""
        return self.words, self.flags, self.decision, self.provenance, self.failure, self.access_error, self.exists

    @property
    def folder(self) -> str:
        """Within the folder that is reviewed, "" for its own top."""
        return self.name.rpartition("/")[0]


Listener = Callable[[set[int]], None]


class Library:
    """Entries by their number. Changes on disk come in by `refresh`; whoever listens is told of each."""

    def __init__(self, root: Root, settings: Settings) -> None:
        """Raises `StartError` for a folder whose journal would lie elsewhere."""
        check_store_is_contained(root.store)
        self.root = root
        self.lock = threading.RLock()  # whoever writes holds it
        self.entries: list[ReviewItem] = []
        self.problems: list[str] = []  # folders that cannot be listed
        self.listeners: list[Listener] = []
        self._settings = settings
        self._by_name: dict[str, ReviewItem] = {}
        self._flags_by_digest: dict[str, tuple[str, ...]] = {}  # digest -> flags of words that no journal knows
        self._is_inside: dict[Path, bool] = {}  # whether a folder lies in the one that is reviewed
        self._collisions: dict[str, str] = {}  # name -> with which others it would share its caption
        self._provenance = ProvenanceIndex(root.store)
        self.decisions = Decisions(root.store)

    def __getitem__(self, number: int) -> ReviewItem:
        return self.entries[number]

    def present(self) -> Iterator[ReviewItem]:
        return (entry for entry in self.entries if entry.exists)

    def refresh(self) -> set[int]:
        """Look at the folder anew: the numbers of what has changed. Raises `StartError` for a folder that is gone."""
        with self.lock:
            self._provenance.refresh()
            self.decisions.refresh()
            self._is_inside.clear()
            self._collisions.clear()
            seen: set[str] = set()
            changed: set[int] = set()
            problems: list[str] = []
            for found in Discovery([self.root], self._settings.selection):
                if not isinstance(found.item, MediaItem):
                    problems.append(readable(f"{found.item.path}: {getattr(found, 'error', '')}"))
                    continue
                item = found.item
                seen.add(item.name)
                if isinstance(found, Failed):
                    self._collisions[item.name] = found.error
                if (entry := self._by_name.get(item.name)) is None:
                    entry = self._by_name[item.name] = ReviewItem(len(self.entries), item)
                    self.entries.append(entry)
                    changed.add(entry.number)
                if self._refresh_item(entry, self._collisions.get(item.name)):
                    changed.add(entry.number)
            for entry in self.present():
                if entry.item.name not in seen:
                    entry.exists = False
                    changed.add(entry.number)
            self.problems = problems
        self.notify(changed)
        return changed

    def reload(self, numbers: Iterable[int], *, compute_flags: bool = False) -> set[int]:
        """Read these captions anew: the numbers of those that have changed. compute_flags: find their flags as well."""
        with self.lock:
            self._provenance.refresh()
            self.decisions.refresh()
            changed = set()
            for entry in (self[number] for number in numbers):
                if self._refresh_item(entry, self._collisions.get(entry.item.name)):
                    changed.add(entry.number)
                if compute_flags and self._compute_flags(entry):
                    entry.flags = self._flags_by_digest[entry.words.digest or ""]
                    changed.add(entry.number)
        self.notify(changed)
        return changed

    def notify(self, changed: set[int]) -> None:
        if changed:
            for listener in list(self.listeners):
                listener(changed)

    def _refresh_item(self, entry: ReviewItem, access_error: str | None) -> bool:
        """Bring an entry up to date: whether anything was to be done."""
        before = entry.state
        item = entry.item
        entry.exists = os.path.lexists(item.path)
        try:
            self._check_inside(item)
            entry.words = self._words(entry)
        except (ItemError, StorageError) as error:
            access_error, entry.words = access_error or str(error), CaptionText()
        digest = entry.words.digest
        entry.access_error = access_error and readable(access_error)
        entry.provenance = self._provenance.of(item.caption_file, digest) if digest else None
        entry.flags = entry.provenance.flags if entry.provenance else self._flags_by_digest.get(digest or "", ())
        entry.decision = self.decisions.of(item.caption_file, digest)
        failure = None if digest else self._provenance.failure(item.name)
        entry.failure = failure and readable(failure)
        return before != entry.state

    def _check_inside(self, item: MediaItem) -> None:
        """Raises `ItemError` for media that lie elsewhere. A folder is looked up once: who serves looks anew."""
        folder = item.path.parent
        if folder not in self._is_inside:
            self._is_inside[folder] = folder.resolve().is_relative_to(self.root.folder.resolve())
        if not self._is_inside[folder] or item.path.is_symlink():
            resolve_inside(item.path, self.root.folder, MEDIA_SUFFIXES)

    def _words(self, entry: ReviewItem) -> CaptionText:
        path = entry.item.caption_path
        try:
            stat = path.stat()
        except OSError:
            return CaptionText()
        stamp = stat.st_mtime_ns, stat.st_size
        return entry.words if entry.words.stamp == stamp else _read(path, self.root.captions, stamp)

    # Flags of captions that no journal knows

    def flag_unknown(self) -> None:
        """Find them all; it takes a while for each."""
        for entry in list(self.present()):
            if entry.words.digest and not entry.provenance and entry.words.digest not in self._flags_by_digest:
                self.reload([entry.number], compute_flags=True)

    def _compute_flags(self, entry: ReviewItem) -> bool:
        """Whether it is a new finding."""
        words, judging = entry.words, self._settings.judging
        if words.digest is None or entry.provenance or words.digest in self._flags_by_digest:
            return False
        flags = evaluate(words.text, language=judging.language) + length_flags(words.text, judging.target)
        self._flags_by_digest[words.digest] = flags
        return True


def _read(path: Path, within: Path, stamp: tuple[int, int]) -> CaptionText:
    """Raises `ItemError` for what is no file inside `within`, or cannot be read."""
    content = sidecar.read(resolve_inside(path, within, CAPTION_SUFFIXES))
    text = text_of(content)
    if not content or not text:
        return CaptionText(stamp=stamp)
    return CaptionText("\n".join(text.splitlines()), sidecar.digest(content), stamp)
