"""What is done to many captions at once: a table of operations, and what each would change. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..captions.clean import apply_affixes
from .edits import Draft, one_line
from .library import Entry
from .patterns import found, patiently, pattern, replaced


@dataclass(frozen=True, slots=True)
class Inputs:
    """text: what to find, or to add. by: what to put in its place."""

    text: str = ""
    by: str = ""
    is_regex: bool = False
    any_case: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """text, by: what the fields of `Inputs` are called for it, "" where it has no such field."""

    change: Callable[[str, Inputs], str]
    text: str
    by: str = ""
    searches: bool = False


def _replace(caption: str, inputs: Inputs) -> str:
    wanted = pattern(inputs.text, is_regex=inputs.is_regex, any_case=inputs.any_case)
    return replaced(wanted, inputs.by, caption, is_regex=inputs.is_regex)


def _without_sentence(caption: str, inputs: Inputs) -> str:
    """# "A cat. The image is blurry. It sits.", blurry -> "A cat. It sits." """
    wanted = pattern(inputs.text, is_regex=inputs.is_regex, any_case=inputs.any_case)
    return " ".join(sentence for sentence in _SENTENCES.findall(caption) if not found(wanted, sentence))


_SENTENCES = pattern(r"\S.*?(?:[.!?][\"')\]]*(?=\s|$)|$)", is_regex=True)

OPERATIONS: Mapping[str, Operation] = {
    "find and replace": Operation(_replace, "Find", "Replace by", searches=True),
    "prefix": Operation(lambda caption, put: apply_affixes(caption, prefix=put.text), "Put before each"),
    "suffix": Operation(lambda caption, put: apply_affixes(caption, suffix=put.text), "Put after each"),
    "trigger": Operation(
        lambda caption, put: apply_affixes(caption, trigger=put.text), "Put before those without this word"
    ),
    "remove sentence": Operation(_without_sentence, "Sentences that hold", searches=True),
}


@dataclass(frozen=True, slots=True)
class Planned:
    entry: Entry
    before: str
    draft: Draft


def planned(entries: Iterable[Entry], name: str, inputs: Inputs) -> list[Planned]:
    """What would change. Raises `UsageError` for a regular expression that is none, or takes too long."""
    if not inputs.text:
        return []
    changes = []
    for entry in patiently(entries, is_regex=inputs.is_regex):
        words = entry.words
        if words.digest is None or entry.fault is not None:
            continue
        lines = words.text.splitlines()
        after = "\n".join(one_line(OPERATIONS[name].change(line, inputs)) for line in lines)
        if (after := one_line(after, lines=len(lines) > 1)) != words.text:
            changes.append(Planned(entry, words.text, Draft(entry.number, words.digest, after)))
    return changes


def difference(before: str, after: str) -> list[tuple[str, str]]:
    """What stayed, went and came, word by word.

    # "a red cat", "a blue cat" -> ("same", "a "), ("gone", "red"), ("new", "blue"), ("same", " cat")
    """
    old, new = (pattern(r"\s+|\w+|[^\w\s]", is_regex=True).findall(text) for text in (before, after))
    parts: list[tuple[str, str]] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(("same", "".join(old[a:b])))
            continue
        parts += [(name, "".join(words)) for name, words in (("gone", old[a:b]), ("new", new[c:d])) if words]
    return parts
