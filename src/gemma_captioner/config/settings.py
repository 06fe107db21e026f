"""Every knob once: its default, its bounds and what it does. The command line and the config file come from here.

Groups are the stages of the pipeline. `Settings.of({"frames": 8, ...})` takes the flat names that the command
line (`--frames`), a TOML file and the Python call share; later layers win.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from cyclopts import Parameter
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from ..errors import UsageError, without_credentials
from ..storage.places import Local, Place
from ..types import Kind
from .languages import LANGUAGES
from .precedence import explain, merged
from .targets import LIMITS, target_for

Order = Literal["media-first", "text-first"]
Existing = Literal["skip", "overwrite", "stale"]
SamplingRule = Literal["index", "midpoints", "ends"]
Quantize = Literal["auto", "none", "8bit", "4bit"]

DURATION = r"^(\d+(\.\d+)?[smhd])+$"  # 90s, 2h, 1h30m
# whole, head:4.5, middle:4.5 (seconds), or 2-6.5
SPAN = r"whole|head:(?P<head>\d+(\.\d+)?)|middle:(?P<middle>\d+(\.\d+)?)|(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)"

SHARD = r"^\d+/\d+$"
ONLY = r"^(failed|flagged(:(?P<flag>\w+))?)$"

DEFAULT_MODEL = "unsloth/gemma-3-12b-it"
IMAGE_PROMPT = "Provide a short, single-line description of this image for training data."
CLIP_PROMPT = (
    "Provide a detailed, thorough caption of movement you see in the video. Only describe movement as this will "
    "be very important during the training process."
)


def _as_many(value: Any) -> Any:
    return () if value is None else (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_many)]  # one may stand alone


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Places(Group):
    """Which folders and files, and what their captions are called."""

    recursive: bool = Field(False, description="Walk into subfolders as well.")
    exclude: Texts = Field((), description="No files that match this glob. Repeatable.")
    name: Literal["stem", "full"] = Field("stem", description="Caption `a.png` in `a.txt`, or in `a.png.txt`.")


class Selection(Places):
    """Which files, and where their captions go."""

    include: Texts = Field((), description="Only files that match this glob, `*.png` or `day1/*`. Repeatable.")
    output: Place | None = Field(
        None, description="Write the captions here, folders mirrored, instead of beside the media."
    )
    captions_to: Literal["txt", "parquet"] = Field(
        "txt",
        description="txt: a file each. parquet: rows of a few files in --output, where a million small ones would "
        "hurt; what has a row is done.",
    )
    existing: Existing = Field(
        "skip",
        description="What has a caption: skip it, overwrite it (`restore` brings it back), or redo what is stale: "
        "captioned by us with other settings or from other media since, and not edited by a person.",
    )
    only: str | None = Field(
        None,
        pattern=ONLY,
        description="failed: what failed before and has no caption still. flagged, flagged:NAME: caption those anew "
        "whose caption is ours and was flagged (`restore` brings it back).",
    )
    limit: int | None = Field(None, ge=0, description="Stop after this many files that need a caption.")
    shard: str | None = Field(
        None,
        pattern=SHARD,
        description="I/N, 1/8 to 8/8: one of N runs that share a folder, on as many machines. A file's name decides "
        "whose it is.",
    )

    @model_validator(mode="after")
    def _rows_are_never_written_again(self) -> Self:
        if self.captions_to == "parquet":
            if self.output is None:
                raise ValueError("--captions-to parquet wants --output, where its files go")
            if self.existing != "skip" or self.only not in (None, "failed"):
                raise ValueError(
                    "--captions-to parquet captions what has no row: to caption files again, give another --output"
                )
        return self

    @field_validator("shard")
    @classmethod
    def _one_of_them(cls, value: str | None) -> str | None:
        if value is not None:
            index, count = map(int, value.split("/"))
            if not 1 <= index <= count:
                raise ValueError(f"must be 1/{count} to {count}/{count}" if count else "wants N above 0")
        return value


class Sampling(Group):
    """Which moments of a clip the model sees."""

    frames: int = Field(12, ge=1, description="Frames of a clip. A clip that has fewer gives all of them.")
    sampling: SamplingRule = Field(
        "midpoints",
        description="midpoints: the middle of N equal spans. ends: evenly, first and last frame included. "
        "index: frame int(i * total / N), as the original scripts did.",
    )

    fps: float | None = Field(None, gt=0, description="Frames a second of the span, --frames being the most.")
    span: str = Field(
        "whole",
        pattern=f"^({SPAN})$",
        description="The part of a clip to caption: whole, head:SECONDS, middle:SECONDS, or START-END in seconds.",
    )
    timestamps: bool = Field(False, description="Write [mm:ss] before each frame of a clip.")
    for_: Annotated[str | None, Parameter(name="--for")] = Field(
        None, description="Caption what this trainer keeps of a clip, TRAINER[:MODEL], musubi:wan. --span beats it."
    )
    train_frames: int | None = Field(None, ge=1, description="With --for: the frames that it trains on, of each clip.")


class Reading(Group):
    """How files are read."""

    background: str = Field("white", description="What transparent images and clips are laid on: a colour, `#808080`.")
    animated: Literal["clip", "first"] = Field(
        "clip", description="Animated GIF, WebP, PNG and AVIF: clips, or images of their first frame."
    )
    exact_pixels: bool = Field(
        False, description="Decode and convert every pixel before the resize: slower. Without it, within 1/255 of that."
    )
    decode_timeout: float = Field(120.0, gt=0, description="Seconds until a file that is still being decoded fails.")
    decode_memory: float = Field(8.0, gt=0.25, description="GiB that decoding one file may take before it fails.")


class Splitting(Group):
    """How `split` cuts long videos."""

    min: str = Field("2s", pattern=DURATION, description="Leave out what would be shorter.")
    max: str = Field("5s", pattern=DURATION, description="Cut evenly what would be longer.")
    detector: Literal["adaptive", "content", "none"] = Field(
        "adaptive", description="How scene cuts are found. adaptive bears camera motion; none: by length alone."
    )

    @model_validator(mode="after")
    def _some_length_fits(self) -> Self:
        if not 0 < self.max_seconds >= self.min_seconds:
            raise ValueError(f"--min {self.min} and --max {self.max} leave nothing: make --max the longer one")
        return self

    @property
    def min_seconds(self) -> float:
        return seconds(self.min)

    @property
    def max_seconds(self) -> float:
        return seconds(self.max)


class Prompting(Group):
    """What the model is asked, and what is put around its answer."""

    prompt: Texts = Field(
        (),
        description="The prompt, for images and clips alike; given again, another caption of each file. [default: one "
        "for each kind]",
    )
    prompt_file: Path | None = Field(None, description="Read the prompt from this file.")
    system: str = Field("", description="A system prompt; a base model reads it before the prompt.")
    examples: Path | None = Field(
        None,
        description="Examples to follow: a folder of media with their `.txt`, or a text file with a caption a line.",
    )
    preset: str | None = Field(
        None, description="Prompt, length and target for a model or a kind of LoRA: see `gemma-captioner presets`."
    )
    facts: Path | None = Field(
        None, description="A CSV or JSONL about the files: its columns are {variables} of the prompt, as is {stem}."
    )
    order: Order = Field("media-first", description="Whether the frames come before the prompt's text or after it.")
    prefix: str = Field("", description="Put before every caption.")
    suffix: str = Field("", description="Put after every caption.")
    trigger: str = Field("", description="A trigger word: put before every answer that does not hold it as a word.")
    punctuation: Literal["ascii", "any"] = Field(
        "ascii", description="ascii: plain quotes, dashes and dots, which every trainer reads alike. any: as answered."
    )
    begin: str = Field(
        "", description="The words that every answer begins with: the model goes on from them, and captions keep them."
    )


class Generation(Group):
    """How an answer is drawn from the model."""

    max_new_tokens: int = Field(256, ge=1, description="The longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0, le=5, description="0 takes the likeliest word each time; above 0 samples.")
    seed: int = Field(0, ge=0, description="With a temperature: the same seed gives the same captions.")


class Measures(Group):
    """What a caption is measured by."""

    language: str = Field("english", description="The language that captions are to be in; others are flagged.")
    target: str | None = Field(
        None, description="The model to be trained: what its text encoder would cut off is flagged. --for sets it."
    )
    tokenizer: str | None = Field(
        None, description="Count a caption's tokens with this tokenizer, a Hugging Face id or folder, not by estimate."
    )

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str) -> str:
        if value.lower() not in LANGUAGES:
            raise ValueError(f"take one of {', '.join(LANGUAGES)}")
        return value.lower()

    @field_validator("target")
    @classmethod
    def _known_target(cls, value: str | None) -> str | None:
        if value is not None and value not in LIMITS:
            raise ValueError(f"take one of {', '.join(LIMITS)}")
        return value


class Judging(Measures):
    """When an answer is not fit, and what then."""

    retries: int = Field(
        2, ge=0, description="Ask again this often, by sampling, where an answer is empty, refuses, loops or echoes."
    )


class Captions(Places):
    """Which captions of a dataset are read."""

    captions: Local | None = Field(None, description="The captions lie here, as `caption --output` wrote them.")


class Exporting(Captions):
    """What is to be exported."""

    include: Texts = Field((), description="Only files that match this glob, `*.png` or `day1/*`. Repeatable.")


class Checking(Captions, Measures):
    """Which captions `check` reads, and who is to be trained on them."""

    extension: str = Field("txt", pattern=r"^\.?\w+$", description="The captions' extension: txt, caption.")
    for_: Annotated[str | None, Parameter(name="--for")] = Field(
        None, description="Look for what this trainer trips over, TRAINER[:MODEL], sd-scripts:sdxl."
    )

    @field_validator("extension")
    @classmethod
    def _without_dot(cls, value: str) -> str:
        return value.removeprefix(".")

    @property
    def trainer(self) -> str:
        """Its name, "" for none."""
        return (self.for_ or "").partition(":")[0]

    @property
    def reader(self) -> str | None:
        """The model whose text encoder reads the captions, where it is known."""
        return self.target or (target_for(self.for_) if self.for_ else None)


class Model(Group):
    """Which model, and how it runs."""

    model: str = Field(DEFAULT_MODEL, min_length=1, description="A Hugging Face id, a local folder, or `demo`.")
    engine: Literal["local", "server", "vllm", "scripted"] = Field(
        "local",
        description="local: transformers, here. server: any that speaks the OpenAI protocol, at --base-url. vllm: a "
        "vLLM server, started for the run. scripted: no model, answers from the JSON file that --model names.",
    )
    quantize: Quantize = Field(
        "auto", description="Weights in 16, 8 or 4 bits. auto: the most exact that fits the memory, said aloud."
    )
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Arithmetic. auto: bf16 on an accelerator, fp32 on a CPU."
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="Where the model runs.")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Files captioned at once. auto: as many as fit."
    )
    image_tokens: int | None = Field(
        None,
        description="Gemma 4: tokens that a frame may take: 70, 140, 280, 560 or 1120. [default: 280 for an image, 70 "
        "for a frame of a clip]",
    )

    @field_validator("image_tokens")
    @classmethod
    def _a_budget(cls, value: int | None) -> int | None:
        if value not in (None, 70, 140, 280, 560, 1120):
            raise ValueError("must be 70, 140, 280, 560 or 1120")
        return value

    hf_token: str | None = Field(
        None, repr=False, description="Hugging Face token. [default: HF_TOKEN, else `hf auth login`]"
    )
    adapter: str | None = Field(
        None, min_length=1, description="A LoRA that PEFT saved, a Hugging Face id or folder: merged into the model."
    )


class ServerAddress(Group):
    """Where a server is, and how large it wants its images."""

    base_url: str | None = Field(None, repr=False, description="Where the server answers: http://localhost:8000/v1.")
    api_key_env: str = Field("OPENAI_API_KEY", description="The environment variable that holds its key, if any.")
    image_size: int | None = Field(
        None, ge=16, description="Frames are sent as squares of this side. [default: as the model, 896 for Gemma 3]"
    )

    @field_validator("base_url")
    @classmethod
    def _a_web_address(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/]", value):
            raise ValueError("begin it with http:// or https://")
        try:
            _ = urlsplit(value or "").port
        except ValueError:  # whose text could be a password
            raise ValueError("its port is no number") from None
        return value


class Server(ServerAddress):
    """With --engine server or vllm: how it is asked."""

    image_format: Literal["jpeg", "png"] = Field("jpeg", description="How frames are sent. png: every pixel as it is.")
    jpeg_quality: int = Field(92, ge=1, le=100, description="Of frames sent as JPEG.")
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Requests under way at once. auto: more while that makes it faster, fewer when it objects."
    )
    request_timeout: float = Field(600.0, gt=0, description="Seconds until an answer is given up and asked for again.")
    item_timeout: float = Field(1800.0, gt=0, description="Seconds of asking again until a file fails.")
    shrink: bool = Field(
        False, description="Send half of a clip's frames, flagged, where the server refuses all as too much."
    )
    wait_for_server: str | None = Field(
        None,
        pattern=DURATION,
        description="Wait so long for a server that does not answer. [default: 10m for one that did, 30m for --serve]",
    )
    serve: str | None = Field(
        None,
        description="Start the server with this command and end it with the run; {model} and {port} are filled in. "
        "[default with --engine vllm: vllm serve {model} --host 127.0.0.1 --port {port}]",
    )

    @field_serializer("base_url", "serve", when_used="json")  # as the journal has them
    def _without_credentials(self, value: str | None) -> str | None:
        return None if value is None else without_credentials(value)


class Conduct(Group):
    """How the run goes about it."""

    workers: int | None = Field(None, ge=1, description="Processes that decode ahead. [default: one a core]")
    stop_after: str | None = Field(
        None,
        pattern=DURATION,
        description="Take no new files after this long: 90s, 45m, 2h, 1h30m.",
    )


class Cluster(Group):
    """Past one machine, with Ray."""

    cluster: str | None = Field(
        None,
        pattern=r"^(local|auto|ray://.+:\d+)$",
        description="local: an actor for each GPU of this machine. auto, ray://HOST:PORT: on a Ray that runs.",
    )
    actors: int | None = Field(
        None, ge=1, description="Engines side by side. [default: as many as the GPUs there are carry]"
    )
    gpus_per_actor: float | None = Field(
        None, ge=0, description="0.5: two share one. 2: a model spread over two. [default: 1, or 0 where there is none]"
    )
    cpus_per_actor: float | None = Field(
        None, gt=0, description="Its share, as Ray counts it, and its decoding processes. [default: of 80%]"
    )
    attempts: int = Field(
        3, ge=1, description="How often files whose actor died are given to another, before each is tried alone."
    )

    @field_validator("gpus_per_actor")
    @classmethod
    def _whole_above_one(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError("must be whole above 1: Ray shares one GPU, not several")
        return value


class ForKind(Group):
    """What an `[image]` or `[clip]` table of the config file may set apart."""

    prompt: Texts = ()
    max_new_tokens: int | None = Field(None, ge=1)


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
        home = {knob: group for group, knobs in _GROUPS.items() for knob in knobs.model_fields}
        grouped: dict[str, Any] = {}
        for name, value in flat.items():
            if name in ("image", "clip"):
                grouped[name] = value
            elif name in home:
                grouped.setdefault(home[name], {})[name] = value
            else:
                raise UsageError(f"unknown setting {name!r}. Known: {', '.join(sorted([*home, 'image', 'clip']))}")
        try:
            settings = cls.model_validate(grouped)
        except ValidationError as error:
            raise UsageError(explain(error)) from error
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
    def _model_asked(self) -> str:
        if self.model.engine == "server" and not self.model_is_named and self.server.serve is None:
            return "the only one of the server"
        return _settled_name(self.model.model)

    @property
    def model_is_named(self) -> bool:
        """Whether --model was given: a server may have one that needs no naming."""
        return "model" in self.model.model_fields_set

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
            **_hashed(self.prompting, {"order", "prefix", "suffix", "trigger", "punctuation", "system", "begin"}),
            **_hashed(self.generation, {"temperature", "seed"}),
        }
        if self.model.adapter is not None:
            said["adapter"] = _settled_name(self.model.adapter)
        if self.prompting.examples is not None:
            said["examples"] = _settled_name(str(self.prompting.examples))
        said |= _hashed(self.reading, {"background", "exact_pixels"})
        if kind == "clip":
            said |= _hashed(self.sampling)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


_GROUPS: dict[str, type[Group]] = {
    "selection": Selection,
    "sampling": Sampling,
    "reading": Reading,
    "prompting": Prompting,
    "generation": Generation,
    "judging": Judging,
    "model": Model,
    "server": Server,
    "conduct": Conduct,
    "cluster": Cluster,
}


# In every hash since the first. A newer setting is in it only where it is not at its default, so that
# no update makes captions stale.
_HASHED_AT_DEFAULT = frozenset(
    "order prefix suffix trigger punctuation system temperature seed background exact_pixels "
    "frames sampling fps span timestamps for_ train_frames".split()
)


def _hashed(group: Group, names: set[str] | None = None) -> dict[str, Any]:
    fields = type(group).model_fields
    return {
        name: value
        for name, value in group.model_dump(include=names).items()
        if name in _HASHED_AT_DEFAULT or value != fields[name].default
    }


def _settled_name(model: str) -> str:
    """One spelling for a folder, however it was given."""
    return str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else model


def seconds(duration: str) -> float:
    """`1h30m` -> 5400.0"""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(float(n) * unit[u] for n, _, u in re.findall(r"(\d+(\.\d+)?)([smhd])", duration))


def _read_prompt(path: Path) -> str:
    try:
        prompt = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompt-file {path}: {error}") from error
    if not prompt:
        raise UsageError(f"--prompt-file {path} is empty: write the prompt into it")
    return prompt
