"""What decoding is told: all of it, and none of what a command is told besides."""

from dataclasses import dataclass
from typing import Literal

from ..types import SamplingRule


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """As the settings of these names in config/decoding.py, whose defaults these are.

    timeout_s, memory_gib: what one file may take of a `DecodePool` before it fails.
    """

    frames: int = 12
    sampling: SamplingRule = "midpoints"
    fps: float | None = None
    span: str = "whole"
    background: str = "white"
    animated: Literal["clip", "first"] = "clip"
    exact_pixels: bool = False
    timeout_s: float = 120.0
    memory_gib: float = 8.0
