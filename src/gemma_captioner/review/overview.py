"""Statistics of all captions, each with the query that finds its items. Pure functions."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..captions.stats import CaptionStats
from ..text import encodable
from .library import ReviewItem
from .query import ANY_FLAG, Query
from .terms import written

_MAX_BINS = 16  # of the length histogram
_MAX_BARS = 20  # in other charts


@dataclass(frozen=True, slots=True)
class ChartBar:
    """A number of captions, and the query that finds them."""

    label: str
    count: int
    query: Query


def overview(entries: Iterable[ReviewItem]) -> list[tuple[str, tuple[ChartBar, ...]]]:
    """Return the charts, (title, bars), in display order."""
    stats, flags, states, numbers = CaptionStats(), Counter[str](), Counter[str](), {}
    for entry in entries:
        states[entry.decision or ("open" if entry.caption.digest else "uncaptioned")] += 1
        states["failed"] += entry.failure is not None or entry.access_error is not None
        if entry.caption.digest is not None:
            stats.add(entry.item.name, entry.caption.text, entry.caption.count)
            numbers[entry.item.name] = entry.number
            flags.update(entry.flags)
            flags[ANY_FLAG] += bool(entry.flags)
    shown = ("open", "approved", "rejected", "uncaptioned", "failed")
    groups = sorted(stats.duplicates(), key=len, reverse=True)
    openings = stats.openings.most_common(_MAX_BARS)
    return [
        (
            "State",
            tuple(ChartBar(state, states[state], Query(written("state", state))) for state in shown if states[state]),
        ),
        (
            "Flags",
            tuple(ChartBar(f.replace("_", " "), n, Query(written("flag", f))) for f, n in flags.most_common() if n),
        ),
        ("Caption length in words", _lengths(stats.lengths)),
        ("Same text", tuple(_duplicates(names, numbers) for names in groups[:_MAX_BARS])),
        ("Openings", tuple(ChartBar(text, n, _opening(text)) for text, n in openings if n > 1)),
        ("Words", tuple(ChartBar(word, n, _word(word)) for word, n in stats.words.most_common(_MAX_BARS))),
    ]


def _lengths(lengths: Counter[int]) -> tuple[ChartBar, ...]:
    """# 3 to 34 words: 3-4, 5-6, ... 33-34"""
    if not lengths:
        return ()
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // _MAX_BINS))
    bars = []
    for min_words in range(low, high + 1, width):
        max_words = min_words + width - 1
        count = sum(lengths[n] for n in range(min_words, max_words + 1))
        label = f"{min_words}" if width == 1 else f"{min_words}-{max_words}"
        bars.append(ChartBar(label, count, Query(f"words>={min_words} words<={max_words}")))
    return tuple(bars)


def _duplicates(names: list[str], numbers: dict[str, int]) -> ChartBar:
    only = frozenset(numbers[name] for name in names)
    label = encodable(names[0])
    return ChartBar(label, len(names), Query(only=only, only_reason=f"{len(names)} captions with the same text"))


def _opening(words: str) -> Query:
    """# a red circle -> ^\\W*a\\W+red\\W+circle\\b: matches as the count does, without case and punctuation"""
    return Query(text=r"^\W*" + r"\W+".join(map(re.escape, words.split())) + r"\b", is_regex=True)


def _word(word: str) -> Query:
    return Query(text=rf"\b{re.escape(word)}\b", is_regex=True)
