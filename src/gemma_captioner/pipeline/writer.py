"""Outcome -> disk: a caption's journal line, then the caption, as a `.txt` or as a row of a parquet file.

It decides nothing about a caption's words. A caption that somebody wrote since the run was planned is not replaced.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from ..config.settings import Settings
from ..dataset import sidecar
from ..dataset.journal import Journal, JournalRecord
from ..dataset.parquet import ParquetWriter
from ..errors import ItemError, StorageError
from ..types import Captioned, Failed, Outcome, Skipped
from .planner import OverwritePolicy

_CAPTION_EXISTS = "a caption was written there meanwhile"


class CaptionWriter(Protocol):
    """Stores captions in one format. The journal line of a caption is always written before the caption."""

    @property
    def is_flush_due(self) -> bool:
        """Whether it holds enough for a `flush`."""
        ...

    def write(self, captioned: Captioned, line: JournalRecord, *, replace: bool) -> Captioned | None:
        """The caption once it is stored; None while it is held for `flush`.

        Raises `sidecar.CaptionExistsError` where a caption is present and `replace` is false, and what `storage_error` says.
        """
        ...

    def flush(self) -> list[Captioned]:
        """Store what is held, and return it. Raises `StorageError`."""
        ...


class TxtWriter:
    """A `.txt` for each caption, stored at once."""

    is_flush_due = False

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, captioned: Captioned, line: JournalRecord, *, replace: bool) -> Captioned:
        item = captioned.item
        sidecar.write(
            item.caption_path,
            captioned.caption.encode(),
            item.store,
            lambda: self._journal.append(item.store, line),
            replace=replace,
        )
        return captioned

    def flush(self) -> list[Captioned]:
        return []


class RowWriter:
    """Rows of parquet files, many at once. Their journal lines are synced before the file that holds the rows."""

    def __init__(self, journal: Journal) -> None:
        """Raises `StartError` without pyarrow."""
        self._journal = journal
        self._parquet = ParquetWriter(journal.run_id)

    @property
    def is_flush_due(self) -> bool:
        return self._parquet.is_flush_due

    def write(self, captioned: Captioned, line: JournalRecord, *, replace: bool) -> None:
        self._journal.append(captioned.item.store, line, sync=False)
        self._parquet.add(captioned, line)

    def flush(self) -> list[Captioned]:
        self._journal.flush()
        return self._parquet.write()


WRITERS: dict[str, Callable[[Journal], CaptionWriter]] = {"txt": TxtWriter, "parquet": RowWriter}


class OutcomeWriter:
    """Stores the outcomes of one run: captions through a `CaptionWriter`, failures in the journal. Owns the journal.

    stores: how many folders hold a journal, where that is known: a single one that cannot be written ends the run.
    """

    def __init__(self, settings: Settings, run_id: str, *, stores: int | None = None) -> None:
        self._overwrite = OverwritePolicy(settings)
        self._stores = stores
        self._write_errors: dict[Path, str | None] = {}  # by store
        self._journal = Journal(run_id, _header(settings))
        self._captions = WRITERS[settings.selection.captions_to](self._journal)

    def write_error(self, store: Path) -> str | None:
        """Why this folder cannot be written, None where it can. Raises `StorageError` where it is the only one."""
        if store not in self._write_errors:
            self._write_errors[store] = None
            try:
                sidecar.prepare(store)
            except StorageError as error:
                if self._stores == 1:
                    raise
                self._write_errors[store] = str(error)
        return self._write_errors[store]

    def store(self, captioned: Captioned, line: JournalRecord) -> Outcome | None:
        """The outcome once it is on disk; None while the caption is held for `flush`. Raises `StorageError`.

        line: of the journal, but for the digest and the words that are replaced.
        """
        item = captioned.item
        try:
            present = sidecar.read(item.caption_path) or None
            replace = self._overwrite.allows(item)
            if present and not replace:
                return Skipped(item, _CAPTION_EXISTS)
            line = line | {
                "digest": sidecar.digest(captioned.caption.encode()),
                "replaced": None if present is None else present.decode("utf-8", "surrogateescape"),
            }
            return self._captions.write(captioned, line, replace=replace)
        except sidecar.CaptionExistsError:
            return Skipped(item, _CAPTION_EXISTS)
        except ItemError as error:
            return self.record(Failed(item, str(error)))

    def record(self, outcome: Outcome) -> Outcome:
        """The outcome; a failure is written into the journal first."""
        if isinstance(outcome, Failed):
            line: JournalRecord = {"kind": "failure", "path": outcome.item.name, "error": outcome.error}
            if outcome.rejected:
                line["rejected"] = outcome.rejected
            # A folder that cannot be listed or written holds no journal either; the summary reports the failure.
            with suppress(ItemError):
                self._journal.append(outcome.item.store, line, sync=False)
        return outcome

    @property
    def is_flush_due(self) -> bool:
        return self._captions.is_flush_due

    def flush(self) -> list[Captioned]:
        """Store what is held, and return it. Raises `StorageError`."""
        return self._captions.flush()

    def close(self) -> None:
        """Whatever ends the run: what is held is stored, though nobody is told of it."""
        try:
            self.flush()
        finally:
            self._journal.close()


def _header(settings: Settings) -> JournalRecord:
    dumped = settings.model_dump(mode="json", exclude={"model": {"hf_token"}})
    return {"version": version("gemma-captioner"), "settings": dumped}
