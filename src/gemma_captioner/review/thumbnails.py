"""Renders media files for the browser. It runs in worker processes, so that a crash affects one file only.

Each function writes its file atomically, and its arguments can be pickled.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ItemError
from ..media.audio import decode_audio
from ..media.container import open_container
from ..media.decode import decode
from ..media.encode import encode
from ..media.probe import probe
from ..media.settings import DecodeSettings
from ..media.video import read_timeline, video_stream
from ..storage.atomic import atomic_write
from ..types import Failed, Frames, MediaItem, PatchBudget, Size
from .facts import FrameStrip, read_facts, read_waveform

_THUMB = PatchBudget(tokens=220 * 160, unit=1)  # total pixels, for any shape
_TILE = PatchBudget(tokens=560 * 420, unit=1)
_PICTURE = PatchBudget(tokens=1600 * 1200, unit=1)
_STRIP = PatchBudget(tokens=200 * 140, unit=1)
_MAX_FULL_PIXELS, _MAX_FULL_EDGE = 64_000_000, 16_384  # what browsers still draw
_PROXY_EDGE, _PROXY_CRF, _PROXY_PRESET = 1920, "23", "veryfast"
_MAX_PROXY_SOUND_S = 1200.0
_PLAYABLE_CODECS = {  # container -> codecs that browsers play
    "mov,mp4,m4a,3gp,3g2,mj2": {"h264", "av1", "vp9"},
    "matroska,webm": {"vp8", "vp9", "av1"},
}
_PLAYABLE_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}  # 8 bits
_PLAYABLE_SOUND = {"aac", "mp3", "opus", "vorbis", "flac"}


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


def full(item: MediaItem, target: Path) -> None:
    """Write a JPEG of an image with all its pixels, or as many as browsers draw. Raises `ItemError`."""
    found = probe(item)
    width, height = found.width, found.height
    scale = min(1.0, (_MAX_FULL_PIXELS / (width * height)) ** 0.5, _MAX_FULL_EDGE / max(width, height))
    size = max(1, int(width * scale)), max(1, int(height * scale))
    frames = _decode(item, size, DecodeSettings(frames=1, animated="first"))
    _write(target, lambda path: Image.fromarray(frames.pixels[0]).save(path, "JPEG", quality=92, subsampling=0))


def facts(item: MediaItem, target: Path) -> None:
    """Write the `MediaFacts` as JSON. Raises `ItemError`."""
    _write_json(target, asdict(read_facts(item)))


def waveform(item: MediaItem, target: Path) -> None:
    """Write the levels of a clip's sound as JSON; [] if it has none. Raises `ItemError`."""
    _write_json(target, read_waveform(item))


def clip(item: MediaItem, target: Path) -> bool:
    """Return whether browsers play the file; if not, write an H.264 copy to `target`. Raises `ItemError`."""
    try:
        with open_container(item.path) as container:
            stream = video_stream(container)
            codec, sound = stream.codec_context, container.streams.best("audio")
            is_playable = (
                (sound is None or sound.codec_context is None or sound.codec_context.name in _PLAYABLE_SOUND)
                and codec.name in _PLAYABLE_CODECS.get(container.format.name, ())
                and codec.pix_fmt in _PLAYABLE_PIXEL_FORMATS
            )
        if not is_playable:
            timeline = read_timeline(item.path)
            audio, _ = decode_audio(item.path, timeline, 0.0, timeline.duration, _MAX_PROXY_SOUND_S)
            write = partial(
                encode,
                item.path,
                start=timeline.start,
                end=timeline.end,
                timeline=timeline,
                crf=_PROXY_CRF,
                max_edge=_PROXY_EDGE,
                options={"movflags": "+faststart"},
                preset=_PROXY_PRESET,
                sound=audio,
            )
            _write(target, write)
        return is_playable
    except (OSError, ValueError) as error:  # FFmpeg raises both
        reason = getattr(error, "strerror", None) or error
        raise ItemError(f"cannot play this clip ({reason}): replace or remove it") from error


def frame_strip(item: MediaItem, target: Path, settings: DecodeSettings) -> None:
    """Write the frames that a model sees side by side in a JPEG, with a `FrameStrip` as JSON in its comment."""
    frames = _decode(item, _STRIP, settings)
    comment = json.dumps(asdict(FrameStrip(frames.times_s, frames.span_s, frames.duration_s)))
    strip = Image.fromarray(np.hstack(list(frames.pixels)))
    _write(target, lambda path: strip.save(path, "JPEG", quality=80, comment=comment))


def _decode(item: MediaItem, size: Size, settings: DecodeSettings) -> Frames:
    frames = decode(item, size, settings)
    if isinstance(frames, Failed):
        raise ItemError(frames.error)
    return frames


def _write_json(target: Path, content: Any) -> None:
    _write(target, lambda path: path.write_text(json.dumps(content), encoding="utf-8"))


def _write(target: Path, save: Callable[[Path], object]) -> None:
    with atomic_write(target, sync=False) as unfinished:  # only a cache
        save(unfinished)


def with_real_path(item: MediaItem, real: Path) -> MediaItem:
    """Return the item with the resolved path, so that the file that was checked is the file that is opened."""
    return replace(item, path=real)
