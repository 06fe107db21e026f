"""Caption formats by name: the schema of each, and its instructions to the model.

captions/formats/ reads and writes captions.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..storage.filesystem import expand_home
from ..text import parse_json, path_error

FORMATS = ("prose", "tags", "ideogram4", "minimax-h3", "fibo", "flux2")  # or a file with a JSON Schema
_TAGS = "Answer with short tags, separated by commas, on one line. Write no sentences and nothing else."
_OBJECT = "Answer with one JSON object and nothing else. It must conform to this JSON Schema:"


@dataclass(frozen=True)
class FormatSpec:
    """A caption format.

    Attributes:
        schema: The JSON Schema of the captions; None for prose and tags. Keywords of our own: `x-trigger` (the text
            that gets trigger, prefix and suffix), `x-verbatim` (text that is never changed), `x-box` ([ymin, xmin,
            ymax, xmax]), `x-instructions` (for a format that is not written as JSON).
        instructions: What is added to a prompt that does not name the fields of the format.
        max_new_tokens: The default of --max-new-tokens, if it differs.
    """

    name: str
    schema: Mapping[str, Any] | None = None
    instructions: str = ""
    max_new_tokens: int | None = None

    @property
    def json_schema(self) -> Mapping[str, Any] | None:
        """The schema for servers that enforce one; None if captions are not JSON."""
        return None if self.schema is None or "x-instructions" in self.schema else without_own_keywords(self.schema)

    def instruct(self, prompt: str) -> str:
        """Append the instructions to a prompt, unless it names all required fields. Braces are doubled."""
        fields = self.schema.get("required", ()) if self.schema else ()
        if not self.instructions or (fields and all(field in prompt for field in fields)):
            return prompt
        return f"{prompt}\n\n{self.instructions.replace('{', '{{').replace('}', '}}')}"


def read_utf8(path: Path) -> str:
    return expand_home(path).read_text(encoding="utf-8-sig")


def format_spec(name: str | None, read: Callable[[Path], str] = read_utf8) -> FormatSpec:
    """Return the format that --format names, or that a file describes. Raises `UsageError` if it is not a schema."""
    if name in (None, "prose"):
        return FormatSpec("prose")
    if name == "tags":
        return FormatSpec("tags", instructions=_TAGS)
    schema = _shipped(name) if name in FORMATS else _read_schema(Path(name), read)
    shown = json.dumps(without_own_keywords(schema), ensure_ascii=False, separators=(",", ":"))
    return FormatSpec(name, schema, schema.get("x-instructions") or f"{_OBJECT}\n{shown}", 2048)


@cache
def _shipped(name: str) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads(
        (files(__package__) / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    )
    return schema


def _read_schema(path: Path, read: Callable[[Path], str]) -> Mapping[str, Any]:
    try:
        schema = parse_json(read(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"--format {path} cannot be read: {path_error(error)}") from error
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        raise UsageError(f'--format {path} is not the JSON Schema of an object: give it "type": "object", "properties"')
    return schema


def without_own_keywords(schema: Any) -> Any:
    """The schema without `x-` keywords and `$schema`, as models and servers get it."""
    if isinstance(schema, list):
        return [without_own_keywords(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: without_own_keywords(v) for k, v in schema.items() if not k.startswith("x-") and k != "$schema"}
