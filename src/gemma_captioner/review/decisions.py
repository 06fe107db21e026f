"""What a person decided of a caption: `.gemma-captioner/reviews.jsonl`, append-only.

A decision is about words: once other words stand in the `.txt`, it is open again.
"""

import errno
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ..dataset.journal import JournalReader
from ..dataset.sidecar import DOT_FOLDER, storage_error
from ..types import MediaItem

Decision = Literal["approved", "rejected"]


class Decisions:
    """Of one store. Several servers may write the file: each line goes to its end in one piece."""

    def __init__(self, store: Path) -> None:
        self._path = store / DOT_FOLDER / "reviews.jsonl"
        self._reader = JournalReader(self._path)
        self._last: dict[str, tuple[str | None, Decision | None]] = {}  # caption file -> digest of its words, decision

    def refresh(self) -> None:
        with suppress(OSError):  # none yet, or not to be read: nothing is known from it
            for _, line in self._reader.read():
                match line:
                    case {"caption_file": str(f), "digest": digest, "decision": "approved" | "rejected" | None as made}:
                        self._last[f] = digest, made

    def of(self, caption_file: str, digest: str | None) -> Decision | None:
        about, decision = self._last.get(caption_file, (None, None))
        return decision if about == digest else None

    def decide(self, item: MediaItem, digest: str | None, decision: Decision | None) -> None:
        """None takes a decision back. Raises what `storage_error` says."""
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "path": item.name,
            "caption_file": item.caption_file,
            "digest": digest,
            "decision": decision,
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                end = os.lseek(file, 0, os.SEEK_END)
                os.lseek(file, max(0, end - 1), os.SEEK_SET)
                is_torn = os.read(file, 1) not in (b"", b"\n")  # by a disk that was full
                packed = b"\n" * is_torn + json.dumps(line).encode() + b"\n"
                if os.write(file, packed) < len(packed):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._last[item.caption_file] = digest, decision
