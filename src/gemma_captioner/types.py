"""The records that flow through the pipeline. They are small and frozen; only `Frames` is large."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:  # keeps `--help` fast: it imports this module
    import numpy as np
    import numpy.typing as npt

Kind = Literal["image", "clip"]
FinishReason = Literal["stop", "length"]
SamplingRule = Literal["index", "midpoints", "ends"]
# The part of a clip: whole, head:4.5, middle:4.5 (seconds), or 2-6.5. A length may also be a number of frames: 81f of
# the file, or 81f@16 after frames are dropped to 16 per second. Of several lengths, the longest that fits is used.
_LENGTH = r"\d+(\.\d+)?(f(@\d+(\.\d+)?)?)?"
SPAN = rf"whole|(?P<part>head|middle):(?P<lengths>{_LENGTH}(,{_LENGTH})*)|(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)"
Pixels: TypeAlias = "npt.NDArray[np.uint8]"
Samples: TypeAlias = "npt.NDArray[np.float32]"
AUDIO_RATE = 16_000  # samples per second, of all models that hear


@dataclass(frozen=True, slots=True)
class PatchBudget:
    """The input size of Gemma 4: the largest that keeps the aspect ratio within a number of square patches.

    Frames for Gemma 4 are resized bicubically, frames for Gemma 3 bilinearly. Source: the image processors of both.

    # tokens=280, unit=48: 1920 x 1080 -> 1056 x 576, which is 22 x 12 = 264 patches
    # 2000 x 1000 -> 1104 x 528, which this rule would resize to 1152 x 528. resized_again: 1135 x 567 -> 1104 x 528
    """

    tokens: int  # the maximum number of patches
    unit: int  # the side of a patch in pixels
    resized_again: bool = False  # a server resizes by this rule once more: give a size that it brings to the right one

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) to which a picture of width x height is resized."""
        scale = math.sqrt(self.tokens * self.unit**2 / (width * height))
        columns, rows = int(scale * width / self.unit), int(scale * height / self.unit)
        if rows == 0:  # a very wide picture is one patch high
            columns, rows = min(width // height, self.tokens), 1
        elif columns == 0:
            columns, rows = 1, min(height // width, self.tokens)
        size = columns * self.unit, rows * self.unit
        if self.resized_again:
            server, unrounded = PatchBudget(self.tokens, self.unit), (int(scale * width), int(scale * height))
            if server.of(*size) != size == server.of(*unrounded):
                return unrounded
        return size


Size = tuple[int, int] | PatchBudget  # a fixed (width, height), or a size that depends on the picture


def resized_dimensions(size: Size, width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) to which a picture of width x height is resized."""
    return size if isinstance(size, tuple) else size.of(width, height)


def max_frame_bytes(size: Size) -> int:
    """Return the most bytes that the pixels of one frame take."""
    return 3 * (size[0] * size[1] if isinstance(size, tuple) else size.tokens * size.unit**2)


def max_audio_bytes(max_audio_s: float) -> int:
    """Return the most bytes that the sound of a clip takes, as samples in float32."""
    return 4 * (round(max_audio_s * AUDIO_RATE) + 1) if max_audio_s else 0


@dataclass(frozen=True, slots=True)
class MediaItem:
    """A media file and the place of its caption."""

    path: Path
    kind: Kind
    name: str  # the path relative to the given folder, with `/`; the journal identifies the item by it
    caption_path: Path
    store: Path  # the folder that holds `.gemma-captioner` with the item's journal

    @property
    def caption_file(self) -> str:
        """The path of the caption relative to the store, with `/`."""
        return self.caption_path.relative_to(self.store).as_posix()


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that cannot be listed, or a file of a tar that can have no caption path.

    It takes the place of the media item in a `Failed`.
    """

    path: Path
    name: str
    store: Path


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """The sound of the part of a clip that its frames come from.

    Attributes:
        samples: float32 [n], mono, -1..1.
        rate: Samples per second.
    """

    samples: Samples
    rate: int = AUDIO_RATE

    def __post_init__(self) -> None:
        if self.samples.dtype != "float32" or self.samples.ndim != 1 or not len(self.samples):
            raise ValueError(f"samples must be float32 [n], got {self.samples.dtype} {self.samples.shape}")
        if not abs(self.samples).max() <= 1:  # also false for NaN
            raise ValueError("samples must be within -1..1")
        if self.rate != AUDIO_RATE:
            raise ValueError(f"the rate must be {AUDIO_RATE}, got {self.rate}")

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class Frames:
    """The decoded frames of one item: the input of the model.

    Attributes:
        pixels: uint8 [n, height, width, 3], sRGB, at the input size of the model.
        times_s: n increasing presentation times in seconds from the start of the clip; (0.0,) for an image.
        duration_s: The duration of the whole clip in seconds; 0.0 for an image.
        kind: The kind by content: an animated image is a clip.
        source_size: (width, height) of the picture in the file, after rotation to upright.
        jpeg: The image as a JPEG file without metadata, where an engine may send the file instead of the pixels.
        span_s: The start and end of the part of the clip that the frames come from, in seconds from its start.
        audio: The sound that goes with the frames. None if the run sends no sound or the file has none.
    """

    pixels: Pixels
    times_s: tuple[float, ...]
    duration_s: float = 0.0
    flags: tuple[str, ...] = ()
    kind: Kind = "image"
    source_size: tuple[int, int] = (0, 0)
    jpeg: bytes | None = None
    audio: Audio | None = None
    span_s: tuple[float, float] = (0.0, math.inf)

    def __post_init__(self) -> None:
        if self.pixels.dtype != "uint8" or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(f"pixels must be uint8 [n, height, width, 3], got {self.pixels.dtype} {self.pixels.shape}")
        if len(self.times_s) != len(self.pixels) or not self.times_s:
            raise ValueError(f"{len(self.times_s)} times for {len(self.pixels)} frames")
        if any(a >= b for a, b in zip(self.times_s, self.times_s[1:], strict=False)):
            raise ValueError(f"times_s must increase, got {self.times_s}")


@dataclass(frozen=True, slots=True)
class ContextPart:
    """What the model sees before the frames of the item: a text and frames, either of which may be missing.

    With an answer, it is a few-shot example: a turn of its own. Without, it is labeled media in the turn of the item:
    the source image of an edit, or a reference.
    """

    text: str  # the prompt of an example; else the label that precedes the frames
    answer: str | None = None
    frames: Frames | None = None
    is_shared: bool = True  # the same object in all requests, so that an engine may keep what it made of the frames


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the engine. `id` is unique within a run. The engine needs `item` only for error messages."""

    id: int
    item: MediaItem
    frames: Frames
    prompt: str
    max_new_tokens: int
    context: tuple[ContextPart, ...] = ()  # examples first
    label: str = ""  # precedes the item's own frames, if labeled media precede them
    temperature: float = 0.0
    seed: int = 0
    begin: str = ""  # the first words of the answer; the reply starts with them
    schema: Mapping[str, Any] | None = None  # the JSON Schema of the answer, for engines that can enforce it

    @property
    def all_frames(self) -> list[Frames]:
        """The frames of the context, then its own: the order of their markers in the prompt."""
        return [*(part.frames for part in self.context if part.frames is not None), self.frames]


@dataclass(frozen=True, slots=True)
class Reply:
    """The raw answer of the engine to one request, without special tokens."""

    request_id: int
    text: str
    finish_reason: FinishReason  # "length" if the answer reached max_new_tokens
    prompt_tokens: int
    new_tokens: int
    seconds: float  # from submit to reply
    flags: tuple[str, ...] = ()  # what the engine did differently for this request


@dataclass(frozen=True, slots=True)
class Captioned:
    """An item with a caption on disk."""

    item: MediaItem
    caption: str  # the content of `item.caption_path`
    captions: tuple[str, ...] = ()  # one for each prompt
    flags: tuple[str, ...] = ()
    frames: int = 1  # the number that the model received
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0


CAPTIONED = "captioned already"  # the reason for which most items are skipped


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item that the run skips, with the reason."""

    item: MediaItem
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that failed; `error` says what happened and what to do. An existing `.txt` stays unchanged."""

    item: MediaItem | Folder
    error: str
    request_id: int | None = field(default=None, compare=False)  # the request that failed in the engine
    rejected: tuple[str, ...] = field(default=(), compare=False)  # raw replies without a valid caption


@dataclass(frozen=True, slots=True)
class Activity:
    """What a run does now: what it waits for, "" if nothing is in progress, and the names of the files concerned."""

    waiting_for: str = ""
    files: tuple[str, ...] = ()


Outcome = Captioned | Skipped | Failed
