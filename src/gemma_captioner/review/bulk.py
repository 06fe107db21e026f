"""What is done to many captions at once: a table of operations, and what each would change. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..captions.clean import apply_affixes
from .edits import Draft, one_line
from .library import ReviewItem
from .patterns import compile_pattern, search, substitute, with_time_limit


@dataclass(frozen=True, slots=True)
class Inputs:
    """text: what to find, or to add. by: what to put in its place."""

    text: str = ""
    by: str = ""
    is_regex: bool = False
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """text, by: what the fields of `Inputs` are called for it, "" where it has no such field."""

    change: Callable[[str, Inputs], str]
    text: str
    by: str = ""
    searches: bool = False


def _replace(caption: str, inputs: Inputs) -> str:
    expression = compile_pattern(inputs.text, is_regex=inputs.is_regex, ignore_case=inputs.ignore_case)
    return substitute(expression, inputs.by, caption, is_regex=inputs.is_regex)


def _remove_sentences(caption: str, inputs: Inputs) -> str:
    """# "A cat. The image is blurry. It sits.", blurry -> "A cat. It sits." """
    expression = compile_pattern(inputs.text, is_regex=inputs.is_regex, ignore_case=inputs.ignore_case)
    return " ".join(sentence for sentence in _SENTENCES.findall(caption) if not search(expression, sentence))


_SENTENCES = compile_pattern(r"\S.*?(?:[.!?][\"')\]]*(?=\s|$)|$)", is_regex=True)

OPERATIONS: Mapping[str, Operation] = {
    "find and replace": Operation(_replace, "Find", "Replace by", searches=True),
    "prefix": Operation(lambda caption, put: apply_affixes(caption, prefix=put.text), "Put before each"),
    "suffix": Operation(lambda caption, put: apply_affixes(caption, suffix=put.text), "Put after each"),
    "trigger": Operation(
        lambda caption, put: apply_affixes(caption, trigger=put.text), "Put before those without this word"
    ),
    "remove sentence": Operation(_remove_sentences, "Sentences that hold", searches=True),
}


@dataclass(frozen=True, slots=True)
class PlannedChange:
    entry: ReviewItem
    before: str
    draft: Draft


def plan_changes(entries: Iterable[ReviewItem], name: str, inputs: Inputs) -> list[PlannedChange]:
    """What would change. Raises `UsageError` for a regular expression that is none, or takes too long."""
    if not inputs.text:
        return []
    changes = []
    for entry in with_time_limit(entries, is_regex=inputs.is_regex):
        words = entry.words
        if words.digest is None or entry.access_error is not None:
            continue
        lines = words.text.splitlines()
        after = "\n".join(one_line(OPERATIONS[name].change(line, inputs)) for line in lines)
        if (after := one_line(after, lines=len(lines) > 1)) != words.text:
            changes.append(PlannedChange(entry, words.text, Draft(entry.number, words.digest, after)))
    return changes


def word_diff(before: str, after: str) -> list[tuple[str, str]]:
    """What stayed, went and came, word by word.

    # "a red cat", "a blue cat" -> ("same", "a "), ("gone", "red"), ("new", "blue"), ("same", " cat")
    """
    old, new = (compile_pattern(r"\s+|\w+|[^\w\s]", is_regex=True).findall(text) for text in (before, after))
    parts: list[tuple[str, str]] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(("same", "".join(old[a:b])))
            continue
        parts += [(name, "".join(words)) for name, words in (("gone", old[a:b]), ("new", new[c:d])) if words]
    return parts
