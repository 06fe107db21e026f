"""The options of a run that the page offers, generated from the settings, in the groups of `caption --help`."""

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from ..config.option_layout import ADVANCED, COMMON, METAVARS, PANELS, VALUES
from ..config.precedence import option_name
from ..config.run import ClusterSettings
from ..config.settings import Settings
from ..dataset.containment import resolve_inside
from ..errors import ItemError, UsageError

_KINDS = ("image", "clip")
# Options that only the command line has, and why. Whoever may open the page must not get more than its folder.
COMMAND_LINE_ONLY: Mapping[str, tuple[str, ...]] = {
    "where the captions are": ("output", "captions_to", "name"),
    "secrets, and what is run or contacted": ("hf_token", "engine", "base_url", "api_key_env", "serve"),
    "runs on a cluster": tuple(ClusterSettings.model_fields),
}
_WITHHELD = frozenset(name for names in COMMAND_LINE_ONLY.values() for name in names)
_FOR_NEW_CAPTIONS_TOO = ("temperature",)  # common on the page
_OF_A_FOLDER = frozenset(PANELS["Which files"]) | {"stop_after"}  # without effect on chosen files
_PATHS = frozenset(("prompt_file", "metadata", "transcripts", "examples", "control", "format"))
_LOADED = frozenset(("model", "adapter", "tokenizer"))  # also arguments of programs that --engine vllm starts
_LISTED = frozenset(("preset", "language"))  # only the values that `VALUES` lists
PROMPT_SEPARATOR = "---"
_ON, _OFF = "on", "off"

# Values that are clearer in words.
CHOICES: Mapping[str, Mapping[str, str]] = {
    "existing": {
        "skip": "files without a caption",
        "stale": "also files captioned with other settings",
        "overwrite": "all files: replaces every caption (`restore` can undo it)",
    }
}


_LABELS = {"for_": "For trainer", "existing": "Existing captions", "fps": "Frames per second (fps)"}


@dataclass(frozen=True, slots=True)
class RunOption:
    """A field of the page. choices: value -> label, empty for free text. suggestions: for free text."""

    name: str
    help: str
    choices: Mapping[str, str]
    suggestions: tuple[str, ...]
    is_long: bool  # several lines
    is_repeatable: bool

    @property
    def label(self) -> str:
        """# max_new_tokens -> Max new tokens"""
        text = self.name.rstrip("_").replace("_", " ")
        return _LABELS.get(self.name, text[:1].upper() + text[1:])

    @property
    def hint(self) -> str:
        """The placeholder of an empty field. # N"""
        return METAVARS.get(self.name, "")


def option_groups(*, of_files: bool = False) -> list[tuple[str, list[RunOption]]]:
    """Return (title, options), the common ones first. of_files: for a run over chosen files, not over the folder."""
    left_out = _WITHHELD | (_OF_A_FOLDER if of_files else frozenset())
    common = [name for name in (*COMMON["caption"], *_FOR_NEW_CAPTIONS_TOO) if name in _FIELDS and name not in left_out]
    groups = [("Common", [_FIELDS[name] for name in common])]
    for title, names in PANELS.items():
        rest = [name for name in names if name in _FIELDS and name not in left_out and name not in common]
        rest.sort(key=lambda name: name in ADVANCED)
        if rest:
            groups.append((title, [_FIELDS[name] for name in rest]))
    return groups


def parse_fields(fields: Mapping[str, str], folder: Path, given: Settings) -> dict[str, Any]:
    """Turn the texts of fields into settings by name. An empty field is left out.

    folder: the base of relative paths. given: settings of the command line, whose paths are allowed.

    Raises `UsageError` for a path outside the folder that the command line does not have, and for an option as a model.
    """
    values: dict[str, Any] = {}
    for name, text in fields.items():
        if not text.strip():
            continue
        option = _FIELDS[name]
        value: Any = text
        if option.is_repeatable:
            value = tuple(_parts(text, PROMPT_SEPARATOR if name == "prompt" else None))
        elif option.choices.keys() == {_ON, _OFF}:
            value = text == _ON
        elif not option.is_long and name not in ("prefix", "suffix", "begin"):
            value = text.strip()
        if isinstance(value, str) and name in _LOADED and value.startswith("-"):
            raise UsageError(f"{option_name(name)} {value}: it looks like an option: give an id or a folder")
        if name in _PATHS:
            value = _inside(name, value, folder, given)
        values[name] = value
    return values


