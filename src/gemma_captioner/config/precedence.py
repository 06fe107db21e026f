"""Merges settings: options override --for, which overrides a preset, which overrides defaults. Explains bad values.

Settings are flat names here, `{"frames": 8, "image": {"prompt": ...}}`, as the config file has them.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import UsageError
from ..redaction import redact_token
from ..text import printable
from .presets import preset_settings
from .targets import get_target, parse_frame_counts, span_for, target_for

_PROMPTS = ("prompt", "prompt_file", "prompts")
_FIELDS = {"for": "for_", "facts": "metadata"}  # where the name differs; `facts` is the old one


def merge_layers(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the layers; a later one overrides. Raises `UsageError` for an unknown preset or trainer."""
    flat: dict[str, Any] = {}
    for layer in map(_by_name, layers):
        _check_engine(flat, layer)
        _merge_layer(flat, layer)
    if isinstance(flat.get("for_"), str):  # pydantic reports another type later
        flat.setdefault("span", span_for(flat["for_"], _train_frames(flat), flat.get("train_mode")))
        if target := target_for(flat["for_"]):  # a trainer without a model keeps the preset's target
            flat.setdefault("target", target)
        if (caption_format := get_target(flat["for_"]).format) != "prose":
            flat.setdefault("format", caption_format)
    if isinstance(flat.get("preset"), str):
        preset = preset_settings(flat["preset"])
        _merge_layer(preset, flat, adds_to_tables=True)
        if isinstance(flat.get("for_"), str) and "target" in preset and "target" not in flat:
            preset["target"] = target_for(f"{flat['for_']}:{preset['target']}")
        flat = preset
    if flat.get("base_url") or flat.get("serve"):
        flat.setdefault("engine", "server")
    if "prompts" in flat:
        flat["prompt"] = _parse_prompt_tables(flat.pop("prompts"))
    return flat


def _check_engine(flat: Mapping[str, Any], layer: Mapping[str, Any]) -> None:
    """Raises `UsageError` if the layer names a server and the engine of this or an earlier layer would ignore it."""
    engine = layer.get("engine", flat.get("engine"))
    for option in ("base_url", "serve"):
        if layer.get(option) and engine in ("local", "scripted"):
            raise UsageError(
                f"--engine {engine} ignores {option_name(option)}: leave out --engine to use the server, or leave out "
                f"{option_name(option)}"
            )


