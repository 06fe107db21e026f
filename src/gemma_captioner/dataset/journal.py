"""The journal: how each caption was made. `.gemma-captioner/runs/<run-id>.jsonl`, append-only, one writer per file.

The field `kind` names the type of a record:
    run       the settings, the model and the version; the first record of each file
    caption   a caption, written before its `.txt` is renamed into place. If the digest differs from the `.txt`, the
              run stopped between the two, or a person edited the caption later
    failure   an item that failed
    edit      a caption that a person wrote, or removed (digest null)
    trash     a media file that a person moved to the trash or back
    restore   a caption that `restore` brought back
    fix       a caption that `check --fix` changed; it counts as a person's caption from then on
    complete  the run left nothing undone. A run with `completes` in its first record and without this record can resume
No record holds a token or a key.

Object stores cannot append. There, a run writes its records in parts, `<run-id>.<number>.jsonl`, every few seconds, and
always before it overwrites a caption. If the run is killed, the records of the last seconds are lost: their captions
count as a person's. The text of an overwritten caption is never lost.
"""

import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO

from ..storage.filesystem import glob_files, is_local, put, read, version_tag
from ..text import parse_json
from ..types import Kind
from . import sidecar
from .sidecar import DOT_FOLDER

JournalRecord = dict[str, Any]
_LINES_PER_PART, _FLUSH_INTERVAL_S = 500, 10.0


def new_run_id() -> str:
    """Return a new id such as `20261122-151039-417033-9f`. Ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(1)}"


def fingerprint(path: Path) -> str:
    """Return a string that changes when the file changes: `<bytes>:<modification time in ns>` for a local file."""
    if not is_local(path):
        return version_tag(path)
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


class Journal:
    """Writes the journal of one run: one file in each store, created with its first record."""

    def __init__(self, run_id: str, header: JournalRecord) -> None:
        self.run_id = run_id
        self._header = {"kind": "run", "run": run_id, **header}
        self._files: dict[Path, _LocalJournal | _ObjectStoreJournal] = {}

    def append(self, store: Path, record: JournalRecord, *, sync: bool = True) -> None:
        """Append a record. Without `sync`, call `flush` later. Raises the errors of `sidecar.storage_error`."""
        try:
            file = self._files.get(store)
            if file is None:
                path = journal_path(store, self.run_id)
                file = self._files[store] = _LocalJournal(path, store) if is_local(path) else _ObjectStoreJournal(path)
                file.write(_encode(self._header))
            file.write(_encode({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **record}))
            if sync:
                file.flush(now=record.get("replaced") is not None)
        except OSError as error:
            raise sidecar.storage_error(error, journal_path(store, self.run_id)) from error

    def flush(self) -> None:
        """Store all records on disk. Raises the errors of `sidecar.storage_error`."""
        for store, file in self._files.items():
            with sidecar.map_storage_errors(journal_path(store, self.run_id)):
                file.flush(now=True)

    def close(self) -> None:
        for store, file in self._files.items():
            with sidecar.map_storage_errors(journal_path(store, self.run_id)):
                file.close()


def change_record(
    kind: str, path: str | None, caption_file: str, before: bytes | None, after: bytes | None
) -> JournalRecord:
    """Return the record of a changed caption. before, after: the bytes of the `.txt`, None for no file."""
    return {
        "kind": kind,
        "path": path,
        "caption_file": caption_file,
        "digest": None if after is None else sidecar.digest(after),
        "replaced": None if before is None else before.decode("utf-8", "surrogateescape"),
    }


def _encode(record: JournalRecord) -> bytes:
    # `dumps` writes ASCII, so a file name that is not valid UTF-8 is stored as an escaped surrogate.
    return json.dumps(record).encode() + b"\n"


class _LocalJournal:
    """The journal file of a run on this machine."""

    def __init__(self, path: Path, store: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")
        sidecar.fsync_parents(path, store)
        self._is_synced = True

    def write(self, line: bytes) -> None:
        self._is_synced = False
        self._file.write(line)
        self._file.flush()

    def flush(self, *, now: bool) -> None:
        if not self._is_synced:
            os.fsync(self._file.fileno())
            self._is_synced = True

    def close(self) -> None:
        self._file.close()


class _ObjectStoreJournal:
    """The journal of a run in an object store. It buffers lines until the next part is due."""

    def __init__(self, path: Path) -> None:
        self._path, self._number = path, 0
        self._lines: list[bytes] = []
        self._last_flush = time.monotonic()

    def write(self, line: bytes) -> None:
        self._lines.append(line)

    def flush(self, *, now: bool) -> None:
        is_due = now or len(self._lines) >= _LINES_PER_PART or time.monotonic() - self._last_flush > _FLUSH_INTERVAL_S
        if self._lines and is_due:
            self._number += 1
            part = self._path.with_name(f"{self._path.stem}.{self._number:05d}.jsonl")
            put(part, b"".join(self._lines))
            self._lines, self._last_flush = [], time.monotonic()

    def close(self) -> None:
        self.flush(now=True)


def journal_path(store: Path, run_id: str) -> Path:
    return store / DOT_FOLDER / "runs" / f"{run_id}.jsonl"


class JournalReader:
    """Reads a growing file of JSON lines: `runs/*.jsonl` and `reviews.jsonl`.

    It skips lines that are not a JSON object. It reads an incomplete last line again at the next call, because another
    process may still be writing it.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        """Start at the line at `offset`, in bytes."""
        self._path, self._offset = path, offset

    def read(self) -> Iterator[tuple[int, JournalRecord]]:
        """Yield (offset, record) for each line that was added since the last call. Raises `OSError`."""
        with self._path.open("rb") if is_local(self._path) else BytesIO(read(self._path)) as file:
            file.seek(self._offset)
            for line in file:
                record, offset = _decode(line), self._offset
                if record is not None or line.endswith(b"\n"):
                    self._offset += len(line)
                if record is not None:
                    yield offset, record


