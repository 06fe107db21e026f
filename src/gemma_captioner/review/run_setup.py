"""A setup: the settings of a run that differ from the defaults, as a config file and as a command line. Pure.

Secrets are left out: the token, and passwords in addresses.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from ..config.precedence import option_name
from ..config.settings import Settings
from ..errors import UsageError
from ..redaction import redact_credentials

# They set defaults of other settings, so those are compared with what these imply.
_IMPLYING = ("preset", "for_", "train_frames", "train_mode", "control", "base_url", "serve")
_SECRET = ("hf_token",)
_REDACTED = ("base_url", "serve")
_TABLES = ("image", "clip")  # of a config file; the command line has no options for them


def changed_settings(settings: Settings) -> dict[str, Any]:
    """Return what differs from the defaults, by field name, with the tables `image` and `clip`.

    # preset wan and 16 frames, which wan sets -> preset      with 20 frames -> preset, frames
    """
    values, defaults = _flat(settings), _flat(Settings())
    implying = {name: values[name] for name in _IMPLYING if values[name] != defaults[name]}
    try:
        basis = Settings.from_dict(implying)
    except UsageError:  # a preset for edits, without its prompt and so without sources
        basis = Settings.from_dict(implying | {"prompt": values["prompt"]})
        implying["prompt"] = values["prompt"]
    implied, changed = _flat(basis), {}
    for name, value in values.items():
        if name in _SECRET or (value == implied[name] and name not in implying):
            continue
        changed[name] = redact_credentials(value) if name in _REDACTED and value else value
    # Unless it is given, the format decides it.
    if "max_new_tokens" in settings.generation.model_fields_set - basis.generation.model_fields_set:
        changed["max_new_tokens"] = settings.generation.max_new_tokens
    return {name: value for name, value in changed.items() if value is not None}


def _flat(settings: Settings) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for group in type(settings).model_fields:
        if group in _TABLES:
            values[group] = getattr(settings, group).model_dump(exclude_defaults=True)
        else:
            part = getattr(settings, group)
            values |= {name: getattr(part, name) for name in type(part).model_fields}
    return values


def config_text(settings: Settings, comment: str = "") -> str:
    """Return a TOML file that `caption --config` reads.

    # preset = "wan"
    # frames = 20
    """
    changed = changed_settings(settings)
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"{_key(name)} = {_toml(value)}" for name, value in changed.items() if name not in _TABLES]
    for table in _TABLES:
        if changed.get(table):
            lines += ["", f"[{table}]", *(f"{_key(name)} = {_toml(value)}" for name, value in changed[table].items())]
    return "\n".join(lines) + "\n"


def equivalent_command(settings: Settings, folder: Path) -> str:
    """Return the `caption` command for a POSIX shell, without the tables `image` and `clip`.

    # gemma-captioner caption 'my photos' --preset flux --trigger 'sks dog'
    """
    words = ["gemma-captioner", "caption", str(folder)]
    for name, value in changed_settings(settings).items():
        if name not in _TABLES:
            words += _words(name, value)
    return shlex.join(words)


def has_tables(settings: Settings) -> bool:
    """Whether a part of the settings can be in a config file only."""
    changed = changed_settings(settings)
    return any(changed.get(table) for table in _TABLES)


def _words(name: str, value: Any) -> list[str]:
    """# "frames", 8 -> --frames 8      "timestamps", False -> --no-timestamps      "prefix", "-x" -> --prefix=-x"""
    option = option_name(name)
    if isinstance(value, bool):
        return [option if value else f"--no-{option.removeprefix('--')}"]
    if name == "train_frames":
        value = ",".join(map(str, value))
    words = []
    for one in value if isinstance(value, tuple) else (value,):
        text = str(one)
        words += [f"{option}={text}"] if text.startswith("-") or not text else [option, text]
    return words


def _key(name: str) -> str:
    return name.rstrip("_")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
