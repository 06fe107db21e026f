"""Operations on many captions, and a preview of what each one changes. Pure functions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Literal

from ..captions.clean import apply_affixes
from ..captions.formats import CaptionFormat, FormatError
from ..config.formats import FormatSpec
from ..text import parse_json
from . import tags
from .changes import Draft, normalize_caption
from .library import ReviewItem
from .patterns import compile_pattern, search, substitute, with_time_limit
from .structure import format_problem, parse_structured, structured_format


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input fields of an operation."""

    text: str = ""  # to find or to add
    replacement: str = ""
    is_regex: bool = False
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on one caption. The labels of its `Inputs` are "" for an unused one.

    A structured caption is left out, except by operations with an `affix`, which its format adds, and by those that
    are `structure_safe`, if the result still fits the format.
    """

    change: Callable[[str, Inputs], str]
    text_label: str
    replacement_label: str = ""
    searches: bool = False
    takes_tags: bool = False  # as its text
    bare: bool = False  # whether it does something without a text
    affix: Literal["prefix", "suffix", "trigger"] | None = None
    structure_safe: bool = False


def _replace(caption: str, inputs: Inputs) -> str:
    expression = compile_pattern(inputs.text, is_regex=inputs.is_regex, ignore_case=inputs.ignore_case)
    return substitute(expression, inputs.replacement, caption, is_regex=inputs.is_regex)


def _remove_sentences(caption: str, inputs: Inputs) -> str:
    """# "A cat. The image is blurry. It sits.", blurry -> "A cat. It sits." """
    expression = compile_pattern(inputs.text, is_regex=inputs.is_regex, ignore_case=inputs.ignore_case)
    return " ".join(sentence for sentence in _SENTENCES.findall(caption) if not search(expression, sentence))


_SENTENCES = compile_pattern(r"\S.*?(?:[.!?][\"')\]]*(?=\s|$)|$)", is_regex=True)

OPERATIONS: Mapping[str, Operation] = {
    "find and replace": Operation(_replace, "Find", "Replace with", searches=True, structure_safe=True),
    "prepend (prefix)": Operation(
        lambda caption, put: apply_affixes(caption, prefix=put.text), "Text to put first", affix="prefix"
    ),
    "append (suffix)": Operation(
        lambda caption, put: apply_affixes(caption, suffix=put.text), "Text to put last", affix="suffix"
    ),
    "trigger": Operation(
        lambda caption, put: apply_affixes(caption, trigger=put.text),
        "Word to put first where it is missing",
        affix="trigger",
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


@dataclass(frozen=True, slots=True)
class BulkPlan:
    """left_out: item number -> why its structured caption would not change."""

    changes: list[PlannedChange] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)


def plan_changes(
    entries: Iterable[ReviewItem], name: str, inputs: Inputs, spec: FormatSpec = FormatSpec("prose")
) -> BulkPlan:
    """Return what would change. Raises `UsageError` for an invalid or slow regular expression.

    spec: that of --format.
    """
    plan, operation = BulkPlan(), OPERATIONS[name]
    if not inputs.text and not operation.bare:
        return plan
    for entry in with_time_limit(entries, is_regex=inputs.is_regex):
        caption = entry.caption
        if caption.digest is None or entry.access_error is not None:
            continue
        try:
            after = _changed(caption.text, operation, inputs, spec)
        except FormatError as error:
            plan.left_out[entry.number] = str(error)
            continue
        if after != caption.text:
            plan.changes.append(PlannedChange(entry, caption.text, Draft(entry.number, caption.digest, after)))
    return plan


def _changed(text: str, operation: Operation, inputs: Inputs, spec: FormatSpec) -> str:
    """Raises `FormatError` for a structured caption that the operation cannot change."""
    if operation.affix is not None and (structured := structured_format(text, spec)) is not None:
        content = parse_structured(text, structured)
        affixed = structured.add_affixes(content, **{operation.affix: inputs.text})
        return text if affixed == content else structured.render(affixed)
    lines = text.splitlines()
    changed = [operation.change(line, inputs) if line.strip() else line for line in lines]
    if changed == lines:
        return text
    if (structured := structured_format(text, spec)) is not None and not operation.structure_safe:
        raise FormatError(f"this operation is not for captions of the format {structured.name}")
    after = normalize_caption("\n".join(changed), text.encode())
    _refuse_damage(text, after, structured)
    return after


def _refuse_damage(before: str, after: str, structured: CaptionFormat[Any] | None) -> None:
    """Raises `FormatError` if `before` is JSON or fits its format, and `after` does not."""
    if _is_object(before) and not _is_object(after):
        raise FormatError("the result is not valid JSON")
    if structured is None:
        return
    if (problem := format_problem(after, structured)) and not format_problem(before, structured):
        raise FormatError(problem)


def _is_object(text: str) -> bool:
    try:
        return text.startswith("{") and isinstance(parse_json(text), dict)
    except ValueError:
        return False


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
