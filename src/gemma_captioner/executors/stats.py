"""Counts the outcomes of a run."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..captions.length import caption_length
from ..dataset.discover import Collision
from ..types import Captioned, Failed, Outcome, Skipped

_FIRST_FILES = 3


@dataclass
class RunStats:
    """The counts of a run. --json prints `as_json`."""

    captioned: int = 0
    skipped: int = 0
    failed: int = 0
    flagged: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    collisions: list[str] = field(default_factory=list)  # the failures that are collisions, by path
    flags: Counter[str] = field(default_factory=Counter)  # flag -> files
    flagged_files: dict[str, list[str]] = field(default_factory=dict)  # flag -> its first files
    skip_reasons: Counter[str] = field(default_factory=Counter)
    _num_words: "array[int]" = field(default_factory=lambda: array("l"))  # of each caption
    _caption_hashes: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, outcome: Outcome) -> None:
        match outcome:
            case Captioned():
                self.captioned += 1
                self.flagged += bool(outcome.flags)
                self.flags.update(outcome.flags)
                for flag in outcome.flags:
                    if len(files := self.flagged_files.setdefault(flag, [])) < _FIRST_FILES:
                        files.append(outcome.item.name)
                self._num_words.append(caption_length(outcome.caption))
                self._caption_hashes.append(hash(outcome.caption))
            case Skipped():
                self.skipped += 1
                self.skip_reasons[outcome.reason] += 1
            case Failed():
                self.failed += 1
                self.failures.append({"path": str(outcome.item.path), "error": outcome.error})
                if isinstance(outcome, Collision):
                    self.collisions.append(str(outcome.item.path))

    @property
    def done(self) -> int:
        return self.captioned + self.failed

    @property
    def median_words(self) -> int:
        """The median length of the captions in words; 0 without captions."""
        return round(median(self._num_words)) if self._num_words else 0

    @property
    def num_repeated(self) -> int:
        """The number of files whose caption is identical to that of another file."""
        return sum(count for count in Counter(self._caption_hashes).values() if count > 1)

    def as_json(self, seconds: float, load_seconds: float) -> dict[str, Any]:
        return {
            "captioned": self.captioned,
            "skipped": self.skipped,
            "failed": self.failed,
            "flagged": self.flagged,
            "seconds": round(seconds, 3),
            "load_seconds": round(load_seconds, 3),
            "failures": self.failures,
        }
