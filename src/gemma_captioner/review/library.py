"""The state of the folder: media, captions on disk, their journal records and decisions.

It is read when the page starts and then rescanned regularly, because other programs write to the folder too.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..captions.flags import evaluate
from ..captions.length import caption_length
from ..captions.limits import length_flags
from ..config.settings import Settings
from ..config.targets import states_silence
from ..dataset import sidecar
from ..dataset.containment import CAPTION_SUFFIXES, MEDIA_SUFFIXES, check_store_is_contained, resolve_inside
from ..dataset.discover import Discovery, Root
from ..errors import ItemError, StorageError
from ..prompts.sources import exclude_control
from ..text import encodable
from ..types import Failed, MediaItem
from .decisions import Decision, Decisions
from .edit_sources import EditSources
from .provenance import Provenance, ProvenanceIndex


def text_of(content: bytes | None) -> str:
    """Decode the content of a `.txt`; "" for white space alone."""
    return "" if content is None else content.decode("utf-8-sig", "replace").strip()


@dataclass(frozen=True, slots=True)
class CaptionText:
    """A caption as read from disk. text: "" if there is none. digest: of the file's bytes, None if there is no text."""

    text: str = ""
    digest: str | None = None
    stamp: tuple[int, int] | None = None  # modification time in ns, size in bytes

    @property
    def count(self) -> int:
        return caption_length(self.text)


@dataclass(slots=True)
class ReviewItem:
    """One media file with its caption."""

    number: int  # identifies it on the page while the server runs
    item: MediaItem
    caption: CaptionText = CaptionText()
    flags: tuple[str, ...] = ()
    decision: Decision | None = None
    provenance: Provenance | None = None
    failure: str | None = None  # why its last captioning run failed
    access_error: str | None = None  # why it can be neither displayed nor edited
    exists: bool = True
    name: str = field(init=False)
    caption_file: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = encodable(self.item.name)
        self.caption_file = self.item.caption_file

    @property
    def state(self) -> tuple[object, ...]:
        """All fields that can change."""
        return self.caption, self.flags, self.decision, self.provenance, self.failure, self.access_error, self.exists

    @property
    def folder(self) -> str:
        """Relative to the reviewed folder; "" for the folder itself."""
        return self.name.rpartition("/")[0]


Listener = Callable[[set[int]], None]


