"""Facts of a media file: size, duration, sound, and the frames that a model saw."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..media.audio import decode_audio
from ..media.probe import AudioTrack, probe, probe_audio
from ..media.video import container_errors, read_timeline
from ..text import counted
from ..types import MediaItem

WAVEFORM_PARTS = 400
_MAX_SOUND_S = 1200.0  # of a longer clip, only the first 20 minutes are decoded
_UNITS = ("kB", "MB", "GB", "TB")
_CHANNELS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """width, height: upright, in pixels. frames: 1 for an image. audio: (rate, channels); None without sound."""

    width: int
    height: int
    bytes: int
    frames: int = 1
    fps: float = 0.0
    duration_s: float = 0.0
    audio: tuple[int, int] | None = None

    @property
    def is_clip(self) -> bool:
        return self.fps > 0


@dataclass(frozen=True, slots=True)
class FrameStrip:
    """times_s: of the frames that a model saw. span_s: the captioned part. All from the start of the clip."""

    times_s: tuple[float, ...]
    span_s: tuple[float, float]
    duration_s: float

    @property
    def is_part(self) -> bool:
        """Whether the caption is about a part of the clip."""
        begin, end = self.span_s
        return begin > 0.01 or end < self.duration_s - 0.01


def read_facts(item: MediaItem) -> MediaFacts:
    """Raises `ItemError` if the file cannot be decoded."""
    found, size = probe(item), item.path.stat().st_size
    if item.kind == "image":
        return MediaFacts(found.width, found.height, size)
    tracks: tuple[AudioTrack, ...] = probe_audio(item.path) or ()
    audio = (tracks[0].rate, tracks[0].channels) if tracks else None
    duration_s = found.frames / found.fps if found.fps else 0.0
    return MediaFacts(found.width, found.height, size, found.frames, found.fps, round(duration_s, 3), audio)


def describe_facts(facts: MediaFacts) -> str:
    """# 1920 x 1080 · 4.04 s · 24 fps · 97 frames · 3.2 MB · sound: 48 kHz stereo"""
    parts = [f"{facts.width} \u00d7 {facts.height}"]
    if facts.is_clip:
        parts += [f"{facts.duration_s:.2f} s", f"{facts.fps:.4g} fps", counted(facts.frames, "frame")]
    parts.append(describe_bytes(facts.bytes))
    if facts.is_clip and facts.audio is not None:
        rate, channels = facts.audio
        parts.append(f"sound: {rate / 1000:g} kHz {_CHANNELS.get(channels, f'{channels} channels')}")
    elif facts.is_clip:
        parts.append("no sound")
    return " \u00b7 ".join(parts)


def describe_bytes(size: int) -> str:
    """# 900 -> 0.9 kB      3_240_000 -> 3.2 MB      64_000_000 -> 64 MB"""
    value, power = size / 1000, 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.2g} {_UNITS[power]}" if value < 10 else f"{value:.0f} {_UNITS[power]}"


def read_waveform(item: MediaItem) -> list[float]:
    """Return the highest level, 0..1, in each of `WAVEFORM_PARTS` equal parts of a clip; [] if it has no sound.

    Raises `ItemError` if the clip cannot be read.
    """
    with container_errors(item.path):
        timeline = read_timeline(item.path)
    audio, _ = decode_audio(item.path, timeline, 0.0, timeline.duration, _MAX_SOUND_S)
    if audio is None:
        return []
    share = min(1.0, _MAX_SOUND_S / timeline.duration)
    return peaks(audio.samples, max(1, round(WAVEFORM_PARTS * share))) + [0.0] * round(WAVEFORM_PARTS * (1 - share))


def peaks(samples: npt.NDArray[np.float32], parts: int) -> list[float]:
    """# 6 samples 0 .1 -.5 .2 .1 0, 3 parts -> 0.1 0.5 0.1"""
    edges = np.linspace(0, len(samples), parts + 1).astype(int)
    levels = np.maximum.reduceat(np.abs(samples), np.minimum(edges[:-1], len(samples) - 1))
    return [round(float(level), 3) for level in levels]


def facts_from(record: dict[str, Any]) -> MediaFacts:
    """The inverse of `dataclasses.asdict`, after a round trip through JSON."""
    audio = record.pop("audio")
    return MediaFacts(**record, audio=audio and tuple(audio))
