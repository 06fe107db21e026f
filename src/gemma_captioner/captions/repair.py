"""Finds and repairs faults of a caption file. Pure.

A caption has a fault if the repair step for it changes the text, so detection and repair always agree.
"""

import re
from collections.abc import Callable, Mapping

from .clean import strip_boilerplate, to_ascii_punctuation

# Control characters (not tab or line break), direction marks and byte order marks.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)
_BREAKS = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")  # control characters that separate words
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # terminal colors
_NOT_LATIN = re.compile(r"[\u0370-\u1cff\u2c00-\ud7ff\uf900-\ufaff]")
_CP1252_GAPS = "\x81\x8d\x8f\x90\x9d"
# Underscores belong to tags (blue_hair, >_<, __wildcard__), not to Markdown, except in tokens like <start_of_turn>.
_TAG_MARKS = re.compile(r"\*_\*|_(?!\w+\|?>)")
_HIDDEN = {"_": "\ue000", "*_*": "\ue001"}


def repair_steps(*, alternatives: bool = False, keep_boilerplate: bool = False) -> Mapping[str, Callable[[str], str]]:
    """Return the repair steps in order, keyed by the fault that each repairs.

    alternatives: each line is a separate caption. keep_boilerplate: keep the text around the caption and its
    punctuation, because the user asked for them.
    """
    selected: dict[str, Callable[[str], str]] = {"mojibake": _fix_mojibake, "control_characters": strip_invisible}
    if not keep_boilerplate:
        selected["leftover"] = _each_line(_strip_leftover) if alternatives else _strip_leftover
        selected["typographic"] = _normalize_punctuation
    if not alternatives:
        selected["multi_line"] = _join_lines
    selected["whitespace"] = _normalize_lines if alternatives else _normalize_whitespace
    return selected


def find_faults(text: str, steps: Mapping[str, Callable[[str], str]]) -> list[str]:
    text = _normalize_newlines(text).removesuffix("\n")
    return [fault for fault, step in steps.items() if step(text) != text]


def repair(text: str, steps: Mapping[str, Callable[[str], str]]) -> str:
    """# " Here is a caption:\\r\\n\\r\\nA cat\\u2019s tail. " -> "A cat's tail." """
    text, before = _normalize_newlines(text).removesuffix("\n"), None
    while text != before:  # removing one fault may reveal another
        before = text
        for step in steps.values():
            text = step(text)
    return text


def _normalize_newlines(text: str) -> str:
    return re.sub(r"\r\n?|\u2028|\u2029", "\n", text)


def _each_line(step: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "\n".join(map(step, text.split("\n")))


def _fix_mojibake(text: str) -> str:
    """Reverse UTF-8 text that was decoded as Windows-1252.

    # "caf\u00c3\u00a9" -> "caf\u00e9"
    """
    if text.isascii():
        return text
    try:
        as_found = (c.encode("latin-1" if c in _CP1252_GAPS else "cp1252") for c in text)
        return b"".join(as_found).decode("utf-8")
    except UnicodeError:
        return text


def strip_invisible(text: str) -> str:
    """Remove terminal codes, control characters and marks of text direction."""
    return _INVISIBLE.sub("", _BREAKS.sub(" ", _ANSI.sub("", text)))


def _strip_leftover(text: str) -> str:
    """Remove model boilerplate, if a caption remains. Other steps repair spaces and quotes."""
    hidden = _TAG_MARKS.sub(lambda mark: _HIDDEN[mark[0]], text)
    left = strip_boilerplate(hidden, from_model=False)
    for mark, stand_in in _HIDDEN.items():
        left = left.replace(stand_in, mark)
    return left if left and "".join(left.split()) != "".join(to_ascii_punctuation(text).split()) else text


def _normalize_punctuation(text: str) -> str:
    """Convert typographic punctuation to ASCII, unless the text is in a non-Latin script."""
    return text if text.isascii() or _NOT_LATIN.search(text) else to_ascii_punctuation(text)


def _join_lines(text: str) -> str:
    return " ".join(filter(None, map(str.strip, text.split("\n")))) if "\n" in text.strip() else text


def _collapse_spaces(line: str) -> str:
    return " ".join(line.split())


def _normalize_lines(text: str) -> str:
    return "\n".join(filter(None, map(_collapse_spaces, text.split("\n"))))


def _normalize_whitespace(text: str) -> str:
    return "\n".join(map(_collapse_spaces, text.split("\n"))).strip("\n")
