"""Keeps what libraries write to stderr away from the progress display, which it would garble.

Everything that is written to file descriptor 2 (by Python, C libraries and child processes) goes into a file that has
no name. `lines` returns what was added, so that the display can print it in its place. A file never blocks its writers,
as a full pipe would.
"""

import os
import re
import sys
import tempfile
from typing import Self, TextIO

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_WHOLE_BAR = re.compile(r".*\d+%\|[^|]*\|[^|\]]*(\[[^\]]*\])?\s*")  # of tqdm, with nothing after it


class CapturedStderr:
    """A context manager. `terminal` is the stream that was stderr. `bar` is the latest progress bar of a library."""

    terminal: TextIO

    def __enter__(self) -> Self:
        sys.stderr.flush()
        self._original = os.dup(2)
        self._file = tempfile.TemporaryFile()  # open as long as stderr is captured
        self._offset, self._partial, self.bar = 0, "", ""
        os.dup2(self._file.fileno(), 2)
        self.terminal = os.fdopen(self._original, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.stderr.flush()
        self.terminal.flush()
        os.dup2(self._original, 2)
        for line in [*self.lines(), _last_drawn(self._partial)]:
            if line and not _WHOLE_BAR.fullmatch(line):
                print(line, file=sys.stderr)
        self.terminal.close()
        os.close(self._original)
        self._file.close()

    def lines(self) -> list[str]:
        """Return the whole lines that were written since the last call, without progress bars and escape codes."""
        if sys.platform == "win32":  # which has no pread; there, stderr is not captured
            return []
        size = os.fstat(self._file.fileno()).st_size
        added = os.pread(self._file.fileno(), size - self._offset, self._offset)
        self._offset += len(added)
        *lines, self._partial = (self._partial + _ESCAPES.sub("", added.decode("utf-8", "replace"))).split("\n")
        if "\r" in self._partial:
            self.bar = " ".join(_last_drawn(self._partial).split())
        return [line for line in map(_last_drawn, lines) if line and not _WHOLE_BAR.fullmatch(line)]


def _last_drawn(line: str) -> str:
    """# "\\r10%|#   |\\r20%|##  |" -> "20%|##  |" """
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")
