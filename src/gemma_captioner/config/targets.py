"""Targets: what each trainer keeps of a clip and reads of a caption, for each model. The table is targets.toml.

`--for TRAINER[:MODEL]` names a target. `get_target` returns its row; `span_for`, `token_limit` and `is_auxiliary` say
what follows from it.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from ..errors import UsageError
from ..text import suggest


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table. Without a model, the fields of the model are at their defaults.

    Attributes:
        title: The name of the model.
        encoder: The text encoder, by the family of its tokenizer.
        tokens: How many of its tokens the trainer reads; 0 for no limit.
        reserved: How many of these a chat template takes.
        over: What becomes of a longer caption: the rest is "cut", or training "fails".
        quoted: A second encoder that reads only text in double quotes.
        sound: Whether the model is trained on the sound of clips, at least with a setting of the trainer.
        audio_rate: The sample rate of the sound that the model is trained on; 0 if it is trained on none.
        without_sound: What becomes of a clip without an audio track.
        silence: Whether captions of clips say which kinds of sound are absent.
        format: The caption format.
        fps: The frame rate of the model; 0 if it has none.
        rate: How the trainer resamples a clip: not at all, so its rate is the "source"'s; to the "model"'s; or by
            dropping frames to "at most" the model's.
        keep: Which frames it keeps: the "head", the "middle", the "whole" clip (evenly spaced frames of it), a "random"
            window, or several "chunks" with the same caption.
        counts: The valid numbers of frames, such as "4n+1". rounds: Whether another number is rounded "down" or "up".
        sides: Height and width are multiples of this; 0 if unknown.
        short: What becomes of a clip with too few frames.
        modes: Other ways of the trainer to take frames, by the name of its setting: fields to replace.
        captions: How caption files are read. lines: "whole": the lines of a `.txt` are one caption; "all", "any": each
            line is a caption, and all or a random one are used; "first": the first line is the caption.
        auxiliary: Masks and control images, which need no caption: globs of file names, and folder names with a `/`.
        source: Where the row was read. trainer_source: The trainer's repository, commit and code.
    """

    trainer: str
    model: str = ""
    title: str = ""
    encoder: str = ""
    tokens: int = 0
    reserved: int = 0
    over: str = "cut"
    quoted: str = ""
    sound: bool = False
    audio_rate: int = 0
    without_sound: str = ""
    silence: bool = False
    format: str = "prose"
    fps: float = 0
    rate: str = "source"
    keep: str = "whole"
    counts: str = ""
    rounds: str = "down"
    sides: int = 0
    short: str = ""
    modes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    captions: str = ""
    lines: str = "whole"
    auxiliary: Sequence[str] = ()
    source: str = ""
    trainer_source: str = ""

    @property
    def name(self) -> str:
        return f"{self.trainer}:{self.model}" if self.model else self.trainer

    @property
    def one_caption_per_line(self) -> bool:
        return self.lines in ("all", "any")

    def valid_count(self, frames: int) -> int:
        """Round a number of frames as the trainer does.

        # 4n+1: 80 -> 77      17n+5, up: 90 -> 90, 91 -> 107      4n+1: 1 -> 1
        """
        match = re.fullmatch(r"(\d+)n(?:\+(\d+))?", self.counts)
        if match is None or frames <= 1:
            return frames
        step, rest = int(match[1]), int(match[2] or 0)
        beyond = (frames - rest) % step
        if beyond and self.rounds == "up":
            return frames - beyond + step
        return max(1, frames - beyond)


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """max_tokens: caption tokens that are read, without special tokens. encoder: tokenizer. over: as in `Target`."""

    max_tokens: int
    encoder: str
    over: str = "cut"


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("targets.toml").read_text(encoding="utf-8"))


def models() -> Mapping[str, Mapping[str, Any]]:
    """Model -> its fields."""
    models: Mapping[str, Mapping[str, Any]] = _table()["models"]
    return models


