"""Decodes the sound of a part of a clip, as mono samples at the rate that models take.

Every sample is placed by its timestamp. Its clock is that of the frames, so sound and frames stay together whatever the
container does: start offsets, edit lists, encoder delay, gaps.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from ..types import AUDIO_RATE, Audio
from .container import is_clock_restart, open_container
from .sampling import Timeline

# A track whose samples all stay below is silent: the default threshold of FFmpeg's `silencedetect`, -60 dBFS.
SILENCE = 10 ** (-60 / 20)
_MIN_MISSING_S, _MIN_MISSING = 0.5, 0.05  # a track with more missing than both, in seconds and as a share, is partial
_PREROLL_S = 1.0  # read before the part: decoders need earlier packets, and containers interleave roughly
_Chunk: TypeAlias = npt.NDArray[np.int32]
_FULL_SCALE = np.float32(2**31)


def decode_audio(
    path: Path, timeline: Timeline, begin_s: float, duration_s: float, max_s: float
) -> tuple[Audio | None, tuple[str, ...]]:
    """Return the sound of a part of a clip, and its flags. Where the track has no sound, the samples are 0.

    Frames count without their sound, so nothing is raised for a track that is missing or damaged.

    Args:
        path: The file.
        timeline: That of its frames.
        begin_s: The start of the part, from the start of the clip.
        duration_s: The length of the part.
        max_s: Only this much of the part is decoded, from its start.
    """
    start_s = timeline.start + begin_s
    samples: _Chunk = np.zeros(max(1, round(min(duration_s, max_s) * AUDIO_RATE)), np.int32)
    present: npt.NDArray[np.bool_] = np.zeros(len(samples), np.bool_)
    is_damaged, following = False, 0
    try:
        with open_container(path) as container:
            stream = container.streams.best("audio")  # the default track
            if not isinstance(stream, AudioStream) or stream.codec_context is None:
                return None, ("no_audio",)
            if timeline.keyframes and begin_s > _PREROLL_S:  # the container can seek
                container.seek(int((start_s - _PREROLL_S) * av.time_base), backward=True)
            for position_s, chunk in _resampled(container, stream, start_s, timeline.shifts):
                if chunk is None:
                    is_damaged = True
                    continue
                first = following if position_s is None else round((position_s - start_s) * AUDIO_RATE)
                following = first + len(chunk)
                if first >= len(samples):
                    break
                chunk = chunk[max(0, -first) :][: len(samples) - max(0, first)]
                samples[max(0, first) :][: len(chunk)] = chunk
                present[max(0, first) :][: len(chunk)] = True
    except (av.error.FFmpegError, ValueError):
        is_damaged = True
    if not present.any():
        return None, ("no_audio",)
    audio = Audio((samples / _FULL_SCALE).astype(np.float32, copy=False))
    missing = 1 - present.mean()
    is_partial = missing > _MIN_MISSING and missing * audio.duration_s > _MIN_MISSING_S
    flags = {
        "silent": not is_damaged and np.abs(audio.samples).max() < SILENCE,
        "partial_audio": is_damaged or is_partial or duration_s > max_s + 1 / AUDIO_RATE,
    }
    return audio, tuple(flag for flag, is_so in flags.items() if is_so)


def _resampled(
    container: InputContainer, stream: AudioStream, start_s: float, shifts: Sequence[float]
) -> Iterator[tuple[float | None, _Chunk | None]]:
    """Yield (time of the first sample, samples int32 [n]), from `start_s` or earlier. None: a packet without sound."""
    resampler: AudioResampler | None = None
    source = None  # the format of the resampler's input
    for frame in _decoded(container, stream, start_s, shifts):
        if frame is None:
            yield None, None
            continue
        if resampler is None or source != (frame.format.name, frame.layout.name, frame.rate):
            yield from _chunks(resampler, None)
            source = frame.format.name, frame.layout.name, frame.rate
            # Integers, because FFmpeg's mix of channels to float exceeds full scale.
            resampler = AudioResampler("s32", "mono", AUDIO_RATE)
        yield from _chunks(resampler, frame)
    yield from _chunks(resampler, None)


def _chunks(resampler: AudioResampler | None, frame: AudioFrame | None) -> Iterator[tuple[float | None, _Chunk]]:
    for out in resampler.resample(frame) if resampler is not None else ():
        samples: Any = out.to_ndarray()  # the resampler makes int32
        yield out.time, samples[0]


def _decoded(
    container: InputContainer, stream: AudioStream, start_s: float, shifts: Sequence[float]
) -> Iterator[AudioFrame | None]:
    """Yield frames on the clock of the timeline, and None for each packet that cannot be decoded."""
    base = float(stream.time_base or 0)
    latest_s, segment = None, 0
    for packet in container.demux(stream):
        shift_s = shifts[segment]
        if packet.pts is not None:
            clock_s, length_s = packet.pts * base, (packet.duration or 0) * base
            if latest_s is not None and is_clock_restart(clock_s - latest_s):
                segment = min(segment + 1, len(shifts) - 1)
                shift_s = shifts[segment]
            latest_s = clock_s
            if clock_s + length_s + shift_s < start_s - _PREROLL_S:
                continue
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            yield None
            continue
        for frame in frames:
            if shift_s and frame.pts is not None and frame.time_base:
                frame.pts += round(shift_s / float(frame.time_base))
            yield frame