class Library:
    """The items by number. `refresh` reads changes on disk and notifies the listeners."""

    def __init__(self, root: Root, settings: Settings) -> None:
        """Raises `StartError` if the journal would be outside the folder."""
        check_store_is_contained(root.store)
        self.root = root
        self.lock = threading.RLock()  # held by every writer
        self.entries: list[ReviewItem] = []
        self.problems: list[str] = []  # errors of folders that cannot be listed
        self.listeners: list[Listener] = []
        self.count_tokens: Callable[[str], int] | None = None  # of the target's text encoder; None estimates
        self._settings = settings
        self._by_name: dict[str, ReviewItem] = {}
        self._flags_by_digest: dict[str, tuple[str, ...]] = {}  # digest -> flags of captions without a journal record
        self._is_inside: dict[Path, bool] = {}  # folder -> whether it is inside the reviewed folder
        self._collisions: dict[str, str] = {}  # name -> error: which files would share its caption
        self._provenance = ProvenanceIndex(root.store)
        self.decisions = Decisions(root.store)
        self.sources = EditSources(settings.prompting.control)

    def __getitem__(self, number: int) -> ReviewItem:
        return self.entries[number]

    def present(self) -> Iterator[ReviewItem]:
        return (entry for entry in self.entries if entry.exists)

    def refresh(self) -> set[int]:
        """Rescan the folder and return the numbers that changed. Raises `StartError` if the folder is gone."""
        with self.lock:
            self._provenance.refresh()
            self.decisions.refresh()
            self._is_inside.clear()
            self._collisions.clear()
            seen: set[str] = set()
            changed: set[int] = set()
            problems: list[str] = []
            selection = exclude_control(self._settings.selection, [self.root], self._settings.prompting.control)
            for found in Discovery([self.root], selection):
                if not isinstance(found.item, MediaItem):
                    problems.append(encodable(f"{found.item.path}: {getattr(found, 'error', '')}"))
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
        """Reread these captions and return the numbers that changed. compute_flags: also compute missing flags."""
        with self.lock:
            self._provenance.refresh()
            self.decisions.refresh()
            changed = set()
            for entry in (self[number] for number in numbers):
                if self._refresh_item(entry, self._collisions.get(entry.item.name)):
                    changed.add(entry.number)
                if compute_flags and self._compute_flags(entry):
                    entry.flags = self._flags_by_digest[entry.caption.digest or ""]
                    changed.add(entry.number)
        self.notify(changed)
        return changed

    def notify(self, changed: set[int]) -> None:
        if changed:
            for listener in list(self.listeners):
                listener(changed)

    def _refresh_item(self, entry: ReviewItem, access_error: str | None) -> bool:
        """Update an item; return whether it changed."""
        before = entry.state
        item = entry.item
        entry.exists = os.path.lexists(item.path)
        try:
            self._check_inside(item)
            entry.caption = self._read_caption(entry)
        except (ItemError, StorageError) as error:
            access_error, entry.caption = access_error or str(error), CaptionText()
        digest = entry.caption.digest
        entry.access_error = access_error and encodable(access_error)
        entry.provenance = self._provenance.of(entry.caption_file, digest) if digest else None
        entry.flags = entry.provenance.flags if entry.provenance else self._flags_by_digest.get(digest or "", ())
        entry.decision = self.decisions.of(entry.caption_file, digest)
        failure = None if digest else self._provenance.failure(item.name)
        entry.failure = failure and encodable(failure)
        return before != entry.state

    def _check_inside(self, item: MediaItem) -> None:
        """Raises `ItemError` for media outside the folder. The result is cached per folder; serving checks again."""
        folder = item.path.parent
        if folder not in self._is_inside:
            self._is_inside[folder] = folder.resolve().is_relative_to(self.root.folder.resolve())
        if not self._is_inside[folder] or item.path.is_symlink():
            resolve_inside(item.path, self.root.folder, MEDIA_SUFFIXES)

    def _read_caption(self, entry: ReviewItem) -> CaptionText:
        path = entry.item.caption_path
        try:
            stat = path.stat()
        except OSError:
            return CaptionText()
        stamp = stat.st_mtime_ns, stat.st_size
        return entry.caption if entry.caption.stamp == stamp else _read(path, self.root.captions, stamp)

    # Flags of captions without a journal record

    def flag_unknown(self) -> None:
        """Compute all missing flags. This is slow."""
        for entry in list(self.present()):
            if entry.caption.digest and not entry.provenance and entry.caption.digest not in self._flags_by_digest:
                self.reload([entry.number], compute_flags=True)

    def _compute_flags(self, entry: ReviewItem) -> bool:
        """Compute missing flags; return whether there were any to compute."""
        caption, quality = entry.caption, self._settings.quality
        if caption.digest is None or entry.provenance or caption.digest in self._flags_by_digest:
            return False
        silence = states_silence(quality.target)
        flags = evaluate(caption.text, language=quality.language, states_silence=silence)
        flags += length_flags(caption.text, quality.target, self.count_tokens)
        self._flags_by_digest[caption.digest] = flags
        return True


def _read(path: Path, within: Path, stamp: tuple[int, int]) -> CaptionText:
    """Raises `ItemError` for a file that is outside `within` or unreadable."""
    return caption_text(sidecar.read(resolve_inside(path, within, CAPTION_SUFFIXES)), stamp)


def caption_text(content: bytes | None, stamp: tuple[int, int]) -> CaptionText:
    """stamp: modification time in ns and size of the file with this content."""
    text = text_of(content)
    if not content or not text:
        return CaptionText(stamp=stamp)
    return CaptionText("\n".join(text.splitlines()), sidecar.digest(content), stamp)
