"""Presets: settings for the models that people train, by name, each a file in preset_files/."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from ..errors import UsageError
from ..text import suggest


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """Name -> its file, read: description, why, settings; for a model also source; for edits also needs_control."""
    found = {entry.name.removesuffix(".toml"): entry for entry in files(__package__).joinpath("preset_files").iterdir()}
    return {name: tomllib.loads(found[name].read_text(encoding="utf-8")) for name in sorted(found)}


def preset_text(name: str) -> str:
    """The settings of a preset as a config file, its description and reasons as comments."""
    preset = _get_preset(name)
    lines = [preset["description"], *preset["why"].strip().splitlines()]
    lines += [f"Source: {preset['source']}"] if "source" in preset else []
    comment = "\n".join(f"# {line}" for line in lines)
    text = files(__package__).joinpath("preset_files", f"{name}.toml").read_text(encoding="utf-8")
    settings = text.partition("[settings]\n")[2].replace("[settings.", "[")
    return f"{comment}\n\n{settings}"


def preset_settings(name: str) -> dict[str, Any]:
    return dict(_get_preset(name)["settings"])


def needs_control(name: str, prompts: Sequence[str]) -> bool:
    """Whether these are the prompts of a preset for edits, which ask for what the source images show."""
    preset = _get_preset(name)
    return bool(preset.get("needs_control")) and list(prompts) == [preset["settings"]["prompt"]]


def _get_preset(name: str) -> Mapping[str, Any]:
    if name not in presets():
        raise UsageError(f"unknown preset {name!r}. {suggest(name, presets())}")
    return presets()[name]
