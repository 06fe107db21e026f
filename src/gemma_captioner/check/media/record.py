"""What `check --media` knows of a file. measure.py fills it, rules.py judges it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...types import Kind

VERSION = 3  # raise it when what is measured changes: older measurements in the cache then no longer count
MAX_SECONDS = 10.0  # of a clip; the rest is not decoded
THUMBNAIL = 32  # the side of the pictures that duplicates are compared by
CENTERS = (1.0, 0.9, 0.8)  # parts of the width and height that are hashed, to find cropped copies


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one file. The cache holds it as JSON.

    Attributes:
        error: Why the file cannot be decoded; then the other fields are at their defaults.
        kind: By content: an animated image is a clip.
        width, height: Upright, in pixels.
        orientation: Of an image, as EXIF metadata gives it, 1 (upright) to 8.
        frames, seconds: Of the whole clip; 1 and 0.0 for an image.
        animated: Whether it is an animated image.
        flags: Of the decoder.
        hashes: For each sampled frame, the perceptual hashes of its `CENTERS`, 64 bits each.
        thumbnails: For each sampled frame, 32 x 32 levels of gray, in hexadecimal.
        blur: 0.0 (sharp) to 1.0, of the sharpest sampled frame.
        black_bars, blurred_bars: Parts of the height (above, below) and of the width (left, right).
        motion: The largest change of a part of the picture in a clip's first 10 s, in levels of gray.
        cuts: Seconds from the start of the clip, within its first 10 s.
    """

    error: str = ""
    kind: Kind = "image"
    width: int = 0
    height: int = 0
    orientation: int = 1
    frames: int = 1
    seconds: float = 0.0
    animated: bool = False
    flags: Sequence[str] = ()
    hashes: Sequence[Sequence[int]] = ()
    thumbnails: Sequence[str] = ()
    blur: float = 0.0
    black_bars: Sequence[Sequence[float]] = ((0.0, 0.0), (0.0, 0.0))
    blurred_bars: Sequence[Sequence[float]] = ((0.0, 0.0), (0.0, 0.0))
    motion: float = 0.0
    cuts: Sequence[float] = ()

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0
