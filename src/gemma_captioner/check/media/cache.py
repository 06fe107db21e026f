"""Keeps measurements in `.gemma-captioner/check/media.jsonl`, so that no file is measured twice.

One line per file, appended as soon as it is measured: an interrupted check continues. A line counts while the file's
fingerprint and the version of the measurement are the same; of several lines of a file, the last one counts.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from ...dataset.sidecar import DOT_FOLDER
from ...storage.atomic import atomic_write
from ...text import parse_json
from .record import VERSION, Measurement


class MeasurementCache:
    """A context manager. Where the folder cannot be written, it keeps nothing, and `error` says why."""

    def __init__(self, folder: Path) -> None:
        self.error: OSError | None = None
        self._folder = folder
        self._path = folder / DOT_FOLDER / "check" / "media.jsonl"
        self._file: BinaryIO | None = None
        self._lines, self._known = 0, dict[str, tuple[str, Measurement]]()  # name -> fingerprint, measurement
        with suppress(OSError), self._path.open("rb") as file:
            for line in file:
                self._lines += 1
                # A line may be incomplete.
                with suppress(ValueError, TypeError, KeyError, AttributeError):
                    self._read(parse_json(line))

    def _read(self, record: dict[str, Any]) -> None:
        name, media, version = record.pop("name"), record.pop("media"), record.pop("version")
        if version == VERSION:
            self._known[name] = media, Measurement(**record)

    def get(self, path: Path, fingerprint: str) -> Measurement | None:
        known = self._known.get(self._name(path))
        return known[1] if known is not None and known[0] == fingerprint else None

    def add(self, path: Path, fingerprint: str, found: Measurement) -> None:
        self._known[self._name(path)] = fingerprint, found
        try:
            if self._file is None and self.error is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
            if self._file is not None:
                self._file.write(self._line(self._name(path)))
                self._lines += 1
        except OSError as error:
            self.error = error

    def _line(self, name: str) -> bytes:
        fingerprint, found = self._known[name]
        record = {"name": name, "media": fingerprint, "version": VERSION} | asdict(found)
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def __enter__(self) -> "MeasurementCache":
        return self

    def __exit__(self, *exc: object) -> None:
        """Write the file anew if most of its lines no longer count."""
        if self._file is not None:
            self._file.close()
            if self._lines > 2 * len(self._known):
                with suppress(OSError), atomic_write(self._path, sync=False) as unfinished:
                    unfinished.write_bytes(b"".join(map(self._line, self._known)))
