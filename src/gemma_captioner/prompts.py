"""Presets, and the variables that prompts, prefixes and suffixes may hold."""

import csv
import json
import string
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .errors import UsageError
from .records import Frames, MediaItem
from .settings import Settings

VARIABLES = {
    "stem": "the file's name without its extension",
    "filename": "the file's name",
    "folder": "the name of the folder that the file lies in",
    "trigger": "what --trigger gives",
    "existing": "the caption that is there now",
    "tags": "the facts' column `tags`, or the present caption where it is a list of tags",
    "duration": "of a clip, in seconds",
    "num_frames": "how many frames the model sees",
    "width": "of the picture, in pixels",
    "height": "of the picture, in pixels",
}
_NUMBERS: dict[str, str | int | float] = {"duration": 1.5, "num_frames": 1, "width": 1, "height": 1}  # the rest is text
_BRACES = "Write a brace that is meant as one twice, {{ and }}"
_FILE_COLUMNS = ("file_name", "filename", "path", "file", "media_path", "image_path", "video_path", "image", "video")


# Presets


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """Name -> its file, read: description, why, settings."""
    found = {entry.name.removesuffix(".toml"): entry for entry in files(__package__).joinpath("presets").iterdir()}
    return {name: tomllib.loads(found[name].read_text(encoding="utf-8")) for name in sorted(found)}


def preset_text(name: str) -> str:
    """The settings of a preset as a config file, its description and reasons as comments."""
    preset = _known(name)
    comment = "\n".join(f"# {line}" for line in [preset["description"], *preset["why"].strip().splitlines()])
    text = files(__package__).joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")
    settings = text.partition("[settings]\n")[2].replace("[settings.", "[")
    return f"{comment}\n\n{settings}"


def preset_settings(name: str) -> dict[str, Any]:
    return dict(_known(name)["settings"])


def _known(name: str) -> Mapping[str, Any]:
    if name not in presets():
        raise UsageError(f"--preset {name}: there is none of that name. Known: {', '.join(presets())}")
    return presets()[name]


# Variables


def check(texts: Iterable[str], columns: Iterable[str], trigger: str) -> set[str]:
    """The variables that they use. Raises `UsageError` for one that is not known, before any model is loaded, and for
    one that cannot be written as it is asked for: `{stem:d}`."""
    columns = list(columns)
    known, used = [*VARIABLES, *columns], set()
    tried = dict.fromkeys(VARIABLES, "") | _NUMBERS | dict.fromkeys(columns, "")
    for text in texts:
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except ValueError as error:
            raise UsageError(f"in {text!r}: {error}. {_BRACES}") from error
        if unknown := names.difference(known):
            raise UsageError(
                f"there is no variable {{{min(unknown)}}}. Known: {', '.join(f'{{{k}}}' for k in known)}. {_BRACES}"
            )
        if "trigger" in names and not trigger:
            raise UsageError("the prompt uses {trigger}: give --trigger WORD")
        try:
            filled(text, tried)
        except (ValueError, LookupError) as error:
            raise UsageError(f"in {text!r}: {error}. {_BRACES}") from error
        used |= names
    return used


def values_of(
    item: MediaItem, frames: Frames, *, trigger: str, existing: str, facts: Mapping[str, str]
) -> dict[str, str | int | float]:
    """What the variables stand for, for one item; a column of the facts beats a variable of its name."""
    looks_like_tags = existing.count(",") >= 2 and all(len(tag.split()) <= 4 for tag in existing.split(","))
    return {
        "stem": item.path.stem,
        "filename": item.path.name,
        "folder": item.path.parent.name,
        "trigger": trigger,
        "existing": existing,
        "tags": existing if looks_like_tags else "",
        "duration": round(frames.duration_s, 2),
        "num_frames": len(frames.times_s),
        "width": frames.source_size[0],
        "height": frames.source_size[1],
        **facts,
    }


def filled(text: str, values: Mapping[str, str | int | float]) -> str:
    """# "A {stem}, {{so}}", stem cat -> "A cat, {so}" """
    return string.Formatter().vformat(text, (), values)


# Facts


class Facts:
    """Columns of a table about the files, CSV or JSON lines, found by a file's path, its name or its stem."""

    def __init__(self, path: Path | None) -> None:
        """Raises `UsageError` for a table that cannot be read or does not say which file a row is about."""
        self.columns: list[str] = []
        self.used: set[str] = set()  # the variables that the run's texts hold
        self._rows: dict[str, dict[str, str]] = {}
        if path is None:
            return
        try:
            rows = _rows(path)
        except (OSError, ValueError, csv.Error) as error:
            raise UsageError(f"--facts {path}: {error}") from error
        columns = dict.fromkeys(name for _, row in rows for name in row)
        key = next((name for name in _FILE_COLUMNS if name in columns), None)
        if key is None:
            raise UsageError(f"--facts {path}: no column says which file a row is about: name one {_FILE_COLUMNS[0]!r}")
        self.columns = [name for name in columns if name != key]
        for line, row in rows:
            if row.get(key) in (None, ""):
                raise UsageError(f"--facts {path}, line {line}: no {key!r} says which file it is about: give one")
            about = {name: "" if row.get(name) is None else str(row[name]) for name in self.columns}
            self._rows[str(row[key]).replace("\\", "/")] = about

    def about(self, item: MediaItem) -> Mapping[str, str]:
        """Empty values for a file that the table does not tell of."""
        for name in (item.name, item.path.name, item.path.stem):
            if name in self._rows:
                return self._rows[name]
        return dict.fromkeys(self.columns, "")


def facts_for(settings: Settings) -> Facts:
    """The facts of a run. Raises `UsageError` where its prompts ask for what nobody knows."""
    facts, put = Facts(settings.prompting.facts), settings.prompting
    prompts = [prompt for of_kind in settings.prompts.values() for prompt in of_kind]
    facts.used = check([*prompts, put.prefix, put.suffix], facts.columns, put.trigger)
    return facts


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Each with the line that it ends on; those that hold nothing are left out. Raises `ValueError`, `csv.Error`."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            return [(number, _object(line, number)) for number, line in enumerate(file, 1) if line.strip()]
        reader = csv.DictReader(file)
        rows = [(reader.line_num, row) for row in reader if any(cell for cells in row.values() for cell in cells or ())]
    for number, row in rows:
        if any(row.pop(None, ())):
            raise ValueError(f"line {number} has more cells than there are columns: quote a cell that holds a comma")
    return rows


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f'line {number} is no JSON object: write it as {{"file_name": ...}}')
    return row