def _parts(text: str, separator: str | None) -> Iterator[str]:
    """# "a.png\\n b.png" -> a.png, b.png      with the separator ---: the lines between it"""
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        if separator is None or line.strip() == separator:
            parts.append([])
        if line.strip() != separator:
            parts[-1].append(line)
    return (part for lines in parts if (part := "\n".join(lines).strip()))


def _inside(name: str, value: Any, folder: Path, given: Settings) -> Any:
    """The paths, made absolute. Raises `UsageError` for one outside the folder."""
    if isinstance(value, tuple):
        return tuple(_inside(name, one, folder, given) for one in value)
    allowed = {str(one) for one in _each(value_of(given, name))}
    is_word = (name == "format" and not value.endswith(".json")) or (
        name == "transcripts" and value.partition(":")[0] == "auto"
    )
    if value in allowed or is_word:
        return value
    path = folder / value
    try:
        if path.resolve().is_dir() and path.resolve().is_relative_to(folder.resolve()):
            return str(path)
        return str(resolve_inside(path, folder))
    except (ItemError, OSError):
        option = option_name(name)
        raise UsageError(
            f"{option} {value}: the page reads only what is in its folder. Move it there, or start `review` with "
            f"{option} {value}"
        ) from None


def fields_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The texts of fields for settings by name, the inverse of `parse_fields`. Other settings are left out."""
    return {
        name: shown_value(name, value)
        for key, value in values.items()
        if (name := "for_" if key == "for" else key.replace("-", "_")) in _FIELDS and name not in _WITHHELD
    }


def shown_value(name: str, value: Any) -> str:
    """# ("a", "b") -> a, newline, b      True -> on      None -> "" """
    if value is None:
        return ""
    if isinstance(value, bool):
        return _ON if value else _OFF
    if name == "train_frames":
        return ",".join(map(str, _each(value)))
    between = f"\n{PROMPT_SEPARATOR}\n" if name == "prompt" else "\n"
    return between.join(map(str, _each(value)))


def value_of(settings: Settings, name: str) -> Any:
    return getattr(getattr(settings, _GROUP_OF[name]), name)


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple | list) else () if value is None else (value,)


def _options() -> Iterator[RunOption]:
    for group, field in Settings.model_fields.items():
        if group in _KINDS or field.annotation is None:
            continue
        for name, info in field.annotation.model_fields.items():
            choices = CHOICES.get(name) or _choices(name, info.annotation)
            suggestions = tuple(VALUES[name]()) if name in VALUES and not choices else ()
            is_repeatable = _is_tuple(info.annotation) and name != "train_frames"
            help = (info.description or "").replace("`", "")
            yield RunOption(name, help, choices, suggestions, name in ("prompt", "system"), is_repeatable)


def _choices(name: str, annotation: Any) -> Mapping[str, str]:
    if annotation is bool:
        return {_ON: _ON, _OFF: _OFF}
    if name in _LISTED:
        return {value: value for value in VALUES[name]()}
    if get_origin(annotation) is Literal:
        return {value: value for value in get_args(annotation)}
    return {}


def _is_tuple(annotation: Any) -> bool:
    if get_origin(annotation) in (Annotated, types.UnionType):
        return any(map(_is_tuple, get_args(annotation)))
    return get_origin(annotation) is tuple


_GROUP_OF = {
    name: group
    for group, field in Settings.model_fields.items()
    if group not in _KINDS and field.annotation is not None
    for name in field.annotation.model_fields
}
_FIELDS: Mapping[str, RunOption] = {option.name: option for option in _options()}
