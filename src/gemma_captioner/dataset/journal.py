"""Where every caption came from: `.gemma-captioner/runs/<run-id>.jsonl`, append-only, one writer a file.

Lines, told apart by `kind`:
    run       settings, model and version, first in each file
    caption   one for each caption, written before its `.txt` is renamed into place: a line whose digest is not what
              the `.txt` holds is void (the run died between the two) or a person has edited since
    failure   one for each item that failed
    edit      one for each caption that a person wrote or (digest null) took away
    trash     one for each media file that a person moved to the trash or back
    restore   one for each caption brought back
    fix       one for each caption that `check --fix` mended: a person's from then on
Never a token or a key.

Object stores cannot append: there a run's lines go out in parts, `<run-id>.<number>.jsonl`, every few seconds, and at
once before a caption is overwritten. What a kill takes with it is where the captions of those seconds came from: they
then count as a person's. What was overwritten is never lost.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ItemError, StartError
from ..storage.filesystem import glob_files, is_local, put, read, version_tag
from ..types import Kind
from . import sidecar, trash
from .sidecar import DOT_FOLDER

JournalRecord = dict[str, Any]
_LINES_PER_PART, _FLUSH_INTERVAL_S = 500, 10.0


def new_run_id() -> str:
    """Sorts by time, to the microsecond: `20261122-151039-417033-9f`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(1)}"


def fingerprint(path: Path) -> str:
    """`<bytes>:<nanoseconds of the last change>`: differs once the media has changed."""
    if not is_local(path):
        return version_tag(path)
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


class Journal:
    """The run's own file in each store it touches, made at its first line."""

    def __init__(self, run_id: str, header: JournalRecord) -> None:
        self.run_id = run_id
        self._header = {"kind": "run", "run": run_id, **header}
        self._files: dict[Path, _LocalJournal | _ObjectStoreJournal] = {}

    def append(self, store: Path, line: JournalRecord, *, sync: bool = True) -> None:
        """Raises what `sidecar.storage_error` says."""
        path = journal_path(store, self.run_id)
        try:
            file = self._files.get(store)
            if file is None:
                file = self._files[store] = _LocalJournal(path, store) if is_local(path) else _ObjectStoreJournal(path)
                file.write(_encode(self._header))
            file.write(_encode({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}))
            if sync:
                file.flush(now=line.get("replaced") is not None)
        except OSError as error:
            raise sidecar.storage_error(error, path) from error

    def flush(self) -> None:
        """What was appended without. Raises what `sidecar.storage_error` says."""
        for store, file in self._files.items():
            try:
                file.flush(now=True)
            except OSError as error:
                raise sidecar.storage_error(error, journal_path(store, self.run_id)) from error

    def close(self) -> None:
        for store, file in self._files.items():
            try:
                file.close()
            except OSError as error:
                raise sidecar.storage_error(error, journal_path(store, self.run_id)) from error


def _encode(line: JournalRecord) -> bytes:
    # ASCII JSON: a file name that is no valid UTF-8 survives as an escaped surrogate.
    return json.dumps(line).encode() + b"\n"


