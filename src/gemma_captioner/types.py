"""What flows through the pipeline: small frozen records. Only `Frames` is large."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:  # `--help` reads this module, and shows no pixels
    import numpy as np
    import numpy.typing as npt

Kind = Literal["image", "clip"]
FinishReason = Literal["stop", "length"]
SamplingRule = Literal["index", "midpoints", "ends"]
# The part of a clip: whole, head:4.5, middle:4.5 (seconds), or 2-6.5
SPAN = r"whole|head:(?P<head>\d+(\.\d+)?)|middle:(?P<middle>\d+(\.\d+)?)|(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)"
Pixels: TypeAlias = "npt.NDArray[np.uint8]"


@dataclass(frozen=True, slots=True)
class PatchBudget:
    """Frames keep their shape: as large as `tokens` squares of `unit` pixels allow. Source: Gemma 4's image processor.

    They are resized bicubically, as it does, and not bilinearly, as Gemma 3's does.

    # 280 of 48: 1920 x 1080 -> 1056 x 576, 22 x 12 = 264 squares
    """

    tokens: int
    unit: int

    def of(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) that a picture of these is resized to."""
        scale = math.sqrt(self.tokens * self.unit**2 / (width * height))
        columns, rows = int(scale * width / self.unit), int(scale * height / self.unit)
        if rows == 0:  # a strip is one square high
            columns, rows = min(width // height, self.tokens), 1
        elif columns == 0:
            columns, rows = 1, min(height // width, self.tokens)
        return columns * self.unit, rows * self.unit


Size = tuple[int, int] | PatchBudget  # (width, height) whatever the picture's shape, or by its shape


def resized_dimensions(size: Size, width: int, height: int) -> tuple[int, int]:
    """(width, height) that a picture of width x height is brought to."""
    return size if isinstance(size, tuple) else size.of(width, height)


def max_frame_bytes(size: Size) -> int:
    """Of one frame's pixels."""
    return 3 * (size[0] * size[1] if isinstance(size, tuple) else size.tokens * size.unit**2)


@dataclass(frozen=True, slots=True)
class MediaItem:
    """A media file, where its caption belongs, and which folder's journal tells of it."""

    path: Path
    kind: Kind
    name: str  # path within the folder that was given, with `/`: how the journal calls it
    caption_path: Path
    store: Path  # the folder that holds `.gemma-captioner`

    @property
    def caption_file(self) -> str:
        """Where the caption lies within the store, with `/`."""
        return self.caption_path.relative_to(self.store).as_posix()


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that could not be listed: stands in a `Failed` where a media item would."""

    path: Path
    name: str
    store: Path


@dataclass(frozen=True, slots=True)
class Frames:
    """What the model sees of one item.

    pixels: uint8 [n, height, width, 3], sRGB, at the model's input size
    times_s: n presentation times in seconds from the start of the clip, rising; (0.0,) for an image
    duration_s: of the whole clip, 0.0 for an image
    source_size: (width, height) of the file's own picture, upright
    """

    pixels: Pixels
    times_s: tuple[float, ...]
    duration_s: float = 0.0
    flags: tuple[str, ...] = ()
    kind: Kind = "image"  # by content: an animated image is a clip
    source_size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.pixels.dtype != "uint8" or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(f"pixels must be uint8 [n, height, width, 3], got {self.pixels.dtype} {self.pixels.shape}")
        if len(self.times_s) != len(self.pixels) or not self.times_s:
            raise ValueError(f"{len(self.times_s)} times for {len(self.pixels)} frames")
        if any(a >= b for a, b in zip(self.times_s, self.times_s[1:], strict=False)):
            raise ValueError(f"times must rise, got {self.times_s}")


@dataclass(frozen=True, slots=True)
class Example:
    """A question as it might have been asked before, and its answer. frames: None where the words alone matter."""

    prompt: str
    answer: str
    frames: Frames | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the engine. `id` is unique within a run; `item` serves error messages only."""

    id: int
    item: MediaItem
    frames: Frames
    prompt: str
    max_new_tokens: int
    examples: tuple[Example, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    begin: str = ""  # the answer's first words, put into the model's mouth; the reply has them too


@dataclass(frozen=True, slots=True)
class Reply:
    """The engine's answer, special tokens removed, nothing else changed."""

    request_id: int
    text: str
    finish_reason: FinishReason  # "length": it ran into max_new_tokens
    prompt_tokens: int
    new_tokens: int
    seconds: float  # from submit to reply
    flags: tuple[str, ...] = ()  # what the engine did differently for this one


@dataclass(frozen=True, slots=True)
class Captioned:
    """What stands in `item.caption_path`, and, of several prompts, the caption of each."""

    item: MediaItem
    caption: str
    captions: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    frames: int = 1
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item that was left alone."""

    item: MediaItem
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An item without a caption; `error` says why and what to do. An existing `.txt` is as it was."""

    item: MediaItem | Folder
    error: str
    request_id: int | None = field(default=None, compare=False)  # set where an engine says it
    rejected: tuple[str, ...] = field(default=(), compare=False)  # raw replies that were not fit


Outcome = Captioned | Skipped | Failed
