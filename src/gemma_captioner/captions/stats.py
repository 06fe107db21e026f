"""Dataset-level checks: matches captions to media, and collects caption statistics. Pure."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_MIN_WORD_LENGTH = 4  # shorter words are not counted
_OPENING_WORDS = 3
_WORD = re.compile(r"\w+(?:'\w+)?")


def match_captions(
    media: Iterable[str],
    captions: Iterable[str],
    caption_of: Callable[[str], str],
    normalize: Callable[[str], str] = str,
) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Match the names in one folder. Yields (caption name, its media, whether it exists), in media order.

    normalize: maps names that the file system treats as one file to the same key.

    # a.png a.mp4 b.png, a.txt c.txt -> (a.txt, (a.png, a.mp4), True), (b.txt, (b.png,), False), (c.txt, (), True)
    """
    owners: dict[str, list[str]] = {}
    for name in media:
        owners.setdefault(normalize(caption_of(name)), []).append(name)
    there = {normalize(name): name for name in captions}
    for caption, names in owners.items():
        yield there.get(caption, caption_of(names[0])), tuple(names), caption in there
    for caption, name in there.items():
        if caption not in owners:
            yield name, (), True


@dataclass
class CaptionStats:
    """Statistics of captions. Per caption it keeps the name and an 8-byte hash, not the text."""

    captions: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    openings: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)  # word -> number of captions with it
    _groups: dict[bytes, str | list[str]] = field(default_factory=dict)

    def add(self, name: str, caption: str, length: int) -> None:
        """Add one caption. length: in the unit of the histogram."""
        self.captions += 1
        self.lengths[length] += 1
        words = _WORD.findall(caption.lower())
        if not words:
            return
        self.openings[" ".join(words[:_OPENING_WORDS])] += 1
        self.words.update({word for word in words if len(word) >= _MIN_WORD_LENGTH and not word.isdecimal()})
        # Duplicates may differ in case, punctuation and spaces.
        same = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
        before = self._groups.setdefault(same, name)
        if isinstance(before, list):
            before.append(name)
        elif before is not name:
            self._groups[same] = [before, name]

    def duplicates(self) -> Iterator[list[str]]:
        """Yield groups of caption names with the same words."""
        return (names for names in self._groups.values() if isinstance(names, list))
