"""Builds the variants of a comparison: the product of the given models, prompts and frame counts. Pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from math import prod
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ..config.precedence import without_prompts
from ..config.settings import Settings
from ..engines import session_key
from ..errors import UsageError
from ..text import counted

Layer = Mapping[str, Any]  # settings by their flat names

MAX_VARIANTS = 16
OVERWRITE_ALL: Layer = {"existing": "overwrite", "only": None, "stop_after": None}
_MAX_NAME_LENGTH = 60  # of a prompt


@dataclass(frozen=True, slots=True)
class Axes:
    """The options to vary. Prompts, prompt files and presets together form one axis."""

    models: Sequence[str] = ()
    prompts: Sequence[str] = ()
    prompt_files: Sequence[Path] = ()
    presets: Sequence[str] = ()
    frames: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    letter: str
    name: str  # its value on each axis that has several
    layers: tuple[Layer, ...]  # the sources of its settings
    settings: Settings


def build_variants(axes: Axes, *base: Layer) -> list[Variant]:
    """Return the variants, sorted by model. base: config file and flags, which the axes override.

    Raises `UsageError` for invalid settings and for more than `MAX_VARIANTS` variants.

    # models a, b; presets wan, ltx -> A "a, preset wan", B "a, preset ltx", C "b, preset wan", D "b, preset ltx"
    """
    models: dict[str, Layer] = {name: {"model": name} for name in axes.models}
    frames: dict[str, Layer] = {counted(n, "frame"): {"frames": n} for n in axes.frames}
    choices = [axis for axis in (models, _prompts(axes), frames) if axis]
    if (count := prod(map(len, choices))) > MAX_VARIANTS:
        raise UsageError(
            f"{' x '.join(str(len(axis)) for axis in choices)} = {count} variants, but the limit is {MAX_VARIANTS}: "
            "give fewer models, prompts or frame counts"
        )
    variants = []
    for letter, chosen in zip(ascii_uppercase, product(*(axis.items() for axis in choices)), strict=False):
        beneath = base
        if any("preset" in layer for _, layer in chosen):  # a config's prompt would beat the preset's
            beneath = tuple(map(without_prompts, base))
        layers = *beneath, *(layer for _, layer in chosen), OVERWRITE_ALL
        settings = Settings.from_dict(*layers)
        names = [name for (name, _), axis in zip(chosen, choices, strict=True) if len(axis) > 1 or count == 1]
        variants.append(Variant(letter, ", ".join(names) or settings.model.model, layers, settings))
    return variants


def group_by_model(variants: Sequence[Variant]) -> Iterator[tuple[Settings, list[Variant]]]:
    """Yield the variants that can share a loaded model, with settings for it that cover all of them."""
    for _, alike in groupby(variants, key=lambda variant: session_key(variant.settings)):
        group = list(alike)
        settings = [variant.settings for variant in group]
        demands = {
            "prompt": tuple(text for each in settings for texts in each.prompts.values() for text in texts),
            "max_new_tokens": max(each.max_new_tokens(kind) for each in settings for kind in each.prompts),
            "frames": max(each.sampling.frames for each in settings),
        }
        yield Settings.from_dict(*group[0].layers, demands), group


def _prompts(axes: Axes) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for text in dict.fromkeys(axes.prompts):
        name = _shorten(text)
        layers[f"{name} ({len(layers) + 1})" if name in layers else name] = {"prompt": text}
    layers |= {str(path): {"prompt_file": path} for path in axes.prompt_files}
    return layers | {f"preset {name}": {"preset": name} for name in axes.presets}


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= _MAX_NAME_LENGTH else f'"{line[: _MAX_NAME_LENGTH - 3].rstrip()}..."'
