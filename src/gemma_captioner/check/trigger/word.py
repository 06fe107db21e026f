"""Finds a trigger word in captions: as it is spelled, in other spellings, and inside other words. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WORD = re.compile(r"\w+(?:['\u2019]\w+)?")
_MIN_LETTERS_OF_TYPO = 4  # one letter off "sks" is "sky"


@dataclass(frozen=True, slots=True)
class TriggerUse:
    """How the texts of one caption use a trigger. variants: other spellings. inside: other words that contain it."""

    is_exact: bool
    variants: frozenset[str]
    inside: frozenset[str]

    @property
    def is_used(self) -> bool:
        return self.is_exact or bool(self.variants)


def exact_pattern(trigger: str) -> str:
    """The pattern of a trigger as a word of its own; any white space fits its spaces."""
    words = r"\s+".join(map(re.escape, trigger.split()))
    return rf"(?<!\w){words}(?!\w)"


def trigger_use(texts: Iterable[str], trigger: str) -> TriggerUse:
    """Return how a caption uses the trigger.

    # ohwx: "Ohwx stands." -> variant Ohwx      "ohwx's hat" -> exact, and variant ohwx's      "ohwxx" -> variant ohwxx
    # art: "a cart" -> inside cart
    """
    text = "\n".join(texts)
    exact = exact_pattern(trigger)
    is_exact = re.search(exact, text) is not None
    found = {m[0] for m in re.finditer(rf"{exact}(?:['\u2019]s?(?!\w))?", text, re.IGNORECASE)}
    variants = {" ".join(spelling.split()) for spelling in found} - {" ".join(trigger.split())}
    if not re.fullmatch(r"\w+", trigger):
        return TriggerUse(is_exact, frozenset(variants), frozenset())
    lower = trigger.lower()
    words = {re.sub(r"['\u2019]\w+\Z", "", word) for word in _WORD.findall(text)}
    others = {word for word in words if word.lower() != lower}
    if not is_exact and not variants and len(trigger) >= _MIN_LETTERS_OF_TYPO:
        variants = {word for word in others if _is_typo(word.lower(), lower)}
    inside = {word for word in others - variants if lower in word.lower()}
    return TriggerUse(is_exact, frozenset(variants), frozenset(inside))


def _is_typo(word: str, trigger: str) -> bool:
    """Whether one letter is added, left out, replaced or moved.

    # ohwxx, ohw, ohvx, ohxw -> yes      oh -> no
    """
    shorter, expected = _without_one_letter(word), _without_one_letter(trigger)
    return trigger in shorter or word in expected or (len(word) == len(trigger) and not shorter.isdisjoint(expected))


def _without_one_letter(word: str) -> set[str]:
    """# cat -> at, ct, ca"""
    return {word[:i] + word[i + 1 :] for i in range(len(word))}