def trainers() -> Sequence[str]:
    return list(_table()["trainers"])


def _models_of(trainer: str) -> Mapping[str, Mapping[str, Any]]:
    entries: Mapping[str, Mapping[str, Any]] = _table()["trainers"][trainer].get("models", {})
    return entries


def all_targets() -> Iterator[Target]:
    """Yield every row of the table."""
    for trainer in trainers():
        for model in _models_of(trainer) or ("",):
            yield get_target(f"{trainer}:{model}".removesuffix(":"))


def _model_named(name: str) -> str | None:
    """# wan2.2 -> wan"""
    return next((model for model, row in models().items() if name == model or name in row.get("aliases", ())), None)


@cache
def get_target(target: str) -> Target:
    """Return the row of `TRAINER[:MODEL]`. If the trainer does not list the model, merge their two general rows.

    Raises `UsageError` if either is unknown.
    """
    trainer, _, given = target.partition(":")
    if trainer not in trainers():
        if (model := _model_named(trainer)) and (known_by := [t for t in trainers() if model in _models_of(t)]):
            choices = " or ".join(f"{name}:{model}" for name in known_by)
            raise UsageError(f"--for {target}: this is a model. Name its trainer too: {choices}")
        raise UsageError(f"--for {target}: unknown trainer. {suggest(trainer, trainers())}")
    row = _table()["trainers"][trainer]
    model = _model_named(given) or row.get("model", "")
    if given and not model:
        raise UsageError(f"--for {target}: unknown model. {suggest(model, models())}. For others, give --for {trainer}")
    merged = (models().get(model) or {}) | row | _models_of(trainer).get(model, {})
    known = {f.name for f in fields(Target)}
    values = {name: value for name, value in merged.items() if name in known}
    source = _models_of(trainer).get(model, {}).get("source", "")
    return Target(**values | {"trainer": trainer, "model": model, "source": source, "trainer_source": row["source"]})


def unlisted_target_note(target: str) -> str | None:
    """Return a note for a combination that is not in the table; None if it is, or if no model is given."""
    row = get_target(target)
    if not row.model or row.model in _models_of(row.trainer):
        return None
    trainers_with_model = [trainer for trainer in trainers() if row.model in _models_of(trainer)]
    return (
        f"{target} is not in the table of targets, so it is treated as {row.trainer} and {row.model} in general. "
        f"Known: {row.trainer} with {', '.join(_models_of(row.trainer)) or 'no model'}; "
        f"{row.model} with {', '.join(trainers_with_model) or 'no trainer'}"
    )


def target_in_mode(target: str, mode: str | None) -> Target:
    """Return the row with the trainer's other way to take frames. Raises `UsageError` if it has none of that name."""
    row = get_target(target)
    if mode is None:
        return row
    if mode not in row.modes:
        known = f"Available: {', '.join(row.modes)}" if row.modes else "it has none: omit --train-mode"
        raise UsageError(f"--train-mode {mode}: unknown for {row.trainer}. {known}")
    return replace(row, **row.modes[mode])


def parse_frame_counts(value: Any) -> tuple[Any, ...]:
    """# 81 -> (81,)      "33,81" -> ("33", "81")      ["33,49", "81"] -> ("33", "49", "81")"""
    values = value if isinstance(value, list | tuple) else () if value is None else (value,)
    return tuple(part for one in values for part in (one.split(",") if isinstance(one, str) else (one,)))