def _decode(line: bytes) -> JournalRecord | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def read_journal(path: Path) -> Iterator[JournalRecord]:
    """Yield the records of one file. Raises `OSError`."""
    return (record for _, record in JournalReader(path).read())


def read_record(path: Path, offset: int) -> JournalRecord:
    """Return the record of the line at byte `offset`. Raises `OSError`, and `ValueError` if no line starts there."""
    start, record = next(JournalReader(path, offset).read(), (None, {}))
    if start != offset:
        raise ValueError(f"{path}: no line starts at byte {offset}")
    return record


def read_journals(store: Path) -> Iterator[JournalRecord]:
    """Yield the records of all runs, oldest run first."""
    for path in glob_files(store / DOT_FOLDER / "runs", "*.jsonl"):
        try:
            yield from read_journal(path)
        except OSError:
            continue  # the captions of this run then count as a person's, so that no run overwrites them


def mark_complete(stores: Iterable[Path], run_id: str) -> None:
    """Record that the run left nothing undone, in each store that has a journal of it."""
    line = _encode({"kind": "complete", "run": run_id})
    for path in (journal_path(store, run_id) for store in stores):
        with suppress(OSError):  # without the record, the run counts as unfinished, which costs nothing
            if not glob_files(path.parent, f"{run_id}.*"):
                continue
            if is_local(path):
                with path.open("ab") as file:
                    file.write(line)
            else:
                put(path.with_name(f"{run_id}.complete.jsonl"), line)


def unfinished_run(store: Path) -> JournalRecord | None:
    """Return the first record of the latest captioning run, if that run left something undone."""
    runs = groupby(glob_files(store / DOT_FOLDER / "runs", "*.jsonl"), key=lambda path: path.name.partition(".")[0])
    for paths in reversed([list(paths) for _, paths in runs]):
        with suppress(OSError):
            records = chain.from_iterable(map(read_journal, paths))
            header = next(records, {})
            if "settings" in header:
                is_complete = any(record.get("kind") == "complete" for record in records)
                return None if is_complete or not header.get("completes") else header
    return None


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """How the tool made a caption."""

    path: str  # the name of the media file
    caption_file: str
    digest: str  # of the caption
    settings_hash: str
    media: str  # the fingerprint of the media file
    kind: Kind  # by content
    flags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()  # one per prompt; empty for a single prompt
    run: str = ""  # the id of the run
    metadata: str | None = None  # the digest of the values that its prompts took from --metadata
    transcript: str | None = None  # the digest of the transcript that its prompts used
    context: str | None = None  # the digest of the references and source images that the model saw


def parse_caption_record(record: JournalRecord, run: str = "") -> CaptionRecord | None:
    """Return None for a record of another kind. A journal may come from anybody: a field of a wrong type is ignored."""
    match record:
        case {"kind": "caption", "path": str(path), "caption_file": str(file), "digest": str(digest)}:
            captions = _strings(record, "captions")
            return CaptionRecord(
                path,
                file,
                digest,
                settings_hash=_string(record, "recipe") or "",
                media=_string(record, "media") or "",
                kind="clip" if record.get("media_kind") == "clip" else "image",
                flags=_strings(record, "flags"),
                captions=captions if len(captions) > 1 else (),
                run=run,
                metadata=_string(record, "metadata"),
                transcript=_string(record, "transcript"),
                context=_string(record, "context"),
            )
    return None


def list_field(record: JournalRecord, key: str) -> list[Any]:
    """Return the list under `key`, [] for any other type."""
    value = record.get(key)
    return value if isinstance(value, list) else []


def _strings(record: JournalRecord, key: str) -> tuple[str, ...]:
    return tuple(value for value in list_field(record, key) if isinstance(value, str))


def _string(record: JournalRecord, key: str) -> str | None:
    value = record.get(key)
    return value if isinstance(value, str) else None


class History:
    """The journals of a store: how each caption was made, and which items failed last."""

    def __init__(self, store: Path) -> None:
        self._records: dict[tuple[str, str], CaptionRecord] = {}
        self._failed: set[str] = set()
        self._unfinished: dict[str, JournalRecord] = {}  # run id -> the selection settings of the run
        run = ""
        for record in read_journals(store):
            if (made := parse_caption_record(record, run)) is not None:
                self._records[made.caption_file, made.digest] = made
                self._failed.discard(made.path)
            match record:
                case {"kind": "run"}:
                    run = str(record.get("run")).partition(".")[0]
                    match record:
                        case {"completes": True, "settings": {"selection": dict(selection)}}:
                            self._unfinished[run] = selection
                case {"kind": "complete", "run": str(completed)}:
                    ended = self._unfinished.pop(completed, {})
                    for earlier in [r for r in self._unfinished if _replaces_alike(self._unfinished[r], ended)]:
                        del self._unfinished[earlier]
                case {"kind": "failure", "path": str(path)}:
                    self._failed.add(path)

    def caption_record(self, caption_file: str, digest: str) -> CaptionRecord | None:
        """Return the record of a caption. None for a caption that a person wrote or edited."""
        return self._records.get((caption_file, digest))

    def is_unfinished(self, run: str, selection: JournalRecord) -> bool:
        """Return whether the run replaces the same captions as this selection, and left something undone."""
        return run in self._unfinished and _replaces_alike(self._unfinished[run], selection)

    def failed(self, name: str) -> bool:
        """Return whether the item failed in the last run that recorded it."""
        return name in self._failed


def _replaces_alike(one: JournalRecord, other: JournalRecord) -> bool:
    return all(one.get(name) == other.get(name) for name in ("existing", "only", "shard"))
