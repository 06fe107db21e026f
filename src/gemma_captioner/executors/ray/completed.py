"""What actors that died had finished: whoever takes their files over asks here first."""

from pathlib import Path

from ...dataset import parquet, sidecar
from ...dataset.journal import JournalRecord, journal_path, read_journal
from ...errors import ItemError
from ...storage.filesystem import glob_files
from ...types import Captioned, Failed, MediaItem, Outcome


class CompletedItems:
    """What actors of this run that died had finished: their lines in the journal, where the captions bear them out."""

    def __init__(self, run_id: str, *, as_rows: bool = False) -> None:
        """as_rows: by --captions-to parquet."""
        self._run_id, self._as_rows = run_id, as_rows
        self._rows: frozenset[str] | None = None
        self._lines: dict[Path, dict[str, JournalRecord]] = {}  # by store, then by the item's name

    def outcome(self, item: MediaItem) -> Outcome | None:
        if item.store not in self._lines:
            of_all = journal_path(item.store, f"{self._run_id}.*")
            runs = glob_files(of_all.parent, of_all.name)
            self._lines[item.store] = {
                line["path"]: line for run in runs for line in read_journal(run) if "path" in line
            }
        line = self._lines[item.store].get(item.name)
        if line is None:
            return None
        if line["kind"] == "failure":
            return Failed(item, line["error"], rejected=tuple(line.get("rejected", ())))
        if (caption := self._caption(item, line)) is None:
            return None  # the actor died between the line and what it tells of
        return Captioned(
            item,
            caption,
            tuple(line["captions"]),
            tuple(line["flags"]),
            len(line["frame_times_s"]),
            line["prompt_tokens"],
            line["new_tokens"],
            line["seconds"],
        )

    def _caption(self, item: MediaItem, line: JournalRecord) -> str | None:
        """The one of this line, where it is stored."""
        if self._as_rows:
            if self._rows is None:
                self._rows = parquet.captioned_paths(item.store)
            several = line["captions"]
            stored = [several[0], "\n".join(dict.fromkeys(several))] if parquet.row_path(item) in self._rows else []
        else:
            try:
                stored = [(sidecar.read(item.caption_path) or b"").decode()]
            except (ItemError, UnicodeDecodeError):
                return None
        return next((text for text in stored if sidecar.digest(text.encode()) == line["digest"]), None)
