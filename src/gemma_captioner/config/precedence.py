"""Where a setting comes from: flags beat --for, --for beats a preset, a preset beats a default; what is wrong with one.

Settings are flat names here, `{"frames": 8, "image": {"prompt": ...}}`, as the config file has them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import UsageError, redact_token
from .presets import preset_settings
from .targets import span_for, target_for

_PROMPTS = ("prompt", "prompt_file", "prompts")


def merge_layers(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One layer of all; a later one beats an earlier one. Raises `UsageError` for a preset or trainer not known."""
    flat: dict[str, Any] = {}
    for layer in layers:
        _merge_layer(flat, _by_name(layer))
    if "for" in flat:
        flat["for_"] = flat.pop("for")
    if flat.get("for_") is not None:
        flat.setdefault("span", span_for(flat["for_"], flat.get("train_frames")))
        if target := target_for(flat["for_"]):  # a trainer alone names no model, and leaves the preset's
            flat.setdefault("target", target)
    if flat.get("preset") is not None:
        preset = preset_settings(flat["preset"])
        _merge_layer(preset, flat)
        flat = preset
    if "prompts" in flat:
        flat["prompt"] = _parse_prompt_tables(flat.pop("prompts"))
    return flat


def _by_name(layer: Mapping[str, Any]) -> dict[str, Any]:
    """# {"max-new-tokens": 9} -> {"max_new_tokens": 9}"""
    return {name.replace("-", "_"): value for name, value in layer.items()}


def _merge_layer(flat: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Put a layer over those before it: what it says for every kind beats what they said for one of them."""
    for names in (_PROMPTS, ("max_new_tokens",)):
        if any(name in layer for name in names):
            for name in names:
                flat.pop(name, None)
                for kind in ("image", "clip"):
                    if isinstance(flat.get(kind), Mapping):
                        flat[kind] = {k: v for k, v in flat[kind].items() if k != name}
    flat.update(layer)


def without_prompts(layer: Mapping[str, Any]) -> dict[str, Any]:
    """It, where another prompt or preset is to hold."""
    flat = _by_name(layer)
    _merge_layer(flat, {"prompt": None})
    return {name: value for name, value in flat.items() if name not in ("prompt", "preset")}


def _parse_prompt_tables(tables: Any) -> tuple[Any, ...]:
    """`[[prompts]]` of a config file, each with its `prompt`."""
    if not isinstance(tables, list) or any(not isinstance(t, Mapping) or set(t) != {"prompt"} for t in tables):
        raise UsageError('prompts: write each as a table of its own, [[prompts]] and prompt = "..."')
    return tuple(table["prompt"] for table in tables)


_FORMAT_EXAMPLES = {
    "stop-after": "90s, 45m, 2h or 1h30m",
    "min": "2s or 1.5s",
    "max": "5s or 1m",
    "cluster": "local, auto or ray://HOST:PORT",
    "shard": "I/N, 1/8",
    "only": "failed, flagged or flagged:NAME",
    "wait-for-server": "30s, 10m or 1h30m",
    "span": "whole, head:4.5, middle:4.5 or 2-6.5, in seconds",
}


def format_validation_error(error: ValidationError, option: str | None = None) -> str:
    """`--frames: input should be greater than or equal to 1 (got 0)`, one line a fault. Never a token.

    option: whose value alone was read; None where the error says which setting it is.
    """
    lines: dict[str, str] = {}
    for fault in error.errors():
        path = [str(part) for part in fault["loc"]]
        if error.title == "Settings" and path[0] not in ("image", "clip"):
            del path[0]  # the group that it is of
        name = (option or (path or ["settings"])[0].rstrip("_").replace("_", "-")).removeprefix("--")
        if fault["type"] == "string_pattern_mismatch" and name in _FORMAT_EXAMPLES:
            reason = f"write it as {_FORMAT_EXAMPLES[name]}"
        else:
            reason = fault["msg"][:1].lower() + fault["msg"][1:]
        got = "" if "token" in "".join(path) or "base_url" in path else f" (got {fault['input']!r})"
        lines.setdefault(name, f"--{name}: {reason}{got}")
    return redact_token("\n".join(lines.values()))
