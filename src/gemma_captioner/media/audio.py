"""Decodes the sound of a part of a clip, as mono samples at the rate that models take.

Every sample is placed by its timestamp. Its clock is that of the frames, so sound and frames stay together whatever the
container does: start offsets, edit lists, encoder delay, gaps.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from ..types import AUDIO_RATE, Audio
from .container import is_clock_restart, open_container

# A track whose samples all stay below is silent: the default threshold of FFmpeg's `silencedetect`, -60 dBFS.
SILENCE = 10 ** (-60 / 20)
_MIN_MISSING_S, _MIN_MISSING = 0.5, 0.05  # a track that lacks more than both, in seconds and as a share, is partial
_PREROLL_S = 1.0  # read before the part: decoders need earlier packets, and containers interleave roughly
_FULL_SCALE = np.float32(2**31)


def decode_audio(
    path: Path, start_s: float, duration_s: float, max_s: float, *, can_seek: bool
) -> tuple[Audio | None, tuple[str, ...]]:
    """Return the sound of a part of a clip, and its flags. Where the track has no sound, the samples are 0.

    Frames count without their sound, so nothing is raised for a track that is missing or damaged.

    Args:
        path: The file.
        start_s: The start of the part, on the clock of the container.
        duration_s: The length of the part.
        max_s: Only this much of the part is decoded, from its start.
        can_seek: Whether the container can seek by time. Otherwise, it is read from its start.
    """
    samples = np.zeros(max(1, round(min(duration_s, max_s) * AUDIO_RATE)), np.int32)
    present, is_damaged = np.zeros(len(samples), bool), False
    try:
        with open_container(path) as container:
            stream = container.streams.best("audio")  # the default track
            if not isinstance(stream, AudioStream) or stream.codec_context is None:
                return None, ("no_audio",)
            if can_seek:
                container.seek(int((start_s - _PREROLL_S) * av.time_base), backward=True)
            for position_s, chunk in _resampled(container, stream, start_s):
                if chunk is None:
                    is_damaged = True
                    continue
                first = round((position_s - start_s) * AUDIO_RATE)
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
        "silent": np.abs(audio.samples).max() < SILENCE,
        "partial_audio": is_damaged or is_partial or duration_s > max_s + 1 / AUDIO_RATE,
    }
    return audio, tuple(flag for flag, is_so in flags.items() if is_so)


def _resampled(
    container: InputContainer, stream: AudioStream, start_s: float
) -> Iterator[tuple[float, "np.ndarray[tuple[int], np.dtype[np.int32]] | None"]]:
    """Yield (time of the first sample, samples int32 [n]), from `start_s` or earlier. None: a packet without sound."""
    resampler: AudioResampler | None = None
    source = None  # the format of the resampler's input
    for frame in _decoded(container, stream, start_s):
        if frame is None:
            yield 0.0, None
            continue
        if resampler is None or source != (frame.format.name, frame.layout.name, frame.rate):
            yield from _chunks(resampler, None)
            source = frame.format.name, frame.layout.name, frame.rate
            # Integers, because FFmpeg's mix of channels to float exceeds full scale.
            resampler = AudioResampler("s32", "mono", AUDIO_RATE)
        yield from _chunks(resampler, frame)
    yield from _chunks(resampler, None)


def _chunks(
    resampler: AudioResampler | None, frame: AudioFrame | None
) -> Iterator[tuple[float, "np.ndarray[tuple[int], np.dtype[np.int32]]"]]:
    for out in resampler.resample(frame) if resampler is not None else ():
        yield out.time or 0.0, out.to_ndarray()[0]


def _decoded(container: InputContainer, stream: AudioStream, start_s: float) -> Iterator[AudioFrame | None]:
    """Yield frames with times on one clock, and None for each packet that cannot be decoded."""
    base = stream.time_base
    latest_s, shift_s = None, 0.0  # the clock of the file at the last packet; what joined recordings add to it
    for packet in container.demux(stream):
        if packet.pts is not None and base is not None:
            clock_s = float(packet.pts * base)
            length_s = float((packet.duration or 0) * base)
            if latest_s is not None and is_clock_restart(clock_s - latest_s):
                shift_s += latest_s - clock_s
            latest_s = clock_s + length_s
            if latest_s + shift_s < start_s - _PREROLL_S:
                continue
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            yield None
            continue
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                frame.pts += round(shift_s / float(frame.time_base))
            yield frame
