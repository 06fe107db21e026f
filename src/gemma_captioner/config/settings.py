"""All settings, each defined once with its default, bounds and help. Command line and config file are built from them.

Each group is a stage of the pipeline, in a module of its name. `Settings.from_dict({"frames": 8, ...})` takes the flat
names that the command line (`--frames`), a TOML file and the Python API share. Later layers override earlier ones.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr

from ..errors import UsageError
from ..storage.filesystem import expand_home
from ..text import path_error, suggest
from ..types import Kind
from .decoding import FrameSamplingSettings, MediaSettings
from .formats import FormatSpec, format_spec, read_utf8
from .group import SettingsGroup, journal_name
from .model import AUTO, DEFAULT_MODEL, ModelSettings, ServerSettings
from .precedence import merge_layers
from .presets import needs_control
from .prompting import (
    CLIP_PROMPT,
    EDIT_PROMPT,
    FORMAT_PROMPTS,
    IMAGE_PROMPT,
    GenerationSettings,
    KindSettings,
    PromptSettings,
    chains,
    continues,
)
from .quality import QualitySettings
from .run import ClusterSettings, RunOptions
from .selection import SelectionSettings
from .settings_hash import canonical_model_name, digest_of, hash_fields

# The settings that are, or may be, a path that every machine of a cluster reads -> their values that are no path
PATHS_READ: Mapping[str, Mapping[str, Collection[str]]] = {
    "prompting": {"examples": (), "control": (), "metadata": (), "transcripts": ("auto",)},
    "quality": {"tokenizer": ()},
    "model": {"model": (AUTO, "demo"), "adapter": ()},
}


class Settings(SettingsGroup):
    """All settings, in one group for each stage of the pipeline. Create them with `from_dict`."""

    selection: SelectionSettings = SelectionSettings()
    sampling: FrameSamplingSettings = FrameSamplingSettings()
    decoding: MediaSettings = Field(MediaSettings(), **journal_name("decoding", "reading"))
    prompting: PromptSettings = PromptSettings()
    generation: GenerationSettings = GenerationSettings()
    quality: QualitySettings = Field(QualitySettings(), **journal_name("quality", "judging"))
    model: ModelSettings = ModelSettings()
    server: ServerSettings = ServerSettings()
    run_options: RunOptions = Field(RunOptions(), **journal_name("run_options", "conduct"))
    cluster: ClusterSettings = ClusterSettings()
    image: KindSettings = KindSettings()
    clip: KindSettings = KindSettings()
    _texts: dict[Path, str] = PrivateAttr(default_factory=dict)  # of --prompt-file and --format

    @classmethod
    def from_dict(cls, *layers: Mapping[str, Any]) -> Self:
        """Create settings from flat names, such as `{"frames": 8, "image": {"prompt": ...}}`. Later layers win.

        Raises:
            UsageError: A setting is unknown, or its value is invalid.
        """
        flat = merge_layers(layers)
        grouped: dict[str, Any] = {}
        for name, value in flat.items():
            if name in _TABLES:
                for key in value if isinstance(value, Mapping) else ():
                    if key not in KindSettings.model_fields:
                        raise UsageError(_unknown(str(key), name))
                grouped[name] = value
            elif name in _GROUP_OF:
                grouped.setdefault(_GROUP_OF[name], {})[name] = value
            else:
                raise UsageError(_unknown(name))
        settings = super().from_dict(grouped)
        if settings.prompting.prompt and settings.prompting.prompt_file is not None:
            raise UsageError("--prompt and --prompt-file cannot be combined: give one of them")
        preset = settings.prompting.preset
        if preset and not settings.prompting.control and needs_control(preset, settings.prompting.prompt):
            raise UsageError(f"--preset {preset} asks for the edit of a source image: give their folder with --control")
        for prompts in settings.prompts.values():  # fails before the run starts if the prompt file cannot be read
            if continues(prompts[0]):
                raise UsageError("{previous} in the first prompt: give another --prompt before it")
            if settings.prompting.examples and any(map(continues, prompts)):
                raise UsageError("--examples and {previous} cannot be combined: leave out one of them")
        if continues(settings.prompting.prefix) or continues(settings.prompting.suffix):
            raise UsageError("{previous} in --prefix or --suffix: it works only in the second or a later --prompt")
        begin = settings.prompting.begin.lstrip()
        if found := re.search(
            r"\{(?:stem|filename|folder|trigger|existing|tags|previous|transcript|sound|silence)\}", begin
        ):
            raise UsageError(f"{found[0]} in --begin: it has no variables. Use --prefix")
        if begin and not begin.startswith("{") and settings.format.json_schema is not None:
            raise UsageError(
                f"--begin {begin!r}: --format {settings.format.name} begins with a brace. Leave out --begin"
            )
        return settings

    @cached_property
    def format(self) -> FormatSpec:
        """The format of the captions. Raises `UsageError` if its file cannot be read."""
        return format_spec(self.quality.format, self._read_utf8)

    @cached_property
    def prompts(self) -> dict[Kind, tuple[str, ...]]:
        """The prompts for each kind: the kind's own table, else --prompt or --prompt-file, else the default.

        The last of each chain has the instructions of the format.
        """
        common = self.prompting.prompt
        if self.prompting.prompt_file is not None:
            common = (_read_prompt(self.prompting.prompt_file, self._read_utf8),)
        default = {"image": IMAGE_PROMPT, "clip": CLIP_PROMPT} if self.format.name == "prose" else FORMAT_PROMPTS
        if self.prompting.control:
            default = {"image": EDIT_PROMPT, "clip": EDIT_PROMPT.replace("images", "images or clips")}
        given: dict[Kind, tuple[str, ...]] = {"image": self.image.prompt or common, "clip": self.clip.prompt or common}
        return {
            kind: tuple(
                prompt
                for *earlier, last in chains(prompts or (default[kind],))
                for prompt in (*earlier, self.format.instruct(last))
            )
            for kind, prompts in given.items()
        }

    def frames(self, kind: Kind) -> int:
        """Return the maximum number of frames of an item."""
        return 1 if kind == "image" else self.sampling.frames

    def max_new_tokens(self, kind: Kind) -> int:
        default = None if "max_new_tokens" in self.generation.model_fields_set else self.format.max_new_tokens
        return getattr(self, kind).max_new_tokens or default or self.generation.max_new_tokens

    def previous_tokens(self, prompt: str, kind: Kind) -> int:
        """The most tokens that `{previous}` adds to a prompt."""
        return self.max_new_tokens(kind) * continues(prompt)

    @property
    def has_explicit_model(self) -> bool:
        """Whether there is a named model in place of `auto`."""
        return self.model.model != AUTO

    def with_values(self, group: str, **values: Any) -> Self:
        """Return the settings with other values in one group. The values are not checked."""
        copied = self.model_copy(update={group: getattr(self, group).model_copy(update=values)})
        for name in vars(copied).keys() - type(self).model_fields.keys():  # cached properties of the other values
            del vars(copied)[name]
        return copied

    def with_absolute_paths(self) -> Self:
        """Return the settings for other machines, which have the same files, but another current folder."""
        settings = self
        for group, names in PATHS_READ.items():
            values = {name: getattr(getattr(self, group), name) for name in names}
            settings = settings.with_values(
                group, **{name: _as_absolute(value, names[name]) for name, value in values.items()}
            )
        return settings

    def _read_utf8(self, path: Path) -> str:
        """Read a file once: copies of the settings, here or on another machine, do not need it."""
        if path not in self._texts:
            self._texts[path] = read_utf8(path)
        return self._texts[path]

    def with_model(self, name: str) -> Self:
        return self.with_values("model", model=name)

    @property
    def _requested_model(self) -> str:
        if self.model.engine == "server" and not self.has_explicit_model and self.server.serve is None:
            return "the only one of the server"
        return canonical_model_name(self.model.model if self.has_explicit_model else DEFAULT_MODEL)

    def settings_hash(self, kind: Kind) -> str:
        """A digest of all that decides what a caption of this kind says: 16 hex digits.

        Where a model runs, in what engine, how many at once and how exactly its arithmetic is done are left out on
        purpose: a dataset that moves to another machine is not stale.
        """
        hash_inputs: dict[str, Any] = {
            "model": self._requested_model,
            "quantize": self.model.quantize,
            "image_tokens": self.model.image_tokens,
            "prompts": self.prompts[kind],
            "max_new_tokens": self.max_new_tokens(kind),
            **hash_fields(self.prompting, {"order", "prefix", "suffix", "trigger", "punctuation", "system", "begin"}),
            **hash_fields(self.generation, {"temperature", "seed"}),
        }
        if self.format.name != "prose":
            hash_inputs["format"] = self.format.schema or self.format.name
        if self.model.adapter is not None:
            hash_inputs["adapter"] = canonical_model_name(self.model.adapter)
        if examples := [canonical_model_name(str(path)) for path in self.prompting.examples]:
            hash_inputs["examples"] = examples[0] if len(examples) == 1 else examples
        if self.prompting.control:  # how many; which files they have is in the digest of each caption's context
            hash_inputs["control"] = len(self.prompting.control)
        hash_inputs |= hash_fields(self.decoding, {"background", "exact_pixels"})
        if kind == "clip":
            hash_inputs |= hash_fields(self.sampling)
        return digest_of(hash_inputs)


def _unknown(name: str, table: str = "") -> str:
    """table: "image" or "clip" for a key of that table of the config file."""
    known = sorted(known.rstrip("_") for known in (KindSettings.model_fields if table else [*_GROUP_OF, *_TABLES]))
    hint = suggest(name, known)
    if table and name in _GROUP_OF:
        hint = f"It is one setting for images and clips: write it above the tables. {hint}"
    return f"{f'[{table}]: ' * bool(table)}unknown setting {name!r}. {hint}"


_TABLES = ("image", "clip")
_GROUP_OF = {  # each setting's
    name: group
    for group, field in Settings.model_fields.items()
    if group not in ("image", "clip") and field.annotation is not None
    for name in field.annotation.model_fields
}


def _as_absolute(value: Any, names: Collection[str]) -> Any:
    """names: the values that name no file, whatever files exist. A text of which no file exists is a name too."""
    if isinstance(value, tuple):
        return tuple(_as_absolute(part, names) for part in value)
    if isinstance(value, str) and value.partition(":")[0] not in names:
        path = expand_home(value)
        return str(path.absolute()) if path.exists() else value
    return value.absolute() if isinstance(value, Path) else value  # a path in an object store is no `Path`


def _read_prompt(path: Path, read: Callable[[Path], str]) -> str:
    try:
        prompt = read(path).strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"--prompt-file {path} cannot be read: {path_error(error)}") from error
    if not prompt:
        raise UsageError(f"--prompt-file {path} is empty: write a prompt into it")
    return prompt
