"""Finds the journal records of captions and failures. Each journal is read once, then as it grows."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.settings import Settings
from ..dataset.journal import JournalReader, JournalRecord, parse_caption_record, read_journal, read_record
from ..dataset.sidecar import DOT_FOLDER


@dataclass(frozen=True, slots=True)
class Provenance:
    """The place of a caption's journal record: offset `at` in the file `run`. The record is read on demand."""

    run: Path
    at: int
    flags: tuple[str, ...]

    def record(self) -> JournalRecord:
        return read_record(self.run, self.at)

    def recorded_settings(self) -> dict[str, Any]:
        """The settings of the run that made the caption, for an accepted proposal too."""
        header: JournalRecord = next(read_journal(self.run), {})
        settings = self.record().get("settings") or header.get("settings")
        return settings if isinstance(settings, dict) else {}

    def settings(self) -> Settings | None:
        """None if another version wrote settings that this one cannot read."""
        try:
            return Settings.model_validate(self.recorded_settings())
        except ValueError:
            return None


class ProvenanceIndex:
    """The records of one store. `refresh` reads new ones."""

    def __init__(self, store: Path) -> None:
        self._runs = store / DOT_FOLDER / "runs"
        self._readers: dict[Path, JournalReader] = {}
        self._captioned: dict[tuple[str, str], Provenance] = {}
        self._failed: dict[str, str] = {}

    def refresh(self) -> None:
        for run in sorted(self._runs.glob("*.jsonl")):
            with suppress(OSError):  # unreadable: its captions count as written by a person
                self._add(run)

    def _add(self, run: Path) -> None:
        for at, record in self._readers.setdefault(run, JournalReader(run)).read():
            if (made := parse_caption_record(record)) is not None:
                self._captioned[made.caption_file, made.digest] = Provenance(run, at, made.flags)
                self._failed.pop(made.path, None)
            match record:
                case {"kind": "failure", "path": str(path), "error": str(error)}:
                    self._failed[path] = error

    def of(self, caption_file: str, digest: str) -> Provenance | None:
        """Return None for a caption without a record, which a person wrote."""
        return self._captioned.get((caption_file, digest))

    def failure(self, name: str) -> str | None:
        """Return the error of the item's last run, None if it has succeeded since."""
        return self._failed.get(name)
