"""Clips with a burst of sound at a known frame, so that a test can measure how well sound and frames stay together."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support.clips import numbered_frame

BURST_S = 0.03
FPS = 24


def burst(rate: int) -> np.ndarray:
    """A chirp from 400 Hz to 3 kHz: float32 [n]. Its shape tells its place to a sample, in lossy codecs too."""
    t = np.arange(round(BURST_S * rate)) / rate
    chirp = np.sin(2 * np.pi * (400 * t + (3000 - 400) / (2 * BURST_S) * t**2))
    return (0.7 * chirp * np.hanning(len(t))).astype(np.float32)


def bursts(seconds: float, at_s: Sequence[float], rate: int = 48_000) -> np.ndarray:
    """Silence with bursts that begin at these times: float32 [n]."""
    samples = np.zeros(round(seconds * rate), np.float32)
    for time in at_s:
        first = round(time * rate)
        samples[first:][: len(burst(rate))] += burst(rate)[: len(samples) - first]
    return samples


def burst_time_s(samples: np.ndarray, rate: int = 16_000) -> float:
    """The time at which the loudest burst begins."""
    return int(np.argmax(np.correlate(samples, burst(rate), "valid"))) / rate


def write_clip(
    path: Path,
    times: Sequence[int],
    tracks: Sequence[tuple[str, int, np.ndarray]],
    *,
    codec: str = "libx264",
    video_start: int = 0,
    audio_start_s: float = 0.0,
    gop: int = 12,
    channels: int = 2,
    options: dict[str, str] | None = None,
    default: int = 0,
) -> Path:
    """Write numbered frames with sound.

    Args:
        times: Presentation times of the frames, in units of 1 / FPS.
        tracks: (codec, rate, samples float32 [n]) of each track.
        video_start: The time of frame 0, in the same units.
        audio_start_s: The time of the first sample.
        default: The number of the default track.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=FPS, options={"g": str(gop)})
        video.width, video.height, video.pix_fmt = 160, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        streams = []
        for number, (name, rate, _) in enumerate(tracks):
            strict = {"strict": "experimental"} if name in ("vorbis", "opus") else {}
            stream = container.add_stream(name, rate=rate, layout={1: "mono", 2: "stereo", 6: "5.1"}[channels], **{})
            stream.options = strict
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        packets = []
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = video_start + time, Fraction(1, FPS)
            packets += video.encode(frame)
        packets += video.encode()
        for stream, (_, rate, samples) in zip(streams, tracks, strict=True):
            packets += _encoded(stream, samples, rate, channels, audio_start_s)
        packets = [packet for packet in packets if packet.dts is not None]
        container.start_encoding()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _encoded(stream, samples: np.ndarray, rate: int, channels: int, start_s: float) -> list[av.Packet]:
    packets = []
    layout = stream.layout.name
    resampler = None
    for first in range(0, len(samples), 4096):
        piece = np.tile(samples[first : first + 4096], (channels, 1))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start_s * rate) + first
        resampler = resampler or av.AudioResampler(stream.format.name, layout, rate, stream.frame_size or None)
        for out in resampler.resample(frame):
            packets += stream.encode(out)
    for out in resampler.resample(None):
        packets += stream.encode(out)
    return packets + stream.encode(None)
