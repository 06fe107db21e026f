"""The decisions of reviewers: `.gemma-captioner/reviews.jsonl`, append-only.

A decision applies to one text. Once the `.txt` holds another text, the caption is undecided again.
"""

import errno
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ..dataset.journal import JournalReader
from ..dataset.sidecar import DOT_FOLDER, map_storage_errors
from ..types import MediaItem

Decision = Literal["approved", "rejected"]


class Decisions:
    """The decisions of one store. Several servers may write the file, so each line is appended in one write."""

    def __init__(self, store: Path) -> None:
        self._path = store / DOT_FOLDER / "reviews.jsonl"
        self._reader = JournalReader(self._path)
        self._is_synced = True
        self._last: dict[str, tuple[str | None, Decision | None]] = {}  # caption file -> digest of its text, decision

    def refresh(self) -> None:
        with suppress(OSError):  # the file is missing or unreadable: no decisions
            for _, record in self._reader.read():
                match record:
                    case {"caption_file": str(f), "digest": digest, "decision": "approved" | "rejected" | None as made}:
                        self._last[f] = digest, made

    def of(self, caption_file: str, digest: str | None) -> Decision | None:
        about, decision = self._last.get(caption_file, (None, None))
        return decision if about == digest else None

    def decide(self, item: MediaItem, digest: str | None, decision: Decision | None) -> None:
        """Append a decision; None withdraws one. Call `flush` later. Raises the error that `storage_error` returns."""
        record = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "path": item.name,
            "caption_file": item.caption_file,
            "digest": digest,
            "decision": decision,
        }
        with map_storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                end = os.lseek(file, 0, os.SEEK_END)
                os.lseek(file, max(0, end - 1), os.SEEK_SET)
                is_torn = os.read(file, 1) not in (b"", b"\n")  # the disk was full during the last write
                packed = b"\n" * is_torn + json.dumps(record).encode() + b"\n"
                if os.write(file, packed) < len(packed):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(file)
        self._is_synced = False
        self._last[item.caption_file] = digest, decision

    def flush(self) -> None:
        """Store all decisions on disk. Raises the error that `storage_error` returns."""
        if not self._is_synced:
            with map_storage_errors(self._path), self._path.open("rb+") as file:
                os.fsync(file.fileno())
            self._is_synced = True
