"""Captions that are JSON objects of a schema: one line of minified JSON.

Keywords of our own in a schema: `x-trigger`, `x-verbatim`, `x-box` (config/formats.py).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, reduce
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from ...errors import UsageError
from ...text import encodable
from ..clean import apply_affixes, clean_field, strip_template
from .base import DEFAULT_OPTIONS, CaptionFormat, FormatError, ParseOptions
from .json_text import parse_object

Schema = Mapping[str, Any]
Object = dict[str, Any]
Clean = Callable[[str], str]
_FENCE = re.compile(r"```\w*")
_MAX_PROBLEMS, _MAX_LETTERS = 3, 160


def _box_problems(validator: Validator, wanted: bool, box: Any, schema: Schema) -> Iterator[jsonschema.ValidationError]:
    if wanted and isinstance(box, list) and len(box) == 4 and all(isinstance(edge, int | float) for edge in box):
        for low, high, names in ((box[0], box[2], "ymin, ymax"), (box[1], box[3], "xmin, xmax")):
            if low > high:
                yield jsonschema.ValidationError(f"{names}: {low} is greater than {high}")


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"x-box": _box_problems})


class JSONObject(CaptionFormat[Object]):
    """A JSON object that conforms to a schema. Raises `UsageError` if the schema is invalid."""

    keeps_partial = False
    keep = "(?!)"  # a pattern of text that is never changed

    def __init__(self, name: str, schema: Schema) -> None:
        self.name, self.schema = name, schema
        try:
            _Validator.check_schema(schema)
            for reference in _references(schema):
                self._follow(reference)
        except (jsonschema.SchemaError, LookupError) as error:
            reason = error.message if isinstance(error, jsonschema.SchemaError) else f"no such reference: {error}"
            raise UsageError(f"--format {name} is not a valid JSON Schema: {reason}") from error
        self._validator = _Validator(schema)

    # Reading

    def parse(self, answer: str, options: ParseOptions = DEFAULT_OPTIONS) -> Object:
        """Repair key order, case, nulls, whole numbers and prose; refuse everything else that does not conform."""
        found = self._read(strip_template(answer))
        properties = self.schema["properties"].keys()
        if properties and len(found) == 1 and not found.keys() & properties:
            [inner] = found.values()  # {"caption": {...}}
            found = inner if isinstance(inner, dict) else found
        clean: Clean = partial(clean_field, ascii_punctuation=options.ascii_punctuation, keep=self.keep)
        content: Object = self._repair(found, self.schema, str if options.keep_prose else clean)
        problems = list(map(self._explain, self._validator.iter_errors(content)))
        problems = problems or self._problems(content, options.duration_s)
        if problems:
            raise FormatError("; ".join(problems[:_MAX_PROBLEMS]))
        return content

    def _read(self, text: str) -> Object:
        return parse_object(text)

    def text_outside(self, text: str) -> str:
        before, _, rest = text.partition("{")
        return _FENCE.sub("", before + rest.rpartition("}")[2]).strip()

    def _problems(self, content: Object, duration_s: float | None) -> list[str]:
        """Return the problems that a JSON Schema cannot express."""
        return []

    def _repair(self, value: Any, schema: Schema, clean: Clean) -> Any:
        schema = self._resolve(schema, value)
        if isinstance(value, dict):
            properties, required = schema.get("properties", {}), schema.get("required", ())
            places = {key: place for place, key in enumerate(properties)}
            return {
                key: self._repair(value[key], properties.get(key, {}), clean)
                for key in sorted(value, key=lambda key: places.get(key, len(places)))
                if value[key] is not None or key in required or self._has_type(properties.get(key, {}), None)
            }
        if isinstance(value, list):
            return [self._repair(item, schema.get("items", {}), clean) for item in value]
        if isinstance(value, float) and value.is_integer() and schema.get("type") == "integer":
            return int(value)
        if not isinstance(value, str) or schema.get("x-verbatim"):
            return value
        if not _is_prose(schema):
            cases = (value, value.upper(), value.lower(), value.strip())
            return next((case for case in cases if _Validator(schema).is_valid(case)), value)
        return clean(value)

    # The schema

    def _follow(self, reference: str) -> Schema:
        """Raises `LookupError`: a schema is one file, so that nothing is read from the network."""
        if not reference.startswith("#"):
            raise LookupError(reference)
        steps = [step.replace("~1", "/").replace("~0", "~") for step in reference[1:].split("/") if step]
        found: Schema = reduce(lambda part, step: part[step], steps, self.schema)
        return found

    def _resolve(self, schema: Any, value: Any) -> Schema:
        """Follow references, and take the branch of `anyOf`, `oneOf` and `allOf` that the value fits best."""
        if not isinstance(schema, Mapping):  # True and False are schemas
            return {}
        merged = {key: part for key, part in schema.items() if key not in ("$ref", "anyOf", "oneOf", "allOf")}
        parts = [self._follow(schema["$ref"])] if "$ref" in schema else []
        parts += schema.get("allOf", [])
        for name in ("anyOf", "oneOf"):
            if branches := schema.get(name):
                parts.append(branches[self._best_branch(branches, value)])
        for part in parts:
            resolved = self._resolve(part, value)
            merged = {**resolved, **merged, "required": [*merged.get("required", ()), *resolved.get("required", ())]}
            own = merged.get("properties", {})
            merged["properties"] = {**own, **resolved.get("properties", {}), **own}
        return merged

    def _best_branch(self, branches: list[Schema], value: Any) -> int:
        def misfits(index: int) -> int:
            branch = self._resolve(branches[index], value)
            if not self._has_type(branch, value):
                return 1000
            if not isinstance(value, dict):
                return 0
            properties = branch.get("properties", {})
            constants = [(value.get(key), part["const"]) for key, part in properties.items() if "const" in part]
            missing = set(branch.get("required", ())) - value.keys()
            wrong = sum(found != wanted for found, wanted in constants)
            return int(100 * wrong + len(missing) + len(value.keys() - properties.keys()))

        return min(range(len(branches)), key=misfits)

    def _has_type(self, schema: Any, value: Any) -> bool:
        types = self._resolve(schema, value).get("type", ())
        types = [types] if isinstance(types, str) else types
        return not types or any(_Validator({}).is_type(value, name) for name in types)

    def _explain(self, error: jsonschema.ValidationError) -> str:
        """Describe an error and its place, in the branch of `anyOf` that fits best.

        # compositional_deconstruction.elements[0].bbox[3]: 1690 is greater than the maximum of 1000
        """
        while error.validator in ("anyOf", "oneOf") and error.context:
            best = self._best_branch(error.validator_value, error.instance)
            inner = [cause for cause in error.context if cause.schema_path[0] == best]
            error = (inner or error.context)[0]
        place = place_of(error.absolute_path)
        message = error.message if len(error.message) <= _MAX_LETTERS else f"...{error.message[-_MAX_LETTERS:]}"
        return f"{place}: {message}" if place else message

    def fields(self, content: Object) -> Iterator[tuple[str, Schema, bool]]:
        """Yield (place, schema, whether it is required) of each value that is no object and no list.

        # {"scene": "A pier.", "subjects": [{"description": "a boat"}]} -> scene, subjects[0].description
        """
        parents: dict[tuple[str | int, ...], Schema] = {}
        for path, value, schema in self._walk(content, self.schema):
            parents[path] = schema
            if path and not isinstance(value, dict | list):
                yield place_of(path), schema, path[-1] in parents[path[:-1]].get("required", ())

    # Texts

    def texts(self, content: Object) -> list[str]:
        texts = (text for _, text, _ in self._prose(content))
        return [text for text in texts if any(map(str.isalpha, text))]

    def _prose(self, content: Object) -> Iterator[tuple[tuple[str | int, ...], str, Schema]]:
        for path, value, schema in self._walk(content, self.schema):
            if isinstance(value, str) and _is_prose(schema) and not schema.get("x-verbatim"):
                yield path, value, schema

    def _walk(
        self, value: Any, schema: Schema, path: tuple[str | int, ...] = ()
    ) -> Iterator[tuple[tuple[str | int, ...], Any, Schema]]:
        """Yield (path, value, schema) of each value, in order."""
        schema = self._resolve(schema, value)
        yield path, value, schema
        if isinstance(value, dict):
            for key, part in value.items():
                yield from self._walk(part, schema.get("properties", {}).get(key, {}), (*path, key))
        elif isinstance(value, list):
            for index, part in enumerate(value):
                yield from self._walk(part, schema.get("items", {}), (*path, index))

    def add_affixes(self, content: Object, *, trigger: str = "", prefix: str = "", suffix: str = "") -> Object:
        """To the first text with `x-trigger`; without one, to the first text."""
        texts = enumerate(self._prose(content))
        places = [(not schema.get("x-trigger"), number, path) for number, (path, _, schema) in texts]
        if not places or not (trigger or prefix or suffix):
            return content
        affixed: Object = _changed(
            content, min(places)[2], partial(self._with_affixes, trigger=trigger, prefix=prefix, suffix=suffix)
        )
        return affixed

    def _with_affixes(self, text: str, *, trigger: str, prefix: str, suffix: str) -> str:
        return apply_affixes(text, trigger=trigger, prefix=prefix, suffix=suffix)

    # Writing

    def render(self, content: Object) -> str:
        return encodable(json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False))

    def shorter_versions(self, content: Object) -> Iterator[Object]:
        """Drop optional properties, the innermost and last first, each everywhere at once."""
        optional: dict[tuple[str, ...], int] = {}
        triggers = [path for path, _, schema in self._walk(content, self.schema) if schema.get("x-trigger")]
        for path, value, schema in self._walk(content, self.schema):
            for key in value if isinstance(value, dict) else ():
                holds_trigger = any(trigger[: len(path) + 1] == (*path, key) for trigger in triggers)
                if key not in schema.get("required", ()) and not holds_trigger:
                    optional.setdefault(_names((*path, key)), len(optional))
        for names in sorted(optional, key=lambda names: (len(names), optional[names]), reverse=True):
            content = _without(content, names)
            yield content


def place_of(path: Iterable[str | int]) -> str:
    """# ("elements", 0, "bbox") -> elements[0].bbox"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def _is_prose(schema: Schema) -> bool:
    return schema.keys().isdisjoint(("enum", "const", "pattern", "format"))


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str):
        yield schema["$ref"]
    parts: Any = schema.values() if isinstance(schema, Mapping) else schema
    for part in parts if isinstance(parts, Iterable) and not isinstance(parts, str) else ():
        yield from _references(part)


def _changed(value: Any, path: tuple[str | int, ...], change: Callable[[str], str]) -> Any:
    """A copy in which the text at the path is changed."""
    if not path:
        return change(value)
    copy = value.copy()
    copy[path[0]] = _changed(value[path[0]], path[1:], change)
    return copy


def _names(path: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple(step for step in path if isinstance(step, str))


def _without(value: Any, names: tuple[str, ...]) -> Any:
    """A copy without the property of these names, in every item of the lists above it."""
    if isinstance(value, list):
        return [_without(item, names) for item in value]
    if not isinstance(value, dict) or names[0] not in value:
        return value
    if len(names) == 1:
        return {key: part for key, part in value.items() if key != names[0]}
    return {key: _without(part, names[1:]) if key == names[0] else part for key, part in value.items()}
