"""Captures what native libraries print to stderr, so that a failure can name its file and its cause.

libtiff, libheif and others write to the file descriptor, without a file name. Only decoder processes capture it.
"""

import os
import re
import tempfile
from typing import Any

_MAX_CHARACTERS = 200
_file: Any = None


def install() -> None:
    """Redirect the stderr of this process permanently to a file that `captured` reads."""
    global _file
    _file = tempfile.TemporaryFile(prefix="gemma-captioner-")  # noqa: SIM115  # open while the process lives
    os.dup2(_file.fileno(), 2)


def reset() -> None:
    """Forget what was captured. `decode` calls it before each file."""
    if _file is not None:
        os.ftruncate(_file.fileno(), 0)
        os.lseek(_file.fileno(), 0, os.SEEK_SET)


def captured() -> str:
    """The first line printed since `reset`, shortened; "" if there is none or `install` was not called."""
    if _file is None:
        return ""
    descriptor = _file.fileno()
    os.lseek(descriptor, 0, os.SEEK_SET)
    lines = os.read(descriptor, 4096).decode(errors="replace").splitlines()
    os.lseek(descriptor, 0, os.SEEK_END)  # stderr shares the position
    text = next((line.strip() for line in lines if line.strip()), "")
    text = text.removeprefix("tempfile.tif: ").rstrip(".")  # libtiff's name for what Pillow gives it
    return re.sub(r"[^\x20-\x7e]", "?", text)[:_MAX_CHARACTERS]
