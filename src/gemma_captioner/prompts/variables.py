"""The variables that prompts, prefixes and suffixes may hold."""

import string
from collections.abc import Iterable, Mapping

from ..errors import UsageError
from ..types import Frames, MediaItem

VARIABLES = {
    "stem": "the file's name without its extension",
    "filename": "the file's name",
    "folder": "the name of the folder that the file lies in",
    "trigger": "what --trigger gives",
    "existing": "the caption that is there now",
    "tags": "the facts' column `tags`, or the present caption where it is a list of tags",
    "duration": "of a clip, in seconds",
    "num_frames": "how many frames the model sees",
    "width": "of the picture, in pixels",
    "height": "of the picture, in pixels",
}
_NUMBERS: dict[str, str | int | float] = {"duration": 1.5, "num_frames": 1, "width": 1, "height": 1}  # the rest is text
_BRACES = "To write a brace itself, double it: {{ or }}"


def validate_templates(texts: Iterable[str], columns: Iterable[str], trigger: str) -> set[str]:
    """The variables that they use. Raises `UsageError` for one that is not known, before any model is loaded, and for
    one that cannot be written as it is asked for: `{stem:d}`."""
    columns = list(columns)
    known, used = [*VARIABLES, *columns], set()
    samples = dict.fromkeys(VARIABLES, "") | _NUMBERS | dict.fromkeys(columns, "")
    for text in texts:
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except ValueError as error:
            raise UsageError(f"a brace in {text!r} has no counterpart. {_BRACES}") from error
        if unknown := names.difference(known):
            raise UsageError(
                f"unknown variable {{{min(unknown)}}}. Available: {', '.join(f'{{{k}}}' for k in known)}. {_BRACES}"
            )
        if "trigger" in names and not trigger:
            raise UsageError("the prompt uses {trigger}: give --trigger WORD")
        try:
            fill_template(text, samples)
        except (ValueError, LookupError) as error:
            raise UsageError(f"a variable in {text!r} cannot be written in this form. {_BRACES}") from error
        used |= names
    return used


def variable_values(
    item: MediaItem, frames: Frames, *, trigger: str, existing: str, metadata: Mapping[str, str]
) -> dict[str, str | int | float]:
    """What the variables stand for, for one item; a column of the facts beats a variable of its name."""
    looks_like_tags = existing.count(",") >= 2 and all(len(tag.split()) <= 4 for tag in existing.split(","))
    return {
        "stem": item.path.stem,
        "filename": item.path.name,
        "folder": item.path.parent.name,
        "trigger": trigger,
        "existing": existing,
        "tags": existing if looks_like_tags else "",
        "duration": round(frames.duration_s, 2),
        "num_frames": len(frames.times_s),
        "width": frames.source_size[0],
        "height": frames.source_size[1],
        **metadata,
    }


def fill_template(text: str, values: Mapping[str, str | int | float]) -> str:
    """# "A {stem}, {{so}}", stem cat -> "A cat, {so}" """
    return string.Formatter().vformat(text, (), values)
