"""The variables of prompts, prefixes and suffixes.

`{name}` is the value. `{name:+text}` is the text if the value is not empty, `{name:-text}` the text if it is empty.
"""

import string
from collections.abc import Iterable, Iterator, Mapping

from ..captions.unfinished import is_list
from ..config.prompting import variable_names
from ..errors import UsageError
from ..text import encodable
from ..types import Frames, MediaItem

VARIABLES = {
    "stem": "the file's name without its extension",
    "filename": "the file's name",
    "folder": "the name of the folder that contains the file",
    "trigger": "the value of --trigger",
    "existing": "the existing caption",
    "previous": "the answer to the prompt before, which this prompt continues",
    "tags": "the column `tags` of the metadata table, or the existing caption if it is a list of tags",
    "transcript": "what is said in the clip, from --transcripts",
    "sound": "`sound` if the model hears the clip, otherwise empty",
    "silence": "`silence` if the sound of the clip is silence, otherwise empty",
    "duration": "the duration of a clip in seconds",
    "num_frames": "the number of frames that the model receives",
    "width": "the width of the picture in pixels",
    "height": "the height of the picture in pixels",
}
_NUMBERS: dict[str, str | int | float] = {"duration": 1.5, "num_frames": 1, "width": 1, "height": 1}  # others are text
_BRACES = "To write a brace itself, double it: {{ or }}"
MAY_BE_EMPTY = frozenset(("existing", "transcript", "sound", "silence"))


class _Text(str):
    """A value that is text. Its format may be a condition."""

    def __format__(self, spec: str) -> str:
        if spec[:1] in ("+", "-"):
            return spec[1:] if bool(self.strip()) == (spec[0] == "+") else ""
        return super().__format__(spec)


def unconditional_variables(text: str, conditions: frozenset[str] = frozenset()) -> Iterator[str]:
    """The variables outside of conditions.

    # "{stem}, {place:+in {place} at {time}}" -> stem, time
    """
    for _, name, spec, _ in string.Formatter().parse(text):
        if name is None:
            continue
        has_condition = (spec or "")[:1] in ("+", "-")
        if not has_condition and name not in conditions:
            yield name
        yield from unconditional_variables(spec or "", conditions | {name} if has_condition else conditions)


def validate_templates(texts: Iterable[str], columns: Iterable[str], trigger: str) -> set[str]:
    """Return the variables in the texts. Raises `UsageError` for an unknown one or a wrong format like `{stem:d}`."""
    columns = list(columns)
    known, used = [*VARIABLES, *columns], set()
    numbers = {name: number for name, number in _NUMBERS.items() if name not in columns}  # a column is text
    samples = [{**dict.fromkeys(known, text), **numbers} for text in ("", "text")]
    for text in texts:
        try:
            names = set(variable_names(text))
        except ValueError as error:
            raise UsageError(f"unmatched brace in {text!r}. {_BRACES}") from error
        if unknown := names.difference(known):
            raise UsageError(
                f"unknown variable {{{min(unknown)}}}. Available: {', '.join(f'{{{k}}}' for k in known)}. {_BRACES}"
            )
        if "trigger" in names and not trigger:
            raise UsageError("the prompt uses {trigger}: give --trigger WORD")
        try:
            for sample in samples:
                fill_template(text, sample)
        except (ValueError, LookupError) as error:
            raise UsageError(f"invalid variable format in {text!r}. {_BRACES}") from error
        used |= names
    return used


def variable_values(
    item: MediaItem, frames: Frames, *, trigger: str, existing: str, metadata: Mapping[str, str], transcript: str = ""
) -> dict[str, str | int | float]:
    """Return the values of the variables for one item. A metadata column overrides a variable of the same name."""
    is_silent = "silent" in frames.flags
    return {
        "transcript": transcript,
        "sound": "sound" * (frames.audio is not None and not is_silent),
        "silence": "silence" * is_silent,
        "duration": round(frames.duration_s, 2),
        "num_frames": len(frames.times_s),
        "width": frames.source_size[0],
        "height": frames.source_size[1],
        **text_values(item, trigger=trigger, existing=existing, metadata=metadata),
    }


def text_values(item: MediaItem, *, trigger: str, existing: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the values that are known before the item is decoded. Only these can be empty."""
    looks_like_tags = existing.count(",") >= 2 and is_list(existing)
    return {
        "stem": encodable(item.path.stem),
        "filename": encodable(item.path.name),
        "folder": encodable(item.path.parent.name),
        "trigger": trigger,
        "existing": existing,
        "tags": existing if looks_like_tags else "",
        **metadata,
    }


def find_empty_variable(texts: Iterable[str], values: Mapping[str, str | int | float]) -> str | None:
    """Return a variable in the texts whose value is empty, which would leave a gap.

    `{existing}` and those about sound may be empty, and each one inside its condition: `{place:+Filmed in {place}.}`.
    """
    names = (name for text in texts for name in unconditional_variables(text) if name not in MAY_BE_EMPTY)
    return next((name for name in names if not str(values.get(name, name)).strip()), None)


def fill_template(text: str, values: Mapping[str, str | int | float]) -> str:
    """Fill in the values.

    # "A {stem}, {{so}}", stem cat -> "A cat, {so}"
    # "A cat.{place:+ Filmed in {place}.}", place Lisbon -> "A cat. Filmed in Lisbon."; without a place -> "A cat."
    """
    shown = {name: _Text(value) if isinstance(value, str) else value for name, value in values.items()}
    return "".join(_filled(text, shown))


def _filled(text: str, values: Mapping[str, str | int | float]) -> Iterator[str]:
    """`str.format`, for conditions within conditions."""
    formatter = string.Formatter()
    for literal, name, spec, conversion in formatter.parse(text):
        yield literal
        if name is not None:
            value, _ = formatter.get_field(name, (), values)
            if conversion:
                value = formatter.convert_field(value, conversion)
            yield format(value, "".join(_filled(spec or "", values)))
