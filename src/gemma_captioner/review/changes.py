"""The changes of the page as records: what each one starts from and leads to, and its inverse."""

import os
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from ..captions.formats import detect
from ..dataset.journal import JournalRecord
from ..errors import ItemError
from .decisions import Decision

WriteStamp = tuple[int, ...]
_CLOCK_TICK_NS = 50_000_000  # of the file system: two writes within it may have equal times


def write_stamp(path: Path) -> WriteStamp | None:
    """Return values that change with each write of the file; None if it is missing or was written a moment ago."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - stat.st_ctime_ns < _CLOCK_TICK_NS:
        return None
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size


class EditConflictError(ItemError):
    """The content on disk is not what the change starts from. what: "caption", "decision" or "new caption"."""

    def __init__(self, what: str = "caption") -> None:
        super().__init__(f"the {what} changed in the meantime: check it, then try again")


def normalize_whitespace(text: str, *, lines: bool = False) -> str:
    """Normalize white space as trainers do: into one line, or with `lines` into several that are not empty.

    # "A cat.\\n It  sits. " -> "A cat. It sits."
    """
    kept = text.splitlines() if lines else [text]
    return "\n".join(line for line in (" ".join(line.split()) for line in kept) if line)


def normalize_caption(text: str, before: bytes | None) -> str:
    """Normalize the white space of a caption that replaces `before`.

    A caption of several lines keeps its lines, and one of labeled paragraphs the blank lines between them.
    """
    if not detect(text).is_one_line:
        lines = "\n".join(map(normalize_whitespace, text.splitlines()))
        return re.sub(r"\n{3,}", "\n\n", lines).strip()
    return normalize_whitespace(text, lines=before is not None and len(before.splitlines()) > 1)


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
    is_cut: bool = False  # a full disk or the user ended it
    left: int = 0  # items that were not tried after that
