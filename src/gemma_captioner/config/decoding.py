"""How files are read, and which moments of a clip."""

from typing import Literal

from pydantic import Field

from ..types import SPAN, SamplingRule
from .group import ForTrainer, SettingsGroup


class FrameSamplingSettings(SettingsGroup):
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
    for_: ForTrainer = None
    train_frames: int | None = Field(None, ge=1, description="With --for: the frames that it trains on, of each clip.")


class MediaSettings(SettingsGroup):
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
