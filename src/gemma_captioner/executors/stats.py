"""Counts the outcomes of a run."""

from array import array
from dataclasses import dataclass, field
from typing import Any

from ..types import Captioned, Failed, Outcome, Skipped


@dataclass
class RunStats:
    """The counts of a run. --json prints `as_json`."""

    captioned: int = 0
    skipped: int = 0
    failed: int = 0
    flagged: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    _caption_hashes: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, outcome: Outcome) -> None:
        match outcome:
            case Captioned():
                self.captioned += 1
                self.flagged += bool(outcome.flags)
                self._caption_hashes.append(hash(outcome.caption))
            case Skipped():
                self.skipped += 1
            case Failed():
                self.failed += 1
                self.failures.append({"path": str(outcome.item.path), "error": outcome.error})

    @property
    def done(self) -> int:
        return self.captioned + self.failed

    @property
    def num_repeated(self) -> int:
        """The number of files whose caption is identical to that of another file."""
        import numpy as np

        _, counts = np.unique(np.asarray(self._caption_hashes, np.int64), return_counts=True)
        return int(counts[counts > 1].sum())

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
