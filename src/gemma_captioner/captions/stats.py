"""What only the whole dataset shows: which captions belong to which media, and what captions have in common. Pure."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_MIN_WORD_LENGTH = 4  # of a word that is counted: shorter ones say little
_OPENING_WORDS = 3
_WORD = re.compile(r"\w+(?:'\w+)?")


def match_captions(
    media: Iterable[str],
    captions: Iterable[str],
    caption_of: Callable[[str], str],
    normalize: Callable[[str], str] = str,
) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Of one folder's names: (the caption's, of which media, whether it is there), in the order of the media.

    normalize: makes equal the names that are one file there.

    # a.png a.mp4 b.png, a.txt c.txt -> a.txt: both, there; b.txt: b.png, not there; c.txt: of none, there
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
    """Is told every caption once. Holds its name and eight bytes of it, and counts; the text it forgets."""

    captions: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    openings: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)  # how many captions hold each
    _groups: dict[bytes, str | list[str]] = field(default_factory=dict)

    def add(self, name: str, caption: str, length: int) -> None:
        """length: in whatever the histogram is to count."""
        self.captions += 1
        self.lengths[length] += 1
        words = _WORD.findall(caption.lower())
        if not words:
            return
        self.openings[" ".join(words[:_OPENING_WORDS])] += 1
        self.words.update({word for word in words if len(word) >= _MIN_WORD_LENGTH and not word.isdecimal()})
        # Case, punctuation and spaces set apart no caption from another.
        same = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
        before = self._groups.setdefault(same, name)
        if isinstance(before, list):
            before.append(name)
        elif before is not name:
            self._groups[same] = [before, name]

    def duplicates(self) -> Iterator[list[str]]:
        """The names of captions that say the same words, a group at a time."""
        return (names for names in self._groups.values() if isinstance(names, list))
