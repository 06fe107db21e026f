"""The steps that each browser tab can undo and redo."""

import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from .changes import Change

Direction = Literal["undo", "redo"]


@dataclass(frozen=True, slots=True)
class UndoStep:
    """The changes that one undo reverts. summary: their description, "12 approved"."""

    summary: str
    changes: tuple[Change, ...]


class UndoHistory:
    """Thread-safe. It has its own lock, because that of the library is held during a whole rescan."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[tuple[str, Direction], list[UndoStep]] = defaultdict(list)

    def record(self, tab_id: str, step: UndoStep) -> None:
        """Add a step to undo. What was undone before it cannot be redone."""
        with self._lock:
            self._steps[tab_id, "undo"].append(step)
            self._steps[tab_id, "redo"].clear()

    def push(self, tab_id: str, direction: Direction, step: UndoStep) -> None:
        with self._lock:
            self._steps[tab_id, direction].append(step)

    def pop(self, tab_id: str, direction: Direction) -> UndoStep | None:
        with self._lock:
            steps = self._steps[tab_id, direction]
            return steps.pop() if steps else None

    def num_changes(self, tab_id: str, direction: Direction) -> int:
        """Return the number of changes of the next step."""
        with self._lock:
            steps = self._steps[tab_id, direction]
            return len(steps[-1].changes) if steps else 0
