"""Settings of frame sampling and decoding."""

import re
from typing import Any, Literal, Self

from pydantic import Field, field_serializer, field_validator, model_validator

from ..types import SPAN, SamplingRule
from .group import ForTrainer, FrameCounts, SettingsGroup


class FrameSamplingSettings(SettingsGroup):
    """Which moments of a clip the model sees."""

    frames: int = Field(
        12, ge=1, description="Show the model this many frames of each clip. A shorter clip gives all its frames."
    )
    sampling: SamplingRule = Field(
        "midpoints",
        description="How frames are chosen. midpoints: the middles of N equal parts. ends: evenly spaced, with "
        "the first and the last frame. index: frame int(i * total / N), as in the original scripts.",
    )

    fps: float | None = Field(
        None,
        gt=0,
        description="Show this many frames per second of a clip, at most --frames. [default: --frames for any length]",
    )
    span: str = Field(
        "whole",
        pattern=f"^({SPAN})$",
        description="Caption only this part of each clip: whole, head:SECONDS, middle:SECONDS, or START-END in "
        "seconds. head:81f is the first 81 frames.",
    )
    timestamps: bool = Field(False, description="Put the time, as [mm:ss], before each frame of a clip in the prompt.")
    audio: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Let the model hear the sound of clips. auto: if the model takes sound and the target of --for "
        "trains on it. on: always, or the run does not start.",
    )
    for_: ForTrainer = None
    train_frames: FrameCounts | None = Field(
        None,
        description="With --for: the number of frames that you train on, for example 81. For several buckets, a list: "
        "33,81.",
    )
    train_mode: str | None = Field(
        None,
        description="With --for: how the trainer takes frames, if you changed its default, for example source_fps "
        "for musubi or single_middle for diffusion-pipe.",
    )

    @model_validator(mode="after")
    def _check_trainer(self) -> Self:
        if self.for_ is None and self.train_mode is not None:
            raise ValueError("--train-mode requires --for: give the trainer, for example --for musubi:wan")
        if self.for_ is None and self.train_frames is not None:
            raise ValueError("--train-frames requires --for: give the trainer, for example --for musubi:wan")
        return self

    @field_serializer("train_frames")
    def _one_as_a_number(self, value: tuple[int, ...] | None) -> Any:
        """Serialize a single count as a number, so that the settings hash equals that of earlier versions."""
        return value[0] if value and len(value) == 1 else value

    @field_validator("span")
    @classmethod
    def _check_span(cls, value: str) -> str:
        found = re.fullmatch(SPAN, value)
        if found and found["start"] is not None and float(found["start"]) >= float(found["end"]):
            raise ValueError(f"it ends before it begins: write it as START-END, for example {_in_order(value)}")
        if (
            found
            and found["lengths"]
            and 0.0 in [float(part.partition("f")[0]) for part in found["lengths"].split(",")]
        ):
            raise ValueError("give more than 0 seconds")
        return value


def _in_order(span: str) -> str:
    """# 5-2 -> 2-5      3-3 -> 3-4"""
    start, end = sorted(map(float, span.split("-")))
    return f"{start:g}-{end + (start == end):g}"


class MediaSettings(SettingsGroup):
    """How files are decoded."""

    background: str = Field(
        "white", description="Fill transparent images and clips with this color: a name, or `#808080`."
    )
    animated: Literal["clip", "first"] = Field(
        "clip",
        description="Treat animated GIF, WebP, PNG and AVIF files as clips, or caption their first frame as an image.",
    )
    exact_pixels: bool = Field(
        False,
        description="Decode and convert every pixel before resizing. Slower; the default differs by at most 1/255 "
        "on average.",
    )
    decode_timeout: float = Field(120.0, gt=0, description="A file that takes longer than this to decode fails.")
    decode_memory: float = Field(8.0, gt=0.25, description="A file that needs more memory than this to decode fails.")

    @field_validator("background")
    @classmethod
    def _check_background(cls, value: str) -> str:
        if value != "white":
            from PIL import ImageColor  # `--help` does without it

            try:
                ImageColor.getrgb(value)
            except ValueError as error:
                raise ValueError("give the name of a color, such as gray, or its value, such as #808080") from error
        return value
