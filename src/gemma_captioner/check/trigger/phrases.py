"""Finds phrases that captions share with a trigger word. Pure.

The thresholds were chosen on labeled folders: docs/check.md, `python benchmarks/trigger.py`.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from .lexicon import (
    CHANGEABLE,
    DROPPED,
    GENERIC,
    GENERIC_STEMS,
    KIND_OF_STEM,
    LINKS,
    MODIFIER_STEMS,
    PEOPLE_STEMS,
    WEAK_STEMS,
    stem,
)

MIN_CAPTIONS = 8  # with the trigger; fewer share words by chance
MIN_SHARE = 0.5  # of the captions with the trigger, for what should stay changeable
MIN_SHARE_OF_LOOKS = 0.1  # for looks and media, which should be in no caption
MIN_COUNT_OF_LOOKS = 3
MIN_SHARE_OF_BARE_LOOKS = 0.2  # "freckles", without an adjective
MIN_CONSISTENCY = 0.5  # the share of "green eyes" in all phrases about eyes
MIN_LIFT = 1.5  # as frequent without the trigger: not bound to it
MIN_CONTRAST = 5  # captions without the trigger, for a lift
_MAX_WORDS = 5
_SAME_EVENT = 0.75  # a longer phrase replaces a shorter one that has at most 1 / this as many captions
_LINK = "~"

Stems = tuple[str, ...]  # the stems of a phrase


@dataclass(frozen=True, slots=True)
class SharedPhrase:
    """A phrase in captions that have the trigger.

    Attributes:
        kind: What it names: clothing, setting, light, pose, framing, appearance, medium or other.
        found_in: The indexes of the captions that have it, among those with the trigger.
        share: Of the captions with the trigger.
        lift: Its share with the trigger, divided by its share without; None if too few captions are without it.
        key: The stems of its words.
    """

    phrase: str
    kind: str
    found_in: tuple[int, ...]
    share: float
    lift: float | None
    key: Stems

    @property
    def captions(self) -> int:
        return len(self.found_in)

    @property
    def should_stay_changeable(self) -> bool | None:
        """Whether prompts should be able to change it; None if that is unknown."""
        return None if self.kind == "other" else self.kind in CHANGEABLE

    @property
    def is_leak(self) -> bool:
        """Whether the trigger itself should mean it."""
        return self.kind in ("appearance", "medium")


def shared_phrases(
    with_trigger: Sequence[Collection[str]], without_trigger: Sequence[Collection[str]], trigger: re.Pattern[str]
) -> list[SharedPhrase]:
    """Return the phrases that too many captions share with the trigger, the most frequent first.

    Args:
        with_trigger: The texts of each caption with the trigger.
        without_trigger: The texts of each other caption.
        trigger: Matches the trigger in any spelling.
    """
    total = len(with_trigger)
    if total < MIN_CAPTIONS:
        return []
    least = max(MIN_COUNT_OF_LOOKS, MIN_SHARE_OF_LOOKS * total)
    words = Counter(
        s for texts in with_trigger for s in {_stem(word) for clause in _clauses(texts, trigger) for word in clause}
    )
    frequent = {s for s, count in words.items() if count >= least}  # a rarer word is in no reported phrase
    captions_with: dict[Stems, list[int]] = {}
    surfaces: dict[Stems, Counter[str]] = {}
    described = Counter[str]()  # word -> captions that say something of it
    for index, texts in enumerate(with_trigger):  # tokenized again, because the words of all captions need memory
        clauses = list(_clauses(texts, trigger))
        described.update(set(_described(clauses)))
        for key, surface in dict(_phrases(clauses, frequent)).items():
            captions_with.setdefault(key, []).append(index)
            surfaces.setdefault(key, Counter())[surface] += 1
    contrast = Counter(key for texts in without_trigger for key in dict(_phrases(_clauses(texts, trigger), frequent)))
    class_words = _class_words(with_trigger, trigger)
    is_style = stem("style") in class_words
    has_medium = is_style or any(
        _kind(key) == "medium" and len(p) >= MIN_SHARE * total for key, p in captions_with.items()
    )
    reportable = []
    for key, found_in in captions_with.items():
        if len(key) == 1 and key[0] in class_words:
            continue
        kind, count = _kind(key), len(found_in)
        consistency = count / max(1, described[key[-1]])
        lift = _lift(count, total, contrast[key], len(without_trigger))
        wanted = _min_count(key, kind, total, is_style, has_medium, consistency)
        if count >= wanted and (lift is None or lift >= MIN_LIFT):
            phrase = surfaces[key].most_common(1)[0][0]
            reportable.append(SharedPhrase(phrase, kind, tuple(found_in), count / total, lift, key))
    return sorted(_maximal(reportable), key=lambda found: (-found.captions, found.phrase))


def _min_count(key: Stems, kind: str, total: int, is_style: bool, has_medium: bool, consistency: float) -> float:
    """The number of captions from which a phrase is reported."""
    is_bare = len(key) == 1
    if kind == "medium" and has_medium:
        return max(MIN_COUNT_OF_LOOKS, MIN_SHARE_OF_BARE_LOOKS * total)
    if kind == "appearance" and not is_style and (is_bare or consistency >= MIN_CONSISTENCY):
        return max(MIN_COUNT_OF_LOOKS, (MIN_SHARE_OF_BARE_LOOKS if is_bare else MIN_SHARE_OF_LOOKS) * total)
    return MIN_SHARE * total


def _lift(count: int, total: int, count_without: int, total_without: int) -> float | None:
    """# in 30 of 40 captions with the trigger, in 3 of 20 without -> 4.5: half a caption is added to the zero"""
    if total_without < MIN_CONTRAST:
        return None
    return (count / total) / ((count_without or 0.5) / total_without)


