"""Caption formats: parse an answer, check it and render the caption. config/formats.py has their names and schemas."""

import re
from functools import cache
from typing import Any

from ...config.formats import FORMATS, FormatSpec, format_spec
from .base import CaptionFormat, FormatError, ParseOptions
from .plain import Prose, Tags

__all__ = ["CaptionFormat", "FormatError", "ParseOptions", "detect", "get_format", "join_prose_lines"]


def get_format(spec: FormatSpec) -> CaptionFormat[Any]:
    """Return the format. Raises `UsageError` if its schema is invalid."""
    if spec.schema is None:
        return Tags() if spec.name == "tags" else Prose()
    if spec.name == "minimax-h3":
        from .labeled import H3

        return H3(spec.name, spec.schema)
    from .schema import JSONObject

    return JSONObject(spec.name, spec.schema)


@cache
def _shipped(name: str) -> CaptionFormat[Any]:
    return get_format(format_spec(name))


@cache
def _any_object() -> CaptionFormat[Any]:
    return get_format(FormatSpec("json", {"type": "object", "properties": {}}))


def detect(text: str) -> CaptionFormat[Any]:
    """Return the format that a text is in or was meant to be in, by its field names; prose by default.

    # an object with all required fields or half of all fields of a shipped schema -> that schema; other JSON -> "json"
    """
    if re.search(r"^[^\w\n]{0,9}_*integrated[ _-]multimodal[ _-]description[*_]*:", text, re.IGNORECASE | re.MULTILINE):
        return _shipped("minimax-h3")
    if not re.search(r"\{\s*\"[^\"]+\"\s*:\s*(?:[\"\[{\d-]|true|false|null)", text):
        return _shipped("prose")
    for name in FORMATS:
        if (schema := format_spec(name).schema) is None:
            continue
        fields = {field for field in schema["properties"] if f'"{field}"' in text}
        if fields.issuperset(schema["required"]) or 2 * len(fields) >= len(schema["properties"]):
            return _shipped(name)
    return _any_object()


def join_prose_lines(text: str) -> str:
    """Join the lines of prose; keep the lines of a structured caption."""
    return " ".join(text.split()) if detect(text).name == "prose" else text.strip()