def training_lengths(target: str, train_frames: Sequence[int], mode: str | None = None) -> str:
    """Return the lengths that the trainer cuts clips to, as a span states them.

    # diffusion-pipe:wan, 33 81 -> 2.0625,5.0625 (at 16 a second)     musubi:wan, 81 -> 81f (frames of the file)
    # musubi:wan, 81, mode source_fps -> 81f@16 (after frames are dropped to 16 a second)
    """
    row = target_in_mode(target, mode)
    if row.rate != "source" and not row.fps:
        known = [f"{row.trainer}:{m}" for m in _models_of(row.trainer) if get_target(f"{row.trainer}:{m}").fps]
        raise UsageError(f"--for {target} with --train-frames requires a model: give {', '.join(known)}")
    counts = [count for count in sorted({*map(row.valid_count, train_frames)}) if count > 1] or [1]
    if row.rate == "model":
        return ",".join(f"{count / row.fps:.6g}" for count in counts)
    return ",".join(f"{count}f" if row.rate == "source" else f"{count}f@{row.fps:g}" for count in counts)


def span_for(target: str, train_frames: Sequence[int], mode: str | None = None) -> str:
    """Return the span that `TRAINER[:MODEL]` keeps when it trains on so many frames.

    # diffusion-pipe:wan, 81 -> head:5.0625      musubi:wan, 81 -> head:81f      sd-scripts:sdxl, 81 -> whole
    """
    row = target_in_mode(target, mode)
    if not train_frames or row.keep not in ("head", "middle"):
        return "whole"
    return f"{row.keep}:{training_lengths(target, train_frames, mode)}"


def clips_for(target: str, train_frames: Sequence[int]) -> tuple[list[int], float]:
    """Return the numbers of frames and the frame rate of clips that the trainer keeps whole; rate 0: the file's own.

    # musubi:wan, 80 33 -> [77, 33], 16      ltx:ltx2, 121 -> [121], 0
    """
    row = get_target(target)
    return sorted({*map(row.valid_count, train_frames)}, reverse=True), row.fps


def target_for(target: str) -> str | None:
    """Return the value of `--target` for `TRAINER[:MODEL]`: the model, with its trainer if that changes the limit.

    # musubi:wan -> wan      ltx -> ltx      onetrainer:flux -> onetrainer:flux (77 tokens)      sd-scripts -> None
    """
    row = get_target(target)
    if not row.model:
        return None
    return row.model if token_limit(row.model) == token_limit(row.name) else row.name


def token_limit(target: str | None) -> TokenLimit | None:
    """Return the caption length limit of `MODEL` or `TRAINER:MODEL`; None if there is no limit.

    Raises `UsageError` if the target is unknown.
    """
    if target is None or not (row := _row_of(target)).tokens:
        return None
    return TokenLimit(row.tokens - row.reserved, row.encoder, row.over)


def states_silence(target: str | None) -> bool:
    """Return whether captions for `MODEL` or `TRAINER:MODEL` say that nobody speaks or no music plays."""
    return target is not None and _row_of(target).silence


def trains_on_sound(target: str | None) -> bool:
    """Return whether `TRAINER[:MODEL]` trains on the sound of clips.

    # ltx:ltx2 -> yes      diffusion-pipe:ltx2 -> no      musubi:wan -> no
    """
    return target is not None and get_target(target).sound


def _row_of(target: str) -> Target:
    """The row of `TRAINER:MODEL`, or of `MODEL` in general. Raises `UsageError` if it is unknown."""
    if ":" in target:
        return get_target(target)
    if (model := _model_named(target)) is None:
        raise UsageError(f"--target {target}: give one of {', '.join(models())}, or TRAINER:MODEL")
    return Target("", model, **{name: value for name, value in models()[model].items() if name != "aliases"})


def is_auxiliary(name: str, target: str | None) -> bool:
    """Return whether the trainer reads the file at this path within the dataset as a mask or a control image.

    # onetrainer: a-masklabel.png -> yes      musubi: control/a.png -> yes, a-masklabel.png -> no
    """
    if target is None or (trainer := target.partition(":")[0]) not in trainers():  # a format that no trainer reads
        return False
    *folders, file = name.lower().split("/")
    return any(
        glob[:-1] in folders if glob.endswith("/") else fnmatchcase(file, glob)
        for glob in get_target(trainer).auxiliary
    )
