"""Text helpers: printable paths, error reasons, plurals, durations."""

import json
import re
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any


def printable(path: Path | str) -> str:
    """Escape control characters and invalid bytes in a path or a text, so that any stream accepts it."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_controls(text: str) -> str:
    """Escape what a terminal would obey, but not line breaks and tabs.

    # "a\\x1b[31m" -> "a\\\\x1b[31m"
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def encodable(text: str) -> str:
    """Replace what UTF-8 cannot encode, undecodable bytes of a file name and lone surrogates, with "?"."""
    return text.encode("utf-8", "replace").decode()


def file_error(error: Exception) -> str:
    """Why a file cannot be read or written, without Python's own words and without the file's name.

    # [Errno 2] No such file or directory: 'a.toml' -> no such file or directory
    """
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text: save it as UTF-8"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a part of its path is a file, not a folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return str(error)


def path_error(error: Exception) -> str:
    """`file_error` with a remedy, for a path that the user gave.

    # [Errno 2] No such file or directory: 'a.toml' -> no such file or directory: check the path
    """
    return file_error(error) + ": check the path" * isinstance(error, OSError)


def suggest(word: str, known: Collection[str]) -> str:
    """# "framez", ["fps", "frames"] -> Did you mean frames? Available: fps, frames"""
    close = "".join(f"Did you mean {name}? " for name in get_close_matches(word, known, 1))
    return f"{close}Available: {', '.join(known)}"


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises `ValueError` for all that Python does not parse, nesting that is too deep included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def counted(count: int, noun: str) -> str:
    """# 1, "clip" -> 1 clip      1200, "clip" -> 1,200 clips"""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(paths: list[str], most: int = 3, total: int | None = None) -> str:
    """# a.png, b.png, c.png and 4 more      total: if `paths` are only the first ones"""
    more = (total or len(paths)) - min(len(paths), most)
    return ", ".join(map(printable, paths[:most])) + (f" and {more:,} more" if more else "")


def format_duration(seconds: float) -> str:
    """# 4.2 -> 4.2s, 75 -> 1m15s, 7380 -> 2h03m"""
    if seconds < 60:
        return f"{seconds:.1f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"


def format_estimate(seconds: float) -> str:
    """# 42 -> 40 s, 1500 -> 25 min, 7800 -> 2 h 10 min"""
    if seconds < 90:
        return f"{max(1, round(seconds)) if seconds < 10 else round(seconds / 10) * 10} s"
    minutes = round(seconds / 60) if seconds < 6000 else round(seconds / 600) * 10
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


def format_timestamp(time_s: float) -> str:
    """# 65.4 -> 01:05"""
    return f"{int(time_s) // 60:02d}:{int(time_s) % 60:02d}"
