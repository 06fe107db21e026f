"""Rules of `check --trigger`. Their findings belong to the folder: each counts captions."""

from collections.abc import Mapping

from ..rules import Rule

# fmt: off
TRIGGER_RULES: Mapping[str, Rule] = {
    "trigger_absent": Rule(
        "error", "no caption has the trigger word", "check its spelling, or write it into the captions"),
    "no_trigger": Rule(
        "note", "captions without the trigger word", "add it, unless they are meant as regularization images"),
    "trigger_spelling": Rule(
        "note", "the trigger word in another spelling, which a text encoder may read as another word",
        "write it in the same way everywhere"),
    "trigger_in_word": Rule(
        "note", "another word contains the trigger word", "choose a trigger word that is part of no other word"),
    "not_in_pictures": Rule(
        "error", "captions name it, but the model does not see it in their pictures", "correct the captions"),
    "fused_with_trigger": Rule(
        "note", "half of the captions or more share this with the trigger word, which may come to mean it",
        "add images without it; if the trigger word is supposed to mean it, remove it from the captions"),
    "names_identity": Rule(
        "note", "looks or a medium that the captions mention, so the trigger word does not learn them",
        "remove it from the captions, unless it should stay changeable"),
}
# fmt: on