class _LocalJournal:
    """A run's file on this machine."""

    def __init__(self, path: Path, store: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")
        sidecar.fsync_parents(path, store)

    def write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()

    def flush(self, *, now: bool) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _ObjectStoreJournal:
    """A run's file in an object store: what came since the last part is held until it is kept."""

    def __init__(self, path: Path) -> None:
        self._path, self._number = path, 0
        self._lines: list[bytes] = []
        self._last_flush = time.monotonic()

    def write(self, line: bytes) -> None:
        self._lines.append(line)

    def flush(self, *, now: bool) -> None:
        is_time = now or len(self._lines) >= _LINES_PER_PART or time.monotonic() - self._last_flush > _FLUSH_INTERVAL_S
        if self._lines and is_time:
            self._number += 1
            part = self._path.with_name(f"{self._path.stem}.{self._number:05d}.jsonl")
            put(part, b"".join(self._lines))
            self._lines, self._last_flush = [], time.monotonic()

    def close(self) -> None:
        self.flush(now=True)


def journal_path(store: Path, run_id: str) -> Path:
    return store / DOT_FOLDER / "runs" / f"{run_id}.jsonl"


class JournalReader:
    """Reads a file of JSON lines as it grows. The one parser of `runs/*.jsonl` and `reviews.jsonl`.

    It skips what is no JSON object. A last line that a crash has torn, or that is still being written, is read again
    the next time.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        """offset: in bytes, of the line to begin with."""
        self._path, self._offset = path, offset

    def read(self) -> Iterator[tuple[int, JournalRecord]]:
        """(offset, line) of each line that was added since the last call. Raises `OSError`."""
        with self._path.open("rb") if is_local(self._path) else BytesIO(read(self._path)) as file:
            file.seek(self._offset)
            for raw in file:
                line, offset = _decode(raw), self._offset
                if line is not None or raw.endswith(b"\n"):
                    self._offset += len(raw)
                if line is not None:
                    yield offset, line


def _decode(raw: bytes) -> JournalRecord | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def read_journal(path: Path) -> Iterator[JournalRecord]:
    """The lines of a run's file. Raises `OSError`."""
    return (line for _, line in JournalReader(path).read())


def read_line(path: Path, offset: int) -> JournalRecord:
    """The line that begins at this byte. Raises `OSError`, and `ValueError` where none begins there."""
    at, line = next(JournalReader(path, offset).read(), (None, {}))
    if at != offset:
        raise ValueError(f"{path}: no line begins at byte {offset}")
    return line


def read_journals(store: Path) -> Iterator[JournalRecord]:
    """The lines of all runs, oldest run first."""
    for path in glob_files(store / DOT_FOLDER / "runs", "*.jsonl"):
        try:
            yield from read_journal(path)
        except OSError:
            continue  # what it would tell is unknown: its captions count as a person's, and are left alone


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """How one of our captions came about. media: the file's fingerprint. kind: what its content was.

    captions: of each prompt, where there were several.
    """

    settings_hash: str
    media: str
    kind: Kind
    flags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


class History:
    """What the journal knows of a store's files: which captions are ours, how they came about, what failed at last."""

    def __init__(self, store: Path) -> None:
        self._records: dict[tuple[str, str], CaptionRecord] = {}
        self._failed: set[str] = set()
        for line in read_journals(store):
            match line:
                case {"kind": "caption", "path": path, "caption_file": str(file), "digest": str(digest)}:
                    captions = line.get("captions", [])
                    self._records[file, digest] = CaptionRecord(
                        line.get("recipe", ""),
                        line.get("media", ""),
                        line.get("media_kind", "image"),
                        tuple(line.get("flags", ())),
                        tuple(captions) if len(captions) > 1 else (),
                    )
                    self._failed.discard(str(path))
                case {"kind": "failure", "path": str(path)}:
                    self._failed.add(path)

    def caption_record(self, caption_file: str, digest: str) -> CaptionRecord | None:
        """None for a caption of these words that we never wrote: a person's."""
        return self._records.get((caption_file, digest))

    def failed(self, name: str) -> bool:
        """Whether the last that is told of this item is that it failed."""
        return name in self._failed


def restore(store: Path, run_id: str) -> Iterator[tuple[Path, bool]]:
    """Bring back what run `run_id` overwrote or took away: (file, whether it was restored), the last change first.

    A caption that was edited since is left as it is. What is taken away is itself kept, by a run of its own.
    Raises `StartError` where there is no such run, listing those that overwrote something.
    """
    run_id = run_id.removesuffix(".jsonl")
    folder = journal_path(store, run_id).parent
    paths = glob_files(folder, "*.jsonl")
    files = [path for path in paths if path.name.startswith(f"{run_id}.")]
    if not files:
        runs = ", ".join(sorted({path.name.partition(".")[0] for path in paths})) or "none"
        raise StartError(f"{store} has no run {run_id!r}. Its runs: {runs}")
    journal = Journal(new_run_id(), {"restores": run_id})
    try:
        for line in reversed([line for line in chain.from_iterable(map(read_journal, files)) if _is_restorable(line)]):
            yield _restore_line(store, line, journal)
    finally:
        journal.close()


def _is_restorable(line: JournalRecord) -> bool:
    """Of a file in this folder: a journal that came with somebody's dataset may name any other."""
    if line.get("kind") == "trash":
        return trash.is_trash(str(line.get("to")), of=str(line.get("from")))
    return isinstance(line.get("replaced"), str) and _is_inside(line.get("caption_file"))


def _is_inside(name: Any) -> bool:
    return isinstance(name, str) and not os.path.isabs(name) and os.path.normpath(name).partition(os.sep)[0] != ".."


def _restore_line(store: Path, line: JournalRecord, journal: Journal) -> tuple[Path, bool]:
    if line["kind"] == "trash":
        media = Path(os.path.normpath(store / line["from"]))
        try:
            trash.move(store / line["to"], media)
        except ItemError:  # something else is called that now, or somebody emptied the trash
            return media, False
        return media, True
    caption_path = store / line["caption_file"]
    try:
        now = sidecar.read(caption_path)
    except ItemError:  # a folder, or not to be read: not what we wrote
        return caption_path, False
    if (None if now is None else sidecar.digest(now)) != line.get("digest"):
        return caption_path, False
    content = line["replaced"].encode("utf-8", "surrogateescape")
    back: JournalRecord = {
        "kind": "restore",
        "path": line.get("path"),
        "caption_file": line["caption_file"],
        "digest": sidecar.digest(content),
        "replaced": None if now is None else now.decode("utf-8", "surrogateescape"),
    }
    sidecar.write(caption_path, content, store, lambda: journal.append(store, back))
    return caption_path, True