def _train_frames(flat: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the valid frame counts. pydantic reports the others later."""
    counts = parse_frame_counts(flat.get("train_frames"))
    return tuple(int(count) for count in counts if re.fullmatch(r"0*[1-9]\d*", str(count)))


def _by_name(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The layer by field name: of two layers, one may have an option's name and the other the field's.

    # {"max-new-tokens": 9, "for": "musubi"} -> {"max_new_tokens": 9, "for_": "musubi"}
    """
    return {_FIELDS.get(name, name.replace("-", "_")): value for name, value in layer.items()}


def _merge_layer(flat: dict[str, Any], layer: Mapping[str, Any], *, adds_to_tables: bool = False) -> None:
    """Update `flat`. A value for both kinds also overrides earlier values of the [image] and [clip] tables.

    adds_to_tables: The tables of the layer override those of `flat` key by key, not as a whole.
    """
    for names in (_PROMPTS, ("max_new_tokens",)):
        if any(name in layer for name in names):
            for name in names:
                flat.pop(name, None)
                for kind in ("image", "clip"):
                    if isinstance(flat.get(kind), Mapping):
                        flat[kind] = {k: v for k, v in flat[kind].items() if k != name}
    tables = {kind: flat.get(kind) for kind in ("image", "clip")} if adds_to_tables else {}
    flat.update(layer)
    for kind, below in tables.items():
        if isinstance(below, Mapping) and isinstance(flat.get(kind), Mapping):
            flat[kind] = {**below, **flat[kind]}


def without_prompts(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The layer without its prompts and preset, for a run that gets others."""
    flat = _by_name(layer)
    _merge_layer(flat, {"prompt": None})
    return {name: value for name, value in flat.items() if name not in ("prompt", "preset")}


def _parse_prompt_tables(tables: Any) -> tuple[Any, ...]:
    """`[[prompts]]` of a config file, each with its `prompt`."""
    if not isinstance(tables, list) or any(not isinstance(t, Mapping) or set(t) != {"prompt"} for t in tables):
        raise UsageError('prompts: write each as a table of its own, [[prompts]] and prompt = "..."')
    return tuple(table["prompt"] for table in tables)


_VALUE_SYNTAX = {  # option -> how to write its value, if a pattern or a union of types checks it
    "stop-after": "90s, 45m, 2h or 1h30m; a bare number is in seconds",
    "min": "2s or 1.5s; a bare number is in seconds",
    "max": "5s or 1m; a bare number is in seconds",
    "cluster": "local, auto or ray://HOST:PORT",
    "shard": "I/N, for example 1/8",
    "only": "failed, flagged or flagged:NAME",
    "wait-for-server": "30s, 10m or 1h30m; a bare number is in seconds",
    "span": "whole, head:4.5, middle:4.5 or 2-6.5, in seconds, or head:81f, in frames",
    "train-frames": "a number, or several: 33,81",
    "extension": "txt or caption, letters and digits only",
    "batch-size": "a whole number, 1 or more, or auto",
    "concurrency": "a whole number, 1 or more, or auto",
}

_REMEDIES = {  # by the type of pydantic's error
    "greater_than_equal": "give {ge:g} or more",
    "greater_than": "give more than {gt:g}",
    "less_than_equal": "give {le:g} or less",
    "less_than": "give less than {lt:g}",
    "literal_error": "give one of {expected}",
    "value_error": "{error}",
    "extra_forbidden": "there is no such setting",
    "too_short": "give at least one",
    "string_too_short": "give some text",
    "finite_number": "give a finite number",
    "bool_for_number": "give a number, not true or false",
    **dict.fromkeys(("int_parsing", "int_parsing_size", "int_type", "int_from_float"), "give a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "give a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "give true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "give text"),
    **dict.fromkeys(("tuple_type", "list_type"), "give text, or a list of texts"),
    **dict.fromkeys(("model_type", "dict_type"), "write it as a table of settings"),
    "path_type": "give a path",
}


def format_validation_error(error: ValidationError, option: str | None = None) -> str:
    """What is wrong with the settings, one line for each: `--frames 0: give 1 or more`. Never shows a token.

    option: the option whose value alone was read; None if the error says which setting it is.
    """
    lines: dict[str, str] = {}
    for fault in error.errors():
        path = [str(part) for part in fault["loc"]]
        if error.title == "Settings" and path[0] not in ("image", "clip"):
            del path[0]  # the group that the setting is in
        name = option or _shown_name(path)
        form = _VALUE_SYNTAX.get(name.removeprefix("--"))
        if form and fault["type"] != "value_error":
            remedy = f"write it as {form}"
        else:
            context = dict(fault.get("ctx", {}))
            if "expected" in context:  # 'a', 'b' or 'c'
                context["expected"] = context["expected"].replace("'", "").replace(" or ", ", ")
            remedy = _REMEDIES.get(fault["type"], "this value cannot be used").format_map(context)
        hidden = not name or name.endswith("token") or name == "--base-url"  # no single setting, or a secret
        shown = name if hidden else f"{name} {_value(fault['input'])}"
        lines.setdefault(name, f"{shown}: {remedy}" if shown else remedy)
    return redact_token("\n".join(lines.values()))


def _shown_name(path: list[str]) -> str:
    """# ["max_new_tokens"] -> --max-new-tokens      ["clip", "prompt", "0"] -> [clip] prompt      [] -> "" """
    if not path:
        return ""
    if path[0] in ("image", "clip"):
        return f"[{path[0]}] {path[1]}" if len(path) > 1 else f"[{path[0]}]"
    return option_name(path[0])


def option_name(field: str) -> str:
    """# max_new_tokens -> --max-new-tokens"""
    return f"--{field.rstrip('_').replace('_', '-')}"


def _value(given: Any) -> str:
    """What was given, as it is typed; long values that are no path are cut."""
    if isinstance(given, Path):
        return printable(given)
    if isinstance(given, tuple | list) and given and all(isinstance(text, str) for text in given):
        return ", ".join(given)
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, float):
        return f"{given:g}"
    text = given if isinstance(given, str) and given and not re.search(r"\s", given) else repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."
