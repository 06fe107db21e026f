"""Encodes a time range of a video to H.264: upright, 8-bit sRGB, with the original frame times."""

from collections import deque
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from ..errors import ItemError
from ..types import Audio
from .color import ACCURATE_FLAGS, frame_to_srgb, upright_size
from .container import open_container
from .sampling import TIMESTAMP_TOLERANCE_S, Timeline
from .video import decode_from, video_stream

_TIME_BASE = Fraction(1, 90_000)
_BT709 = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}  # tags in the file; limited range


def encode(
    video: Path,
    target: Path,
    start: float,
    end: float,
    timeline: Timeline,
    *,
    crf: str,
    max_edge: int | None = None,
    options: Mapping[str, str] | None = None,
    rate: float = 0,
    preset: str = "medium",
    sound: Audio | None = None,
) -> None:
    """Encode from the frame on screen at `start` until `end`, in seconds of presentation time.

    The last frame is held until `end`. Raises `ItemError` if the range holds no frame.

    Args:
        crf: x264 quality.
        max_edge: longest edge in pixels; larger frames are scaled down.
        options: mp4 muxer options.
        rate: resample to this constant frame rate; 0 keeps the original frames.
        preset: x264 speed.
        sound: that of the range, which is added as AAC; None for no sound.
    """
    with open_container(video) as source, av.open(str(target), "w", format="mp4", options=dict(options or {})) as clip:
        stream = video_stream(source)
        shown_rate = Fraction(rate or stream.average_rate or 24).limit_denominator(1001)
        if not 1 <= shown_rate <= 240:
            shown_rate = Fraction(24)
        encoder: VideoStream | None = None
        audio_encoder: AudioStream | None = None
        reformatter, converter = VideoReformatter(), VideoReformatter()
        pts = -1
        decoded = decode_from(source, stream, timeline, start)
        frames = (
            _frames_at_rate(decoded, start, end, rate)
            if rate
            else _frames_in_range(decoded, start, end, float(1 / shown_rate))
        )
        for time, frame in frames:
            if encoder is None:
                width, height = _even_size(*upright_size(frame, stream.sample_aspect_ratio), max_edge)
                encoder = clip.add_stream("libx264", rate=shown_rate, options={"crf": crf, "preset": preset})
                encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
                encoder.codec_context.time_base = _TIME_BASE
                for name, value in _BT709.items():
                    setattr(encoder.codec_context, name, value)
                audio_encoder = clip.add_stream("aac", rate=sound.rate, layout="mono") if sound else None
            pixels = frame_to_srgb(frame, (encoder.width, encoder.height), "white", reformatter)
            yuv_frame = converter.reformat(
                VideoFrame.from_ndarray(pixels, format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=ACCURATE_FLAGS,
            )
            pts = max(pts + 1, round((time - start) / _TIME_BASE))
            yuv_frame.pts, yuv_frame.time_base = pts, _TIME_BASE
            clip.mux(encoder.encode(yuv_frame))
        if encoder is None:
            raise ItemError("a part of the video has no frames: convert the video with another program")
        clip.mux(encoder.encode())
        if sound is not None and audio_encoder is not None:
            samples = AudioFrame.from_ndarray(sound.samples[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = sound.rate, 0, Fraction(1, sound.rate)
            clip.mux(audio_encoder.encode(samples))
            clip.mux(audio_encoder.encode())


def _frames_in_range(
    frames: Iterator[VideoFrame], start: float, end: float, frame_duration_s: float
) -> Iterator[tuple[float, VideoFrame]]:
    """(time, frame) from `start` until `end`. The first frame starts at `start`; a long last frame is repeated."""
    shown: VideoFrame | None = None
    last = start
    for frame in frames:
        time = frame.time or 0.0
        if time >= end - TIMESTAMP_TOLERANCE_S:
            break
        if time > start + TIMESTAMP_TOLERANCE_S:
            if shown is not None and last == start:
                yield start, shown
            yield time, frame
            last = time
        shown = frame
    if shown is None:
        return
    if last == start:
        yield start, shown
    if end - last > 1.5 * frame_duration_s:
        yield end - frame_duration_s, shown


def _frames_at_rate(
    frames: Iterator[VideoFrame], start: float, end: float, rate: float
) -> Iterator[tuple[float, VideoFrame]]:
    """(time, the frame on screen at that time), `rate` times per second from `start` until `end`."""
    times = deque(start + i / rate for i in range(round((end - start) * rate)))
    shown: VideoFrame | None = None
    for frame in frames:
        while shown is not None and times and times[0] + TIMESTAMP_TOLERANCE_S < (frame.time or 0.0):
            yield times.popleft(), shown
        if not times:
            return
        shown = frame
    if shown is not None:
        yield from ((time, shown) for time in times)


def _even_size(width: int, height: int, max_edge: int | None) -> tuple[int, int]:
    """# 1920, 1080, 1280 -> 1280, 720"""
    if max_edge is None or max(width, height) <= max_edge:
        return width, height
    scale = max_edge / max(width, height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
