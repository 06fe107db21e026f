"""What the journals tell of the captions: how each came about, what failed. Read once, then as they grow."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.settings import Settings
from ..dataset.journal import JournalReader, JournalRecord, read_journal, read_line
from ..dataset.sidecar import DOT_FOLDER


def list_field(line: JournalRecord, key: str) -> list[Any]:
    """A journal that came with somebody's dataset may say anything: what is no list is an empty one."""
    value = line.get(key)
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the journal tells of a caption: all but what a list shows stays on disk until it is asked for."""

    run: Path
    at: int
    flags: tuple[str, ...]

    def line(self) -> JournalRecord:
        return read_line(self.run, self.at)

    def recorded_settings(self) -> dict[str, Any]:
        """As the run wrote them; of a caption that was offered and taken, as the run that made it."""
        header: JournalRecord = next(read_journal(self.run), {})
        settings = self.line().get("settings") or header.get("settings")
        return settings if isinstance(settings, dict) else {}

    def settings(self) -> Settings | None:
        """None where another version wrote them in another way."""
        try:
            return Settings.model_validate(self.recorded_settings())
        except ValueError:
            return None


class ProvenanceIndex:
    """Of one store. Call `refresh` for what was written since."""

    def __init__(self, store: Path) -> None:
        self._runs = store / DOT_FOLDER / "runs"
        self._readers: dict[Path, JournalReader] = {}
        self._made: dict[tuple[str, str], Provenance] = {}
        self._failed: dict[str, str] = {}

    def refresh(self) -> None:
        for run in sorted(self._runs.glob("*.jsonl")):
            with suppress(OSError):  # what it would tell is unknown: its captions count as a person's
                self._add(run)

    def _add(self, run: Path) -> None:
        for at, line in self._readers.setdefault(run, JournalReader(run)).read():
            match line:
                case {"kind": "caption", "path": str(path), "caption_file": str(file), "digest": str(digest)}:
                    flags = (flag for flag in list_field(line, "flags") if isinstance(flag, str))
                    self._made[file, digest] = Provenance(run, at, tuple(flags))
                    self._failed.pop(path, None)
                case {"kind": "failure", "path": str(path), "error": str(error)}:
                    self._failed[path] = error

    def of(self, caption_file: str, digest: str) -> Provenance | None:
        """None for a caption that we never wrote: a person's."""
        return self._made.get((caption_file, digest))

    def failure(self, name: str) -> str | None:
        """Why the item failed, where that is the last that is told of it."""
        return self._failed.get(name)
