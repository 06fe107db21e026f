"""Reads the size, frame count and frame rate of a media file, and its audio tracks, for trainers that require them."""

from dataclasses import dataclass
from pathlib import Path

import av.error

from ..errors import ItemError
from ..types import Failed, MediaItem
from .container import open_container
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


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """rate: samples per second, as they are stored. channels: 1 for mono, 2 for stereo."""

    rate: int
    channels: int


def probe_audio(path: Path) -> tuple[AudioTrack, ...] | None:
    """Return the audio tracks of a clip, the default one first, without decoding. None if it cannot be opened."""
    try:
        with open_container(path) as container:
            streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
            best = container.streams.best("audio")
            streams.sort(key=lambda stream: best is None or stream.index != best.index)
            return tuple(AudioTrack(stream.rate, stream.channels) for stream in streams)
    except (ItemError, av.error.FFmpegError, OSError, ValueError):
        return None
