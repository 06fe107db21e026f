"""Decodes a media item into frames with the decoder for its kind."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from ..errors import ItemError
from ..storage.filesystem import release
from ..types import Failed, Frames, MediaItem, Size
from . import native_log
from .images import decode_image
from .jpeg import jpeg_to_send
from .settings import DecodeSettings
from .video import decode_clip

T = TypeVar("T")
UNEXPECTED_ERROR = "cannot decode"  # begins the message about an exception of a decoder


def decode(item: MediaItem, size: Size, settings: DecodeSettings, clip_size: Size | None = None) -> Frames | Failed:
    """Return frames at `size` (clips at `clip_size`, default `size`), or `Failed` if the file cannot be decoded."""
    return or_failed(item, lambda: _decode(item, size, settings, clip_size or size))


def _decode(item: MediaItem, size: Size, settings: DecodeSettings, clip_size: Size) -> Frames:
    if item.kind == "clip":
        return decode_clip(item.path, clip_size, settings)
    frames = decode_image(item.path, size, settings, clip_size)
    if settings.jpeg_scale and frames.kind == "image" and not frames.flags:
        frames = replace(frames, jpeg=jpeg_to_send(item.path, size, settings.jpeg_scale))
    if settings.max_audio_s and frames.kind == "clip":  # an animated image
        frames = replace(frames, flags=(*frames.flags, "no_audio"))
    return frames


def or_failed(item: MediaItem, read: Callable[[], T]) -> T | Failed:
    """Return what `read` makes of the file, or `Failed` if a decoder cannot read it."""
    native_log.reset()
    try:
        return read()
    except ItemError as error:
        return Failed(item, str(error))
    except MemoryError:
        return Failed(item, "decoding exceeds --decode-memory: scale the file down, or raise --decode-memory")
    except Exception as error:  # a decoder bug fails this file, not the run
        return Failed(
            item, f"{UNEXPECTED_ERROR} ({type(error).__name__}: {error}): re-export the file, or report a bug"
        )
    finally:
        release()