def _maximal(phrases: Iterable[SharedPhrase]) -> list[SharedPhrase]:
    """Keep the longest of phrases that contain each other, unless it is much rarer.

    # jacket (48), denim jacket (45) -> denim jacket      watercolor (36), watercolor illustration (25) -> watercolor
    """
    kept: list[SharedPhrase] = []
    for phrase in sorted(phrases, key=lambda p: len(p.key)):
        parts = [part for part in kept if _contains(phrase.key, part.key)]
        if all(phrase.captions >= _SAME_EVENT * part.captions for part in parts):
            kept = [part for part in kept if part not in parts] + [phrase]
    distinct: list[SharedPhrase] = []
    for phrase in sorted(kept, key=lambda p: (-p.captions, len(p.key))):
        if not any(_covers(other, phrase) for other in distinct):
            distinct.append(phrase)
    return distinct


def _covers(other: SharedPhrase, phrase: SharedPhrase) -> bool:
    """Whether a phrase only describes words of a more frequent one: "ink outlines" covers "fine ink"."""
    words = {s for s in phrase.key if s not in MODIFIER_STEMS and s != _LINK}
    return words <= set(other.key)


def _contains(key: Stems, part: Stems) -> bool:
    return any(key[i : i + len(part)] == part for i in range(len(key) - len(part) + 1))


# Phrases of a caption


def _clauses(texts: Iterable[str], trigger: re.Pattern[str]) -> Iterator[list[str]]:
    """Yield the words between punctuation marks and triggers, without articles and adverbs.

    # "ohwx, a tall man, looks directly at the camera." -> [tall, man], [looks, at, camera]
    """
    for text in texts:
        for clause in re.split(r"[^\w\s'\u2019-]+|\s-+\s|\n", trigger.sub(" . ", text).lower()):
            words = re.findall(r"\w+(?:['\u2019-]\w+)*", clause)
            kept = [word for word in words if word not in DROPPED and not _is_adverb(word)]
            pairs = zip(kept, [*kept, ""][1:], strict=True)
            if kept := [word for word, after in pairs if word not in LINKS or after not in LINKS]:  # "up at" -> "at"
                yield kept


def _is_adverb(word: str) -> bool:
    return len(word) > 5 and word.endswith("ly") and word not in ("family", "butterfly")


@lru_cache(1 << 16)
def _stem(word: str) -> str:
    """The stem of a word, _LINK for a preposition, "" for a word without a meaning of its own."""
    found = stem(word.replace("\u2019", "'").removesuffix("'s"))
    return _LINK if word in LINKS else "" if word in GENERIC or found in GENERIC_STEMS else found


def _phrases(clauses: Iterable[list[str]], frequent: Collection[str]) -> Iterator[tuple[Stems, str]]:
    """Yield the key and the words of each phrase that could be reported."""
    for words in clauses:
        stems = [_stem(word) for word in words]
        for start in range(len(words)):
            for end in range(start + 1, min(start + _MAX_WORDS, len(words)) + 1):
                key = tuple(stems[start:end])
                if not key[-1] or (key[-1] != _LINK and key[-1] not in frequent):
                    break
                if _is_phrase(key):
                    yield key, " ".join(words[start:end])


def _described(clauses: Iterable[list[str]]) -> Iterator[str]:
    """Yield the stems of the words that another word describes.

    # "her green eyes" -> ey
    """
    for words in clauses:
        for before, word in pairwise(words):
            if _stem(before) not in ("", _LINK):
                yield _stem(word)


def _is_phrase(key: Stems) -> bool:
    """Whether the phrase has a meaning of its own.

    # denim jacket, look ~ camera -> yes      ~ camera, red, hair, young woman wearing -> no
    """
    first, last = key[0], key[-1]
    if first == _LINK or first in PEOPLE_STEMS or last == _LINK or last in MODIFIER_STEMS:
        return False
    if len(key) == 1:
        return last not in WEAK_STEMS and last not in PEOPLE_STEMS
    return True


def _kind(key: Stems) -> str:
    return next((KIND_OF_STEM[s] for s in reversed(key) if s in KIND_OF_STEM), "other")


def _class_words(captions: Sequence[Iterable[str]], trigger: re.Pattern[str]) -> set[str]:
    """Return the stems of the trigger's class words: after it, or before "of", in half of the captions.

    # "ohwx backpack on a table" -> backpack      "ohwx style, a cat", "in the style of ohwx" -> style
    """
    follows = re.compile(rf"(?:{trigger.pattern})[ -](\w+)|\b(style) of (?:{trigger.pattern})", re.IGNORECASE)
    counts = Counter[str]()
    for texts in captions:
        counts.update({stem((m[1] or m[2]).lower()) for text in texts for m in follows.finditer(text)})
    return {word for word, count in counts.items() if 2 * count >= len(captions)}
