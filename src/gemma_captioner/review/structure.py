"""Structured captions: which format a text is in, what its fields mean, and what is wrong with it. Pure functions."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from ..captions.formats import CaptionFormat, FormatError, ParseOptions, detect, get_format
from ..config.formats import FormatSpec, format_spec

if TYPE_CHECKING:
    from ..captions.formats.schema import JSONObject


@dataclass(frozen=True, slots=True)
class Structure:
    """What the page needs to show the fields of a caption.

    Attributes:
        name: Of the format.
        is_json: Whether the caption is a JSON object; else it has labeled paragraphs.
        order: The fields of the outermost object, in the order of the format.
        optional: The fields that may be added.
        hints: Place of a field -> its description.
    """

    name: str
    is_json: bool
    order: tuple[str, ...]
    optional: tuple[str, ...]
    hints: dict[str, str]


def structured_format(text: str, spec: FormatSpec) -> "JSONObject | None":
    """Return the format of a structured caption, None for another text.

    spec: that of --format. It is the format of every structured caption; without one, the fields of the text decide.
    """
    found = detect(text)
    if found.name == "prose":
        return None
    return cast("JSONObject", found if spec.schema is None else _format(spec.name))


@lru_cache(8)
def _format(name: str) -> CaptionFormat[Any]:
    return get_format(format_spec(name))


def structure_of(text: str, spec: FormatSpec) -> Structure | None:
    """Return None for a text that is not structured."""
    caption_format = structured_format(text, spec)
    if caption_format is None:
        return None
    properties = caption_format.schema["properties"]
    required = caption_format.schema.get("required", ())
    is_json = "x-instructions" not in caption_format.schema
    optional = (name for name, schema in properties.items() if name not in required and schema.get("type") == "string")
    hints = {}
    try:
        for place, schema, is_required in caption_format.fields(caption_format.parse(text, _options(None))):
            hints[place] = _hint(schema, is_required)
    except FormatError:  # the fields are shown without hints
        pass
    order = [name for name in properties if is_json or name in required]
    return Structure(caption_format.name, is_json, tuple(order), tuple(optional) if is_json else (), hints)


def _options(duration_s: float | None) -> ParseOptions:
    return ParseOptions(ascii_punctuation=False, duration_s=duration_s, keep_prose=True)


def _hint(schema: Any, is_required: bool) -> str:
    """# a color of a palette -> "optional, #RRGGBB" """
    parts = ["required" if is_required else "optional"]
    parts += [str(schema["description"])] if "description" in schema else []
    parts += [" or ".join(map(str, schema["enum"]))] if "enum" in schema else []
    parts += [f"always {schema['const']}"] if "const" in schema else []
    parts += [f"pattern {schema['pattern']}"] if "pattern" in schema else []
    return "; ".join(parts)


def parse_structured(text: str, caption_format: CaptionFormat[Any], duration_s: float | None = None) -> Any:
    """Read a structured caption that a person may have written. Raises `FormatError` if `check` would report it."""
    content = caption_format.parse(text, _options(duration_s))
    if outside := caption_format.text_outside(text):
        raise FormatError(f"text outside the caption: {outside[:60]!r}")
    return content


def format_problem(text: str, caption_format: CaptionFormat[Any], duration_s: float | None = None) -> str:
    """Return why a structured caption does not fit its format; "" if it does."""
    try:
        parse_structured(text, caption_format, duration_s)
    except FormatError as error:
        return str(error)
    return ""


def problem_of(text: str, spec: FormatSpec, duration_s: float | None = None) -> str:
    """Return the problem that `check` would report for a structured caption; "" if there is none."""
    caption_format = structured_format(text, spec)
    return "" if caption_format is None else format_problem(text, caption_format, duration_s)
