"""The phrases of a folder's captions, which complete what a person types: its tags, and words that follow each other.

`update` runs in the background, `complete` for each typed letter.
"""

import re
import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nlargest
from threading import Event

from ..captions.unfinished import NEVER_LAST
from .library import ReviewItem
from .tags import is_tagged, split_tags

MAX_PROSE = 3_000  # captions in prose that are counted, evenly spread: more of them add few frequent phrases
_MAX_ONCE = 50_000  # phrases that occurred once are forgotten above this
_MAX_INSERTED = 200
_MAX_WORDS = 4
_MIN_WORD, _MIN_TYPED = 4, 2  # letters
_CAPTIONS_PER_PAUSE, _PAUSE = 20, 3.0  # a pause of this many times their duration, for the page
_CLAUSE = re.compile(r"[,.;:!?\n\"()\[\]{}\u201c\u201d\u3002\uff0c]+")


class PhraseIndex:
    """How many captions have each phrase."""

    def __init__(self) -> None:
        self._stopped = Event()
        self._counts: Counter[str] = Counter()
        self._offered: set[str] = set()
        self._sorted: list[str] = []  # the offered phrases, by `str.lower`
        self._new: list[str] = []  # those that are not in the list yet
        self._digests: dict[int, str | None] = {}  # item number -> digest of its caption at the last update
        self._texts: dict[int, str] = {}  # item number -> its caption as counted

    def stop(self) -> None:
        """End an update that is running."""
        self._stopped.set()

    def update(self, entries: Iterable[ReviewItem]) -> None:
        """Count what changed since the last update."""
        entries = list(entries)
        stride = max(1, len(entries) // MAX_PROSE)
        num_counted, started = 0, time.monotonic()
        for index, entry in enumerate(entries):
            number, caption = entry.number, entry.caption
            if number in self._digests and self._digests[number] == caption.digest:
                continue
            is_edited, self._digests[number] = number in self._digests, caption.digest
            self._add(self._texts.pop(number, ""), -1)
            if index % stride == 0 or is_edited or is_tagged(caption.text):
                self._texts[number] = caption.text
                self._add(caption.text, 1)
                num_counted += 1
                if num_counted % _CAPTIONS_PER_PAUSE == 0:
                    if self._stopped.wait(_PAUSE * (time.monotonic() - started)):
                        return
                    started = time.monotonic()
        self._offer_new()

    def _add(self, text: str, times: int) -> None:
        at_least = 1 if is_tagged(text) else 2
        for phrase in set(phrases_of(text)):
            self._counts[phrase] = count = self._counts[phrase] + times
            if count >= at_least and phrase not in self._offered:
                self._offered.add(phrase)
                self._new.append(phrase)

    def _offer_new(self) -> None:
        """Sort what is new into the list. Many at once are sorted as a whole, which replaces the list."""
        new, self._new = self._new, []
        if len(new) > _MAX_INSERTED:
            self._sorted = sorted(self._offered, key=str.lower)
        else:
            for phrase in new:
                insort(self._sorted, phrase, key=str.lower)
        if len(self._counts) > 2 * len(self._offered) + _MAX_ONCE:
            self._counts = Counter({phrase: self._counts[phrase] for phrase in self._offered})

    def complete(self, before: str, *, is_tag: bool = False, most: int = 8) -> list[tuple[str, str]]:
        """Return (phrase, the part of it that is typed), those with the longest typed part first.

        before: the text up to the cursor. is_tag: its last tag is completed, with the capitals of the phrase.

        # "a woman with lo" -> ("with long hair", "with lo"), ("long hair", "lo")
        """
        found: dict[str, tuple[str, str]] = {}  # the rest that is not typed -> its phrase
        tag = before.rpartition(",")[2].strip()
        for typed in ([tag] if tag else []) if is_tag else _contexts(before):
            for phrase in self._most_frequent(typed, most):
                rest = phrase[len(typed) :]
                found.setdefault(rest, (phrase if is_tag else typed + rest, typed))
            if len(found) >= most:
                break
        return list(found.values())[:most]

    def _most_frequent(self, typed: str, most: int) -> list[str]:
        prefix, offered = typed.lower(), self._sorted
        start = bisect_left(offered, prefix, key=str.lower)
        end = bisect_left(offered, prefix + "\U0010ffff", start, key=str.lower)
        longer = (p for p in offered[start:end] if len(p) > len(typed) and p.lower().startswith(prefix))
        counted = ((count, len(phrase), phrase) for phrase in longer if (count := self._counts[phrase]) > 0)
        ranked = nlargest(2 * most, counted)
        found = []  # without "with long" if "with long hair" is as frequent
        for rank, (count, _, phrase) in enumerate(ranked):
            if not any(other == count and more.startswith(f"{phrase} ") for other, _, more in ranked[:rank]):
                found.append(phrase)
        return found[:most]


def phrases_of(text: str) -> Iterator[str]:
    """Yield the tags of a caption, or the runs of one to four words between punctuation marks.

    A run ends with a word that can end a caption, and one word alone has four letters or more.

    # "1girl, red hair, smile" -> 1girl, red hair, smile      "cats on the mat" -> cats, cats on the mat, ...
    """
    if is_tagged(text):
        yield from split_tags(text)
        return
    for clause in _CLAUSE.split(text):
        words = clause.split()
        for start in range(len(words)):
            for end in range(start + 1, min(start + _MAX_WORDS, len(words)) + 1):
                if words[end - 1].lower() not in NEVER_LAST and (end > start + 1 or len(words[start]) >= _MIN_WORD):
                    yield " ".join(words[start:end])


def _contexts(before: str) -> Iterator[str]:
    """Yield the texts that may begin a phrase, the longest first.

    # "A cat. a woman with lo" -> a woman with lo, woman with lo, with lo, lo
    """
    clause = _CLAUSE.split(before)[-1].lstrip()
    if not clause[-1:].isalnum():
        return
    starts = [match.start() for match in re.finditer(r"\S+", clause)]
    for start in dict.fromkeys([starts[0], *starts[-_MAX_WORDS:]]):
        if len(clause) - start >= _MIN_TYPED:
            yield clause[start:]
