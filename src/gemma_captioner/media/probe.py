"""What a trainer wants to be told of a media file beside its caption."""

from dataclasses import dataclass

from ..errors import ItemError
from ..types import Failed, MediaItem
from .decode import decode
from .settings import DecodeSettings
from .video import read_timeline


@dataclass(frozen=True, slots=True)
class Probe:
    """width, height: in pixels, upright. frames: all of a clip's, 1 of an image. fps: on average, 0.0 of an image."""

    width: int
    height: int
    frames: int = 1
    fps: float = 0.0


def probe(item: MediaItem) -> Probe:
    """Raises `ItemError` for a file that cannot be read."""
    frames = decode(item, (16, 16), DecodeSettings(frames=1, sampling="index", animated="first"))
    if isinstance(frames, Failed):
        raise ItemError(frames.error)
    if item.kind == "image":
        return Probe(*frames.source_size)
    count = len(read_timeline(item.path).times)
    return Probe(*frames.source_size, count, round(count / frames.duration_s, 3) if frames.duration_s else 0.0)
