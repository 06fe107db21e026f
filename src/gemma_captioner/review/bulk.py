"""Operations on many captions, and a preview of what each one changes. Pure functions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..captions.clean import apply_affixes
from . import tags
from .changes import Draft, normalize_caption
from .library import ReviewItem
from .patterns import compile_pattern, search, substitute, with_time_limit


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input fields of an operation."""

    text: str = ""  # to find or to add
    replacement: str = ""
    is_regex: bool = False
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on one caption. The labels of its `Inputs` are "" for an unused one."""

    change: Callable[[str, Inputs], str]
    text_label: str
    replacement_label: str = ""
    searches: bool = False
    takes_tags: bool = False  # as its text
    bare: bool = False  # whether it does something without a text


def _replace(caption: str, inputs: Inputs) -> str:
    expression = compile_pattern(inputs.text, is_regex=inputs.is_regex, ignore_case=inputs.ignore_case)
    return substitute(expression, inputs.replacement, caption, is_regex=inputs.is_regex)


def _remove_sentences(caption: str, inputs: Inputs) -> str:
    """# "A cat. The image is blurry. It sits.", blurry -> "A cat. It sits." """
    expression = compile_pattern(inputs.text, is_regex=inputs.is_regex, ignore_case=inputs.ignore_case)
    return " ".join(sentence for sentence in _SENTENCES.findall(caption) if not search(expression, sentence))


_SENTENCES = compile_pattern(r"\S.*?(?:[.!?][\"')\]]*(?=\s|$)|$)", is_regex=True)

OPERATIONS: Mapping[str, Operation] = {
    "find and replace": Operation(_replace, "Find", "Replace with", searches=True),
    "prepend (prefix)": Operation(lambda caption, put: apply_affixes(caption, prefix=put.text), "Text to put first"),
    "append (suffix)": Operation(lambda caption, put: apply_affixes(caption, suffix=put.text), "Text to put last"),
    "trigger": Operation(
        lambda caption, put: apply_affixes(caption, trigger=put.text), "Word to put first where it is missing"
    ),
    "remove sentence": Operation(_remove_sentences, "Remove sentences that contain", searches=True),
    "add tag": Operation(lambda caption, put: tags.add_tags(caption, put.text), "Tags to put last", takes_tags=True),
    "add tag first": Operation(
        lambda caption, put: tags.add_tags(caption, put.text, first=True), "Tags to put first", takes_tags=True
    ),
    "remove tag": Operation(lambda caption, put: tags.remove_tags(caption, put.text), "Tags", takes_tags=True),
    "rename tag": Operation(
        lambda caption, put: tags.rename_tag(caption, put.text, put.replacement), "Tag", "New tag", takes_tags=True
    ),
    "sort tags": Operation(
        lambda caption, put: tags.sort_tags(caption, put.text), "Tags that stay in front", takes_tags=True, bare=True
    ),
    "remove repeated tags": Operation(lambda caption, put: tags.without_repeats(caption), "", bare=True),
}


@dataclass(frozen=True, slots=True)
class PlannedChange:
    entry: ReviewItem
    before: str
    draft: Draft


def plan_changes(entries: Iterable[ReviewItem], name: str, inputs: Inputs) -> list[PlannedChange]:
    """Return the captions that would change. Raises `UsageError` for an invalid or slow regular expression."""
    if not inputs.text and not OPERATIONS[name].bare:
        return []
    changes = []
    for entry in with_time_limit(entries, is_regex=inputs.is_regex):
        caption = entry.caption
        if caption.digest is None or entry.access_error is not None:
            continue
        lines = caption.text.splitlines()
        changed = [OPERATIONS[name].change(line, inputs) if line.strip() else line for line in lines]
        after = normalize_caption("\n".join(changed), caption.text.encode())
        if changed != lines and after != caption.text:
            changes.append(PlannedChange(entry, caption.text, Draft(entry.number, caption.digest, after)))
    return changes


def word_diff(before: str, after: str) -> list[tuple[str, str]]:
    """Return the parts that are the same, gone and new, word by word.

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
