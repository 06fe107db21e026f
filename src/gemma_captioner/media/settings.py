"""Settings that the decoders need."""

from dataclasses import dataclass
from typing import Literal

from ..types import SamplingRule


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """Decoder settings, with the defaults of the command-line settings in config/decoding.py."""

    frames: int = 12
    sampling: SamplingRule = "midpoints"
    fps: float | None = None
    span: str = "whole"
    min_lengths: str = ""  # as in a span: a clip shorter than all of them is flagged `too_short_for_trainer`
    background: str = "white"
    animated: Literal["clip", "first"] = "clip"
    exact_pixels: bool = False
    jpeg_scale: float = 0.0  # see `EngineSpec`
    max_audio_s: float = 0.0  # the most sound of a clip to decode; 0: the run sends no sound
    timeout_s: float = 120.0  # limit per file in a `DecodePool`
    memory_gib: float = 8.0  # limit per file in a `DecodePool`
