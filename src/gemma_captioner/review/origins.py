"""What the journals tell of the captions: how each came about, what failed. Read once, then as they grow."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.settings import Settings
from ..dataset.journal import Line
from ..dataset.sidecar import DOT_FOLDER


class Tail:
    """A file of JSON lines that grows: the lines that are whole, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes

    def new(self) -> Iterator[tuple[int, Line]]:
        """(where it begins in the file, line) of what was added since the last time."""
        try:
            file = self._path.open("rb")
        except OSError:  # none yet, or not to be read: nothing is known from it
            return
        with file:
            file.seek(self._read)
            for raw in file:
                if not raw.endswith(b"\n"):  # still being written
                    return
                at, self._read = self._read, self._read + len(raw)
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield at, line


def listed(line: Line, key: str) -> list[Any]:
    """A journal that came with somebody's dataset may say anything: what is no list is an empty one."""
    value = line.get(key)
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the journal tells of a caption: all but what a list shows stays on disk until it is asked for."""

    run: Path
    at: int
    flags: tuple[str, ...]

    def line(self) -> Line:
        with self.run.open("rb") as file:
            file.seek(self.at)
            told: Line = json.loads(file.readline())
        return told

    def told_settings(self) -> dict[str, Any]:
        """As the run wrote them; of a caption that was offered and taken, as the run that made it."""
        header: Line = next((line for _, line in Tail(self.run).new()), {})
        settings = self.line().get("settings") or header.get("settings")
        return settings if isinstance(settings, dict) else {}

    def settings(self) -> Settings | None:
        """None where another version wrote them in another way."""
        try:
            return Settings.model_validate(self.told_settings())
        except ValueError:
            return None


class Origins:
    """Of one store. Call `refresh` for what was written since."""

    def __init__(self, store: Path) -> None:
        self._runs = store / DOT_FOLDER / "runs"
        self._tails: dict[Path, Tail] = {}
        self._made: dict[tuple[str, str], Origin] = {}
        self._failed: dict[str, str] = {}

    def refresh(self) -> None:
        for run in sorted(self._runs.glob("*.jsonl")):
            for at, line in self._tails.setdefault(run, Tail(run)).new():
                match line:
                    case {"kind": "caption", "path": str(path), "caption_file": str(file), "digest": str(digest)}:
                        flags = (flag for flag in listed(line, "flags") if isinstance(flag, str))
                        self._made[file, digest] = Origin(run, at, tuple(flags))
                        self._failed.pop(path, None)
                    case {"kind": "failure", "path": str(path), "error": str(error)}:
                        self._failed[path] = error

    def of(self, caption_file: str, digest: str) -> Origin | None:
        """None for a caption that we never wrote: a person's."""
        return self._made.get((caption_file, digest))

    def failure(self, name: str) -> str | None:
        """Why the item failed, where that is the last that is told of it."""
        return self._failed.get(name)
