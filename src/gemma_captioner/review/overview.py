"""The captions as a whole: figures, and for each what it is about. Pure."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..captions.stats import CaptionStats
from .library import Entry
from .query import ANY_FLAG, Query, State

_BINS = 16  # of the lengths
_MOST = 20  # words, openings and groups that are listed


@dataclass(frozen=True, slots=True)
class Bar:
    """So many captions, and the query that shows them."""

    label: str
    count: int
    query: Query


@dataclass(frozen=True, slots=True)
class Overview:
    """Headed lists of bars, in the order in which they are shown."""

    charts: tuple[tuple[str, tuple[Bar, ...]], ...]


def overview(entries: Iterable[Entry]) -> Overview:
    audit, flags, states, numbers = CaptionStats(), Counter[str](), Counter[str](), {}
    for entry in entries:
        states[entry.decision or ("open" if entry.words.digest else "uncaptioned")] += 1
        states["failed"] += entry.failure is not None or entry.fault is not None
        if entry.words.digest is not None:
            audit.add(entry.item.name, entry.words.text, entry.words.count)
            numbers[entry.item.name] = entry.number
            flags.update(entry.flags)
            flags[ANY_FLAG] += bool(entry.flags)
    shown: tuple[State, ...] = ("open", "approved", "rejected", "uncaptioned", "failed")
    groups = sorted(audit.duplicates(), key=len, reverse=True)
    return Overview(
        (
            ("State", tuple(Bar(state, states[state], Query(state=state)) for state in shown if states[state])),
            ("Flags", tuple(Bar(flag.replace("_", " "), n, Query(flag=flag)) for flag, n in flags.most_common() if n)),
            ("Words in a caption", _lengths(audit.lengths)),
            ("Say the same", tuple(_same(names, numbers) for names in groups[:_MOST])),
            ("Openings", tuple(Bar(said, n, _opening(said)) for said, n in audit.openings.most_common(_MOST))),
            ("Words", tuple(Bar(word, n, _word(word)) for word, n in audit.words.most_common(_MOST))),
        )
    )


def _lengths(lengths: Counter[int]) -> tuple[Bar, ...]:
    """# 3 to 34 words: 3-4, 5-6, ... 33-34"""
    if not lengths:
        return ()
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // _BINS))
    bars = []
    for least in range(low, high + 1, width):
        most = least + width - 1
        count = sum(lengths[n] for n in range(least, most + 1))
        label = f"{least}" if width == 1 else f"{least}-{most}"
        bars.append(Bar(label, count, Query(least=least, most=most)))
    return tuple(bars)


def _same(names: list[str], numbers: dict[str, int]) -> Bar:
    only = frozenset(numbers[name] for name in names)
    label = names[0].encode("utf-8", "replace").decode()
    return Bar(label, len(names), Query(only=only, why_only=f"{len(names)} captions that say the same"))


def _opening(words: str) -> Query:
    """# a red circle -> ^\\W*a\\W+red\\W+circle\\b: as the words were counted, case and punctuation set aside"""
    return Query(text=r"^\W*" + r"\W+".join(map(re.escape, words.split())) + r"\b", is_regex=True)


def _word(word: str) -> Query:
    return Query(text=rf"\b{re.escape(word)}\b", is_regex=True)
