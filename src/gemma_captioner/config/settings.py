"""Every knob once: its default, its bounds and what it does. The command line and the config file come from here.

Groups are the stages of the pipeline, each in a module of its name. `Settings.of({"frames": 8, ...})` takes the flat
names that the command line (`--frames`), a TOML file and the Python call share; later layers win.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from ..errors import UsageError
from ..types import Kind
from .decoding import Reading, Sampling
from .group import Group
from .model import Model, Server
from .precedence import merged
from .prompting import CLIP_PROMPT, IMAGE_PROMPT, ForKind, Generation, Prompting
from .quality import Judging
from .run import Cluster, Conduct
from .selection import Selection
from .settings_hash import digest, hashed, settled_name


class Settings(Group):
    """All of them, a group for each stage. `of` makes them from flat names."""

    selection: Selection = Selection()
    sampling: Sampling = Sampling()
    reading: Reading = Reading()
    prompting: Prompting = Prompting()
    generation: Generation = Generation()
    judging: Judging = Judging()
    model: Model = Model()
    server: Server = Server()
    conduct: Conduct = Conduct()
    cluster: Cluster = Cluster()
    image: ForKind = ForKind()
    clip: ForKind = ForKind()

    @classmethod
    def of(cls, *layers: Mapping[str, Any]) -> Self:
        """Settings from flat names; a later layer beats an earlier one. `{"frames": 8, "image": {"prompt": ...}}`.

        Raises `UsageError` that names the setting, what was wrong with it, and for an unknown one those that exist.
        """
        flat = merged(layers)
        grouped: dict[str, Any] = {}
        for name, value in flat.items():
            if name in ("image", "clip"):
                grouped[name] = value
            elif name in _GROUP_OF:
                grouped.setdefault(_GROUP_OF[name], {})[name] = value
            else:
                raise UsageError(f"unknown setting {name!r}. Known: {', '.join(sorted([*_GROUP_OF, 'image', 'clip']))}")
        settings = super().of(grouped)
        if settings.prompting.prompt and settings.prompting.prompt_file is not None:
            raise UsageError("--prompt and --prompt-file exclude each other: give one of them")
        _ = settings.prompts  # a prompt file that cannot be read is told before anything starts
        return settings

    @cached_property
    def prompts(self) -> dict[Kind, tuple[str, ...]]:
        """The prompts for each kind: the kind's own table, else --prompt or --prompt-file, else the default."""
        common = self.prompting.prompt
        if self.prompting.prompt_file is not None:
            common = (_read_prompt(self.prompting.prompt_file),)
        return {
            "image": self.image.prompt or common or (IMAGE_PROMPT,),
            "clip": self.clip.prompt or common or (CLIP_PROMPT,),
        }

    def frames(self, kind: Kind) -> int:
        """The most that are shown of an item."""
        return 1 if kind == "image" else self.sampling.frames

    def max_new_tokens(self, kind: Kind) -> int:
        return getattr(self, kind).max_new_tokens or self.generation.max_new_tokens

    @property
    def model_is_named(self) -> bool:
        """Whether --model was given: a server may have one that needs no naming."""
        return "model" in self.model.model_fields_set

    @property
    def _model_asked(self) -> str:
        if self.model.engine == "server" and not self.model_is_named and self.server.serve is None:
            return "the only one of the server"
        return settled_name(self.model.model)

    def recipe(self, kind: Kind) -> str:
        """A digest of all that decides what a caption of this kind says: 16 hex digits.

        Where a model runs, in what engine, how many at once and how exactly its arithmetic is done are left out on
        purpose: a dataset that moves to another machine is not stale.
        """
        said: dict[str, Any] = {
            "model": self._model_asked,
            "quantize": self.model.quantize,
            "image_tokens": self.model.image_tokens,
            "prompts": self.prompts[kind],
            "max_new_tokens": self.max_new_tokens(kind),
            **hashed(self.prompting, {"order", "prefix", "suffix", "trigger", "punctuation", "system", "begin"}),
            **hashed(self.generation, {"temperature", "seed"}),
        }
        if self.model.adapter is not None:
            said["adapter"] = settled_name(self.model.adapter)
        if self.prompting.examples is not None:
            said["examples"] = settled_name(str(self.prompting.examples))
        said |= hashed(self.reading, {"background", "exact_pixels"})
        if kind == "clip":
            said |= hashed(self.sampling)
        return digest(said)


_GROUP_OF = {  # each setting's
    name: group
    for group, field in Settings.model_fields.items()
    if group not in ("image", "clip") and field.annotation is not None
    for name in field.annotation.model_fields
}


def _read_prompt(path: Path) -> str:
    try:
        prompt = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompt-file {path}: {error}") from error
    if not prompt:
        raise UsageError(f"--prompt-file {path} is empty: write the prompt into it")
    return prompt
