"""Writes outcomes to disk: first the journal record, then the caption, as a `.txt` or as a row of a parquet file.

It does not change the text of a caption. What it replaces is in the journal: a caption that appears or changes after it
was read for that record stays.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from ..config.settings import Settings
from ..dataset import sidecar
from ..dataset.journal import Journal, JournalRecord
from ..dataset.parquet import ParquetWriter
from ..errors import ItemError, StorageError
from ..types import Captioned, Failed, MediaItem, Outcome, Skipped
from .planner import OverwritePolicy

_CAPTION_EXISTS = "a caption was written there during the run"


class CaptionWriter(Protocol):
    """Stores captions in one format. It always writes the journal record of a caption before the caption."""

    @property
    def is_flush_due(self) -> bool:
        """Whether enough captions are buffered for a `flush`."""
        ...

    def present(self, item: MediaItem) -> bytes | None:
        """Return the caption that the item has in this format, or None. Raises the errors of `sidecar.read`."""
        ...

    def write(self, captioned: Captioned, record: JournalRecord, *, expected: bytes | None) -> Captioned | None:
        """Store a caption. Returns None while the caption is buffered. Raises the errors of `sidecar.write`.

        expected: The caption that it may replace, None for none.
        """
        ...

    def flush(self) -> list[Captioned]:
        """Store the buffered captions, and return them. Raises `StorageError`."""
        ...


class TxtWriter:
    """Writes each caption into its `.txt` at once."""

    is_flush_due = False

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def present(self, item: MediaItem) -> bytes | None:
        return sidecar.read(item.caption_path) or None

    def write(self, captioned: Captioned, record: JournalRecord, *, expected: bytes | None) -> Captioned:
        item = captioned.item
        sidecar.write(
            item.caption_path,
            captioned.caption.encode(),
            item.store,
            lambda: self._journal.append(item.store, record),
            expected=expected,
        )
        return captioned

    def flush(self) -> list[Captioned]:
        return []


WRITERS: dict[str, Callable[[Journal], CaptionWriter]] = {"txt": TxtWriter, "parquet": ParquetWriter}


class OutcomeWriter:
    """Stores the outcomes of one run: captions through a `CaptionWriter`, failures in the journal, which it owns."""

    def __init__(self, settings: Settings, run_id: str, *, stores: int | None = None) -> None:
        self._overwrite = OverwritePolicy(settings)
        self._stores = stores
        self._write_errors: dict[Path, str | None] = {}  # by store
        self._journal = Journal(run_id, _header(settings))
        self._captions = WRITERS[settings.selection.captions_to](self._journal)
        self._stored: deque[Captioned] = deque()  # on disk, and not yielded yet

    def write_error(self, store: Path) -> str | None:
        """Return why this store cannot be written, or None. Raises `StorageError` if it is the only store."""
        if store not in self._write_errors:
            self._write_errors[store] = None
            try:
                sidecar.prepare(store)
            except StorageError as error:
                if self._stores == 1:
                    raise
                self._write_errors[store] = str(error)
        return self._write_errors[store]

    def store(self, captioned: Captioned, record: JournalRecord) -> Outcome | None:
        """Store a caption, and return the outcome. Returns None while the caption is buffered. Raises `StorageError`.

        `record` is the journal record without the digest and the replaced text.
        """
        item = captioned.item
        try:
            present = self._captions.present(item)
            if present and not self._overwrite.allows(item):
                return Skipped(item, _CAPTION_EXISTS)
            record = record | {
                "digest": sidecar.digest(captioned.caption.encode()),
                "replaced": None if present is None else present.decode("utf-8", "surrogateescape"),
            }
            return self._captions.write(captioned, record, expected=present)
        except sidecar.CaptionExistsError:
            return Skipped(item, _CAPTION_EXISTS)
        except ItemError as error:
            return self.record(Failed(item, str(error)))

    def record(self, outcome: Outcome) -> Outcome:
        """Append a failure to the journal. Returns the outcome."""
        if isinstance(outcome, Failed):
            record: JournalRecord = {"kind": "failure", "path": outcome.item.name, "error": outcome.error}
            if outcome.rejected:
                record["rejected"] = outcome.rejected
            # A folder that cannot be listed or written may have no journal. The summary reports the failure.
            with suppress(ItemError):
                self._journal.append(outcome.item.store, record, sync=False)
        return outcome

    @property
    def is_flush_due(self) -> bool:
        return self._captions.is_flush_due

    def flush(self) -> Iterator[Captioned]:
        """Store the buffered captions, and yield them. Raises `StorageError`."""
        self._stored.extend(self._captions.flush())
        yield from self.take_stored()

    def take_stored(self) -> Iterator[Captioned]:
        """Yield the captions on disk that `flush` has not yielded, because `close` stored them or the run ended."""
        while self._stored:
            yield self._stored.popleft()

    def close(self) -> None:
        """Store the buffered captions and close the journal. Call it also when the run ends early."""
        try:
            self._stored.extend(self._captions.flush())
        finally:
            self._journal.close()


def _header(settings: Settings) -> JournalRecord:
    dumped = settings.model_dump(mode="json", by_alias=True, exclude={"model": {"hf_token"}})
    return {"version": version("gemma-captioner"), "completes": True, "settings": dumped}
