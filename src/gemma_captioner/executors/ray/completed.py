"""The outcomes of actors that died. An actor that takes over their files looks here first."""

from pathlib import Path

from ...dataset import parquet, sidecar
from ...dataset.journal import JournalRecord, journal_path, read_journal
from ...errors import ItemError
from ...storage.filesystem import glob_files
from ...types import Captioned, Failed, MediaItem, Outcome


class CompletedItems:
    """Finds finished items of this run in the journals of its actors, if their captions are on disk."""

    def __init__(self, run_id: str, *, as_rows: bool = False) -> None:
        """as_rows: Whether the run uses --captions-to parquet."""
        self._run_id, self._as_rows = run_id, as_rows
        self._rows: frozenset[str] | None = None
        self._records: dict[Path, dict[str, JournalRecord]] = {}  # by store, then by the item's name

    def outcome(self, item: MediaItem) -> Outcome | None:
        """Return the outcome of a finished item, or None."""
        if item.store not in self._records:
            pattern = journal_path(item.store, f"{self._run_id}.*")
            self._records[item.store] = {
                record["path"]: record
                for journal in glob_files(pattern.parent, pattern.name)
                for record in read_journal(journal)
                if "path" in record
            }
        record = self._records[item.store].get(item.name)
        if record is None:
            return None
        if record["kind"] == "failure":
            return Failed(item, record["error"], rejected=tuple(record.get("rejected", ())))
        if (caption := self._caption(item, record)) is None:
            return None  # the actor died after it wrote the record and before it wrote the caption
        return Captioned(
            item,
            caption,
            tuple(record["captions"]),
            tuple(record["flags"]),
            len(record["frame_times_s"]),
            record["prompt_tokens"],
            record["new_tokens"],
            record["seconds"],
        )

    def _caption(self, item: MediaItem, record: JournalRecord) -> str | None:
        """The caption of this record if it is on disk."""
        if self._as_rows:
            if self._rows is None:
                self._rows = parquet.captioned_paths(item.store)
            captions = record["captions"]
            stored = [captions[0], "\n".join(dict.fromkeys(captions))] if parquet.row_path(item) in self._rows else []
        else:
            try:
                stored = [(sidecar.read(item.caption_path) or b"").decode()]
            except (ItemError, UnicodeDecodeError):
                return None
        return next((text for text in stored if sidecar.digest(text.encode()) == record["digest"]), None)
