"""Captions as rows of parquet files, for datasets that are too large for one `.txt` file per caption.

A run writes files `captions-<run>.<number>.parquet` into --output. Each write is atomic, and no file changes later. An
item is done when a row has its path. The columns:

    path       the media's path relative to the given folder, after the folder's or tar's name if there are several
    caption    the content that a `.txt` would have
    captions   one caption per prompt
    flags      the flags of the caption
    kind       image or clip
    media, model, recipe    the media's fingerprint, the model and the settings hash, as in the journal
"""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import CaptionerError, StartError, StorageError
from ..storage import filesystem
from ..types import Captioned, MediaItem
from . import sidecar
from .journal import Journal, JournalRecord

_READ_THREADS = 16  # because a request to an object store mostly waits
_ROWS_PER_FILE, _FLUSH_INTERVAL_S = 128, 30.0  # a killed process loses at most one file of captions


def row_path(item: MediaItem) -> str:
    """Return the value of the column `path`. Parquet cannot store bytes that are not UTF-8, so they are escaped."""
    return item.caption_file.removesuffix(".txt").encode("utf-8", "backslashreplace").decode()


def captioned_paths(store: Path) -> frozenset[str]:
    """Return the paths that have a row. Raises `StartError` if a file cannot be read."""
    import_pyarrow()
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        return frozenset(chain.from_iterable(pool.map(_paths, filesystem.glob_files(store, "captions-*.parquet"))))


def _paths(file: Path) -> list[str]:
    _, parquet = import_pyarrow()
    try:
        table = parquet.read_table(io.BytesIO(filesystem.read(file)), columns=["path"])
        return table["path"].to_pylist()  # type: ignore[no-any-return]
    except Exception as error:  # pyarrow has its own exceptions
        remedy = "restore it from a copy, or remove it to caption its media again"
        raise StartError(f"{file} cannot be read ({error}): {remedy}") from error


class ParquetWriter:
    """Buffers captions and writes them into parquet files. It syncs their journal records before it writes a file.

    Raises `StartError` if pyarrow is not installed.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._number = 0
        self._pending: list[tuple[Captioned, dict[str, Any]]] = []
        self._pending_since = 0.0
        import_pyarrow()

    @property
    def is_flush_due(self) -> bool:
        return len(self._pending) >= _ROWS_PER_FILE or bool(
            self._pending and time.monotonic() - self._pending_since > _FLUSH_INTERVAL_S
        )

    def present(self, item: MediaItem) -> None:
        """Return None: a plan leaves out what has a row, and the lock keeps other runs away. A `.txt` is no row."""

    def write(self, captioned: Captioned, record: JournalRecord, *, expected: bytes | None) -> None:
        """Append the journal record and buffer the caption. expected: unused, because no row is ever replaced."""
        self._journal.append(captioned.item.store, record, sync=False)
        if not self._pending:
            self._pending_since = time.monotonic()
        row = {name: record[name] for name in ("media", "model", "recipe")}
        row |= {"path": row_path(captioned.item), "caption": captioned.caption, "kind": record["media_kind"]}
        self._pending.append((captioned, row | {"captions": captioned.captions, "flags": captioned.flags}))

    def flush(self) -> list[Captioned]:
        """Write the buffered captions into one file, and return them. Raises `StorageError`."""
        self._journal.flush()
        if not self._pending:
            return []
        pa, parquet = import_pyarrow()
        texts = {name: pa.string() for name in ("path", "caption", "kind", "media", "model", "recipe")}
        lists = {name: pa.list_(pa.string()) for name in ("captions", "flags")}
        content = io.BytesIO()
        rows = [row for _, row in self._pending]
        parquet.write_table(pa.Table.from_pylist(rows, schema=pa.schema(texts | lists)), content)
        store = self._pending[0][0].item.store  # always --output
        self._number += 1
        file = store / f"captions-{self._journal.run_id}.{self._number:05d}.parquet"
        try:
            sidecar.write(file, content.getvalue(), store)
            if filesystem.is_local(file):
                sidecar.fsync_parents(file, store)
        except CaptionerError as error:
            raise StorageError(str(error)) from error
        written, self._pending = [captioned for captioned, _ in self._pending], []
        return written


def import_pyarrow(feature: str = "--captions-to parquet") -> tuple[Any, Any]:
    """Return pyarrow and its module parquet. Raises `StartError` if it is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise StartError(f"{feature} requires pyarrow: pip install 'gemma-captioner[export]'") from error
    return pyarrow, parquet
