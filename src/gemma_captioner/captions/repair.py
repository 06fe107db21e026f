"""A caption as found -> what a rule can mend in it, and the mended. Pure.

A fault is found by its mending: a caption has it where the step changes something, so that the two never disagree.
"""

import re
from collections.abc import Callable, Mapping

from .clean import strip_boilerplate, to_ascii_punctuation

# Control characters but tab and line break, and marks that steer a line's direction or a file's encoding.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)
_BREAKS = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")  # what stands between words
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # a terminal's colours
_NOT_LATIN = re.compile(r"[\u0370-\u1cff\u2c00-\ud7ff\uf900-\ufaff]")
_CP1252_GAPS = "\x81\x8d\x8f\x90\x9d"
# Underscores are a tag's own (blue_hair, >_<, __wildcard__), no Markdown; those of <start_of_turn> are a template's.
_TAG_MARKS = re.compile(r"\*_\*|_(?!\w+\|?>)")
_HIDDEN = {"_": "\ue000", "*_*": "\ue001"}


def repair_steps(*, alternatives: bool = False, keep_boilerplate: bool = False) -> Mapping[str, Callable[[str], str]]:
    """By the fault that each mends, in the order in which they mend.

    alternatives: each line is a caption of its own. keep_boilerplate: what stands around it was asked for, and stays.
    """
    selected: dict[str, Callable[[str], str]] = {"mojibake": _fix_mojibake, "control_characters": _strip_invisible}
    if not keep_boilerplate:
        selected["leftover"] = _each_line(_strip_leftover) if alternatives else _strip_leftover
        selected["typographic"] = _normalize_punctuation
    if not alternatives:
        selected["multi_line"] = _join_lines
    selected["whitespace"] = _normalize_lines if alternatives else _normalize_whitespace
    return selected


def find_faults(text: str, by: Mapping[str, Callable[[str], str]]) -> list[str]:
    text = _normalize_newlines(text).removesuffix("\n")
    return [fault for fault, step in by.items() if step(text) != text]


def repair(text: str, by: Mapping[str, Callable[[str], str]]) -> str:
    """# " Here is a caption:\\r\\n\\r\\nA cat\\u2019s tail. " -> "A cat's tail." """
    text, before = _normalize_newlines(text).removesuffix("\n"), None
    while text != before:  # what one step takes away may have hidden another's fault
        before = text
        for step in by.values():
            text = step(text)
    return text


def _normalize_newlines(text: str) -> str:
    return re.sub(r"\r\n?|\u2028|\u2029", "\n", text)


def _each_line(step: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "\n".join(map(step, text.split("\n")))


def _fix_mojibake(text: str) -> str:
    """UTF-8 that was read as Windows-1252 and saved so.

    # "caf\u00c3\u00a9" -> "caf\u00e9"
    """
    if text.isascii():
        return text
    try:
        as_found = (c.encode("latin-1" if c in _CP1252_GAPS else "cp1252") for c in text)
        return b"".join(as_found).decode("utf-8")
    except UnicodeError:
        return text


def _strip_invisible(text: str) -> str:
    return _INVISIBLE.sub("", _BREAKS.sub(" ", _ANSI.sub("", text)))


def _strip_leftover(text: str) -> str:
    """Without what models say around a caption, if that leaves one; spaces and quotes are other steps' to mend."""
    hidden = _TAG_MARKS.sub(lambda mark: _HIDDEN[mark[0]], text)
    left = strip_boilerplate(hidden, from_model=False)
    for mark, stand_in in _HIDDEN.items():
        left = left.replace(stand_in, mark)
    return left if left and "".join(left.split()) != "".join(to_ascii_punctuation(text).split()) else text


def _normalize_punctuation(text: str) -> str:
    """Typographic punctuation to ASCII, where it is not that of another script."""
    return text if text.isascii() or _NOT_LATIN.search(text) else to_ascii_punctuation(text)


def _join_lines(text: str) -> str:
    return " ".join(filter(None, map(str.strip, text.split("\n")))) if "\n" in text.strip() else text


def _collapse_spaces(line: str) -> str:
    return " ".join(line.split())


def _normalize_lines(text: str) -> str:
    return "\n".join(filter(None, map(_collapse_spaces, text.split("\n"))))


def _normalize_whitespace(text: str) -> str:
    return "\n".join(map(_collapse_spaces, text.split("\n"))).strip("\n")
