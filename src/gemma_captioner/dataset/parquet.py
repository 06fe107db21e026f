"""Captions as rows of parquet files, where a million small files would hurt: what stands in a part is done.

A part is written whole or not at all, `captions-<run>.<number>.parquet` in --output, and never again. Its rows:

    path       of the media within the folder that was given; of several folders and of tars, behind its name
    caption    as the `.txt` would hold it
    captions   of each prompt
    flags
    kind       image or clip
    media      the media's fingerprint, as the journal has it
    model, recipe    what made it, as the journal has it
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

_READ_THREADS = 16  # parts, which in a bucket are waited for one by one
_ROWS_PER_FILE, _FLUSH_INTERVAL_S = 128, 30.0  # of a part; a kill costs at the most one part of each process


def row_path(item: MediaItem) -> str:
    """What a row calls it; bytes that are no UTF-8, which parquet does not hold, escaped."""
    return item.caption_file.removesuffix(".txt").encode("utf-8", "backslashreplace").decode()


def captioned_paths(store: Path) -> frozenset[str]:
    """The paths that have a row. Raises `StartError` where a part cannot be read."""
    _pyarrow()
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        return frozenset(chain.from_iterable(pool.map(_paths, filesystem.glob_files(store, "captions-*.parquet"))))


def _paths(part: Path) -> list[str]:
    _, parquet = _pyarrow()
    try:
        table = parquet.read_table(io.BytesIO(filesystem.read(part)), columns=["path"])
        return table["path"].to_pylist()  # type: ignore[no-any-return]
    except Exception as error:  # pyarrow's own kinds
        remedy = "mend it, or take it away to caption its files again"
        raise StartError(f"{part} cannot be read ({error}): {remedy}") from error


class ParquetWriter:
    """Holds captions until their part is written; they are no outcomes before. Raises `StartError` without pyarrow."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._number = 0
        self._pending: list[tuple[Captioned, dict[str, Any]]] = []
        self._pending_since = 0.0
        _pyarrow()

    @property
    def is_flush_due(self) -> bool:
        return len(self._pending) >= _ROWS_PER_FILE or bool(
            self._pending and time.monotonic() - self._pending_since > _FLUSH_INTERVAL_S
        )

    def add(self, captioned: Captioned, line: dict[str, Any]) -> None:
        """line: what the journal has of it."""
        if not self._pending:
            self._pending_since = time.monotonic()
        row = {name: line[name] for name in ("media", "model", "recipe")}
        row |= {"path": row_path(captioned.item), "caption": captioned.caption, "kind": line["media_kind"]}
        self._pending.append((captioned, row | {"captions": captioned.captions, "flags": captioned.flags}))

    def write(self) -> list[Captioned]:
        """One part, of all that is held: what has come true with it. Raises `StorageError`."""
        if not self._pending:
            return []
        pa, parquet = _pyarrow()
        texts = {name: pa.string() for name in ("path", "caption", "kind", "media", "model", "recipe")}
        lists = {name: pa.list_(pa.string()) for name in ("captions", "flags")}
        content = io.BytesIO()
        rows = [row for _, row in self._pending]
        parquet.write_table(pa.Table.from_pylist(rows, schema=pa.schema(texts | lists)), content)
        store = self._pending[0][0].item.store  # --output is the only one there is
        self._number += 1
        part = store / f"captions-{self._run_id}.{self._number:05d}.parquet"
        try:
            sidecar.write(part, content.getvalue(), store)
            if filesystem.is_local(part):
                sidecar.fsync_parents(part, store)
        except CaptionerError as error:
            raise StorageError(str(error)) from error
        written, self._pending = [captioned for captioned, _ in self._pending], []
        return written


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise StartError("--captions-to parquet needs pyarrow: pip install 'gemma-captioner[export]'") from error
    return pyarrow, parquet
