"""Finds the parts of a caption that raise a flag, and what a text encoder does not read. Pure.

It has no rules of its own: a marked part raises the flag by itself (`flags.part_rules`), and no shorter one does.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from typing import NamedTuple

from .length import UNSPACED
from .phrases import QUOTED

_MAX_MARKS = 8  # per flag
_WORD = re.compile(rf"(?:(?!{UNSPACED.pattern})[\w'\u2019])+|\S")
_WORD_OR_QUOTE = re.compile(rf"{QUOTED.pattern}|{_WORD.pattern}")  # the rules skip quoted text: none begins inside it


class Mark(NamedTuple):
    """The characters from `start` to before `end`, and why they are marked: a flag."""

    start: int
    end: int
    flag: str


def flag_marks(caption: str, rules: Mapping[str, Callable[[str], bool]]) -> list[Mark]:
    """Return the parts that break the rules, a flag's in their order.

    # "A street. There are no people." -> [Mark(10, 22, "absent_things")]: "There are no"
    """
    return [Mark(*part, flag) for flag, breaks in rules.items() for part in _parts_that_break(caption, breaks)]


def _parts_that_break(caption: str, breaks: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    words = [match.span() for match in _WORD_OR_QUOTE.finditer(caption)]
    for _ in range(_MAX_MARKS):
        if not words or not breaks(caption[words[0][0] :]):
            return
        first = words[0][0]
        to_end = words[: bisect_left(words, True, key=lambda word: breaks(caption[first : word[1]])) + 1]
        end = to_end[-1][1]
        num_starts = bisect_left(to_end, True, key=lambda word: not breaks(caption[word[0] : end]))
        start = to_end[max(num_starts - 1, 0)][0]
        if not breaks(caption[start:end]):  # it is no single part, but the proportions of the whole
            start, end = first, words[-1][1]
        yield start, end
        words = [word for word in words if word[0] >= end]


def unread_mark(caption: str, max_tokens: int, count: Callable[[str], int]) -> Mark | None:
    """Return what lies beyond the limit of the text encoder, from the first word that it does not read whole.

    # "A cat on a mat", 3 tokens of one word each -> Mark(9, 14, "too_long"): "a mat"
    """
    if count(caption) <= max_tokens:
        return None
    words = [match.span() for match in _WORD.finditer(caption)]
    num_read = bisect_right(words, max_tokens, key=lambda word: count(caption[: word[1]]))
    return Mark(words[min(num_read, len(words) - 1)][0], len(caption.rstrip()), "too_long")


def marked_parts(caption: str, marks: Iterable[Mark]) -> list[tuple[str, str]]:
    """Split the caption into (flags, text); "" for no flag, several with spaces between.

    # "no cat", [Mark(0, 2, "absent_things")] -> [("absent_things", "no"), ("", " cat")]
    """
    marks = sorted(set(marks))
    cuts = sorted({0, len(caption), *(at for mark in marks for at in (mark.start, mark.end))})
    pieces = [
        (" ".join(dict.fromkeys(mark.flag for mark in marks if mark.start <= a and b <= mark.end)), caption[a:b])
        for a, b in pairwise(cuts)
    ]
    grouped = groupby(pieces, key=lambda piece: piece[0])
    return [(flags, "".join(text for _, text in of_one)) for flags, of_one in grouped]
