"""Renders media files for the browser. It runs in worker processes, so that a crash affects one file only.

Each function writes its file atomically, and its arguments can be pickled.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ItemError
from ..media.container import open_container
from ..media.decode import decode
from ..media.encode import encode
from ..media.settings import DecodeSettings
from ..media.video import read_timeline, video_stream
from ..storage.atomic import atomic_write
from ..types import Failed, Frames, MediaItem, PatchBudget

_THUMB = PatchBudget(tokens=220 * 160, unit=1)  # total pixels, for any shape
_TILE = PatchBudget(tokens=560 * 420, unit=1)
_PICTURE = PatchBudget(tokens=1600 * 1200, unit=1)
_STRIP = PatchBudget(tokens=200 * 140, unit=1)
_PROXY_EDGE, _PROXY_CRF = 1280, "23"
_PLAYABLE_CODECS = {  # container -> codecs that browsers play
    "mov,mp4,m4a,3gp,3g2,mj2": {"h264", "av1", "vp9"},
    "matroska,webm": {"vp8", "vp9", "av1"},
}
_PLAYABLE_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}  # 8 bits


def thumb(item: MediaItem, target: Path) -> None:
    """Write a JPEG of the image or of the clip's middle frame. Raises `ItemError`."""
    frames = _decode(item, _THUMB, DecodeSettings(frames=1, animated="first"))
    _write(target, lambda path: Image.fromarray(frames.pixels[0]).save(path, "JPEG", quality=80))


def tile(item: MediaItem, target: Path) -> None:
    """Write a larger thumbnail. Raises `ItemError`."""
    frames = _decode(item, _TILE, DecodeSettings(frames=1, animated="first"))
    _write(target, lambda path: Image.fromarray(frames.pixels[0]).save(path, "JPEG", quality=84))


def picture(item: MediaItem, target: Path) -> None:
    """Write a JPEG of an image that is large or that browsers cannot display. Raises `ItemError`."""
    frames = _decode(item, _PICTURE, DecodeSettings(frames=1, animated="first"))
    _write(target, lambda path: Image.fromarray(frames.pixels[0]).save(path, "JPEG", quality=88))


def clip(item: MediaItem, target: Path) -> bool:
    """Return whether browsers play the file; if not, write an H.264 copy to `target`. Raises `ItemError`."""
    try:
        with open_container(item.path) as container:
            stream = video_stream(container)
            codec = stream.codec_context
            is_playable = (
                codec.name in _PLAYABLE_CODECS.get(container.format.name, ())
                and codec.pix_fmt in _PLAYABLE_PIXEL_FORMATS
            )
        if not is_playable:
            timeline = read_timeline(item.path)
            options = {"movflags": "+faststart"}

            def write(path: Path) -> None:
                start, end = timeline.start, timeline.end
                encode(item.path, path, start, end, timeline, crf=_PROXY_CRF, max_edge=_PROXY_EDGE, options=options)

            _write(target, write)
        return is_playable
    except (OSError, ValueError) as error:  # FFmpeg raises both
        reason = getattr(error, "strerror", None) or error
        raise ItemError(f"cannot play this clip ({reason}): replace or remove it") from error


def frame_strip(item: MediaItem, target: Path, settings: DecodeSettings) -> None:
    """Write the frames that a model sees side by side in a JPEG, and their times in seconds in a `.json` beside it."""
    frames = _decode(item, _STRIP, settings)
    metadata = {"times_s": frames.times_s}
    _write(target.with_suffix(".json"), lambda path: path.write_text(json.dumps(metadata), encoding="utf-8"))
    _write(target, lambda path: Image.fromarray(np.hstack(list(frames.pixels))).save(path, "JPEG", quality=80))


def _decode(item: MediaItem, size: PatchBudget, settings: DecodeSettings) -> Frames:
    frames = decode(item, size, settings)
    if isinstance(frames, Failed):
        raise ItemError(frames.error)
    return frames


def _write(target: Path, save: Callable[[Path], object]) -> None:
    with atomic_write(target, sync=False) as unfinished:  # only a cache
        save(unfinished)


def with_real_path(item: MediaItem, real: Path) -> MediaItem:
    """Return the item with the resolved path, so that the file that was checked is the file that is opened."""
    return replace(item, path=real)
