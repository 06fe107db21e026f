"""Reads the size, frame count and frame rate of a media file, for trainers that require them."""

from dataclasses import dataclass

from ..errors import ItemError
from ..types import Failed, MediaItem
from .decode import decode
from .settings import DecodeSettings
from .video import read_timeline


@dataclass(frozen=True, slots=True)
class Probe:
    """width, height: upright, in pixels. frames: 1 for an image. fps: average; 0.0 for an image."""

    width: int
    height: int
    frames: int = 1
    fps: float = 0.0


def probe(item: MediaItem) -> Probe:
    """Raises `ItemError` if the file cannot be decoded."""
    frames = decode(item, (16, 16), DecodeSettings(frames=1, sampling="index", animated="first"))
    if isinstance(frames, Failed):
        raise ItemError(frames.error)
    if item.kind == "image":
        return Probe(*frames.source_size)
    count = len(read_timeline(item.path).times)
    return Probe(*frames.source_size, count, round(count / frames.duration_s, 3) if frames.duration_s else 0.0)
