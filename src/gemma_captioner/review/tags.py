"""Captions as comma-separated tags. Pure functions.

A tag is the text between two commas, as it is written: "Red hair" and "red hair" are two tags.
"""

from collections import Counter
from collections.abc import Iterable
from threading import Lock

from ..captions.formats.plain import MAX_TAG_WORDS
from ..captions.unfinished import is_list
from .library import ReviewItem


def split_tags(caption: str) -> tuple[str, ...]:
    """# "1girl,  red hair, ,smile" -> ("1girl", "red hair", "smile")"""
    return tuple(tag for tag in (" ".join(part.split()) for part in caption.split(",")) if tag)


def join_tags(tags: Iterable[str]) -> str:
    return ", ".join(tags)


def is_tagged(caption: str) -> bool:
    """Whether a caption looks like tags rather than sentences."""
    return caption.count(",") >= 2 and is_list(caption, MAX_TAG_WORDS)


def is_short(tag: str) -> bool:
    """Whether it is a tag rather than a part of a sentence, which has commas, too."""
    return len(tag.split()) <= MAX_TAG_WORDS and not tag.endswith((".", "!", "?"))


def add_tags(caption: str, added: str, *, first: bool = False) -> str:
    """Add the tags that are missing.

    # "a, b" and "c, b" -> "a, b, c", first -> "c, a, b"
    """
    tags = split_tags(caption)
    new = tuple(tag for tag in dict.fromkeys(split_tags(added)) if tag not in tags)
    return join_tags(new + tags if first else tags + new) if new else caption


def remove_tags(caption: str, removed: str) -> str:
    """# "a, b, ab, a" and "a" -> "b, ab" """
    gone, tags = split_tags(removed), split_tags(caption)
    left = [tag for tag in tags if tag not in gone]
    return join_tags(left) if len(left) < len(tags) else caption


def rename_tag(caption: str, old: str, new: str) -> str:
    """Replace a tag by another, or by several. Tags that exist already are not repeated.

    # "a, b, c": b -> x: "a, x, c"      b -> c: "a, c"
    """
    tags, [old] = split_tags(caption), split_tags(old)[:1] or [""]
    if old not in tags:
        return caption
    renamed = (name for tag in tags for name in (split_tags(new) if tag == old else (tag,)))
    return join_tags(dict.fromkeys(renamed))


def sort_tags(caption: str, first: str = "") -> str:
    """Sort by the alphabet, without case. first: tags that stay in front, in this order.

    # "smile, 1girl, ohwx, Hat", first ohwx -> "ohwx, 1girl, Hat, smile"
    """
    front = split_tags(first)
    tags = sorted(split_tags(caption), key=str.casefold)
    return join_tags([*(tag for tag in front if tag in tags), *(tag for tag in tags if tag not in front)])


def without_repeats(caption: str) -> str:
    """# "a, b, a" -> "a, b" """
    tags = split_tags(caption)
    unique = dict.fromkeys(tags)
    return join_tags(unique) if len(unique) < len(tags) else caption


def short_tags(caption: str) -> set[str]:
    return {tag for tag in split_tags(caption) if is_short(tag)}


class TagCounts:
    """How many captions have each short tag. It counts again what changed since the last update only. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._texts: dict[int, str] = {}  # item number -> its caption as counted

    def update(
        self, entries: Iterable[ReviewItem], scope: Iterable[str] | None = None
    ) -> list[tuple[str, int, int | None]]:
        """Return (tag, number of captions with it, number of them in `scope`), the most frequent in it first.

        scope: some of the captions. Without, the last number is None.
        """
        in_scope = None if scope is None else Counter(tag for caption in scope for tag in short_tags(caption))
        present = {entry.number: entry.caption.text for entry in entries}
        with self._lock:
            for number in self._texts.keys() | present.keys():
                before, after = self._texts.get(number, ""), present.get(number, "")
                if before is not after:
                    self._add(before, -1)
                    self._add(after, 1)
            self._texts = present
            counts = [(tag, n, None if in_scope is None else in_scope[tag]) for tag, n in self._counts.items()]
        return sorted(counts, key=lambda entry: (-(entry[2] or 0), -entry[1], entry[0].casefold()))

    def _add(self, caption: str, times: int) -> None:
        for tag in short_tags(caption):
            self._counts[tag] += times
            if not self._counts[tag]:
                del self._counts[tag]
