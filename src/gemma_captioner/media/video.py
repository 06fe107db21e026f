"""Decodes the frames of a video file that are on screen at the requested times, as upright 8-bit sRGB.

The first pass reads packets without decoding: the start time of each frame, and the keyframes. The second pass decodes
forward. It seeks only if a later keyframe lies before the next requested frame.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ..errors import ItemError
from ..storage.filesystem import is_local
from ..types import Audio, Frames, PatchBudget, Pixels, Size, resized_dimensions
from .audio import decode_audio
from .color import frame_to_srgb, upright_size
from .container import is_clock_restart, open_container
from .sampling import TIMESTAMP_TOLERANCE_S, Timeline, clip_length_flags, parse_span, select_frames
from .settings import DecodeSettings

av.logging.set_level(None)

_MAX_FULL_SCAN_BYTES = 256 << 20  # read all packets up to this size; trust the container's index above it
_MIN_SEEK_S = 1.0  # a closer keyframe does not justify a seek
_INEXACT_SEEKING = ("avi", "mpeg", "mpegts", "mpegvideo")  # read sequentially, never seek
_PER_PACKET_SKIP_DECODERS = ("h264", "hevc")  # decoders whose skip_frame may change with each packet
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's native decoders drop WebM alpha


def decode_clip(path: Path, size: Size, settings: DecodeSettings) -> Frames:
    """Decode `path` and resize its frames to `size`.

    A truncated file returns the frames it has, flagged `partial_video`, if these are at least half of those requested.

    Raises:
        ItemError: the file cannot be decoded.
    """
    with container_errors(path):
        timeline = read_timeline(path)
        indexes, missing = select_frames(timeline, settings)
        wanted = [timeline.times[i] for i in indexes]
        with open_container(path) as container:
            stream = video_stream(container)
            pixels: Pixels = np.empty((0, 1, 1, 3), np.uint8)
            times, reformatter, source_size = [], VideoReformatter(), (0, 0)
            for number, frame in enumerate(_frames_at(container, stream, wanted, timeline)):
                if number == 0:  # the first frame gives the size of the clip
                    source_size = upright_size(frame, stream.sample_aspect_ratio)
                    width, height = resized_dimensions(size, *source_size)
                    pixels = np.empty((len(wanted), height, width, 3), np.uint8)
                pixels[number] = frame_to_srgb(
                    frame,
                    (width, height),
                    settings.background,
                    reformatter,
                    exact=settings.exact_pixels,
                    bicubic=isinstance(size, PatchBudget),
                )
                times.append(round(_time(frame) - timeline.start, 6))
            missing += len(wanted) - len(times)
            if missing > len(times):
                raise ItemError(
                    f"the video is truncated: it has {len(times)} of {len(times) + missing} requested frames. "
                    "Copy or download it again"
                )
        audio, audio_flags = _sound(path, timeline, settings)
        return Frames(
            pixels=pixels[: len(times)],
            times_s=tuple(times),
            duration_s=round(timeline.duration, 6),
            flags=("partial_video",) * bool(missing) + clip_length_flags(timeline, settings) + audio_flags,
            kind="clip",
            source_size=source_size,
            audio=audio,
            span_s=parse_span(settings.span, timeline),
        )


@contextmanager
def container_errors(path: Path) -> Iterator[None]:
    """Convert errors of FFmpeg and of an object store to `ItemError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise ItemError("the file no longer exists: restore it and run again") from error
    except PermissionError as error:
        raise ItemError("no permission to read the file: grant read access (chmod +r)") from error
    except (av.error.FFmpegError, ValueError) as error:
        if is_local(path) and path.exists() and path.stat().st_size == 0:
            raise ItemError("the file is empty: replace or remove it") from error
        reason = getattr(error, "strerror", None) or error
        raise ItemError(
            f"cannot read this video ({reason}): it may be damaged or in an unsupported format. Replace or remove it"
        ) from error
    except OSError as error:
        raise ItemError(f"cannot read this video ({error.strerror or error}): run again") from error


def _sound(path: Path, timeline: Timeline, settings: DecodeSettings) -> tuple[Audio | None, tuple[str, ...]]:
    """Return the sound of the part that the frames come from, and its flags; nothing if the run sends no sound."""
    if not settings.max_audio_s:
        return None, ()
    begin, until = parse_span(settings.span, timeline)
    return decode_audio(path, timeline, begin, until - begin, settings.max_audio_s)


def video_stream(container: InputContainer) -> VideoStream:
    """Return the first video stream that is not a cover picture. Raises `ItemError` if there is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise ItemError("the file has no video, only audio or a cover picture: remove it")


def read_timeline(path: Path) -> Timeline:
    """Read the start time of each frame, without decoding. Raises `ItemError` if there are no frames."""
    with open_container(path) as container:
        stream = video_stream(container)
        base = float(stream.time_base or 0)
        entries = list(stream.index_entries)
        read_whole = _MAX_FULL_SCAN_BYTES if is_local(path) else 0  # avoid reading whole remote files
        if container.size > read_whole and 1 < len(entries) == stream.frames:
            shift = (stream.start_time or 0) - entries[0].timestamp
            frames = sorted(_FrameTiming((e.timestamp + shift) * base, 0.0, e.is_keyframe) for e in entries)
            frames[-1] = frames[-1]._replace(duration_s=frames[-1].start_s - frames[-2].start_s)
            segments = [frames]
        else:
            segments = _read_segments(container, stream)
        if not segments:
            raise ItemError("the file has no readable video: copy or download it again")
        ignores_timestamps = len(segments) > 1 or container.format.name == "avi"
        seen, shifts = _join_segments(segments)
        if not ignores_timestamps:  # drop duplicate times
            seen = list({frame.start_s: frame for frame in seen}.values())
        times = [frame.start_s for frame in seen]
        actual, declared = times[-1] + seen[-1].duration_s, _declared_end(container, stream, times[0])
        if len(segments) > 1:
            declared = 0.0  # unreliable: the clock restarts in each segment
        is_truncated = declared - actual > max(0.5, 0.05 * (declared - times[0]))
        can_seek = container.format.name not in _INEXACT_SEEKING and not ignores_timestamps
        keyframes = [frame.start_s for frame in seen if frame.is_keyframe and can_seek]
        end = declared if is_truncated else actual
        return Timeline(times, end, keyframes, is_truncated, ignores_timestamps, shifts)


class _FrameTiming(NamedTuple):
    """Start and duration of a frame, from its packet."""

    start_s: float
    duration_s: float
    is_keyframe: bool


def _read_segments(container: InputContainer, stream: VideoStream) -> list[list[_FrameTiming]]:
    """Frames in file order, with a new segment wherever the clock restarts (joined recordings)."""
    segments: list[list[_FrameTiming]] = []
    latest = 0.0
    try:
        for packet in container.demux(stream):
            if packet.pts is None or packet.is_discard or packet.time_base is None:
                continue
            clock = float((packet.pts if packet.dts is None else packet.dts) * packet.time_base)
            if not segments or is_clock_restart(clock - latest):
                segments.append([])
            latest = clock
            duration_s = float((packet.duration or 0) * packet.time_base)
            segments[-1].append(_FrameTiming(float(packet.pts * packet.time_base), duration_s, packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # keep what was read so far
    return segments


def _join_segments(segments: list[list[_FrameTiming]]) -> tuple[list[_FrameTiming], list[float]]:
    """Sort the frames of each segment, and shift it to start where the previous one ends. Return the shifts too."""
    joined: list[_FrameTiming] = []
    shifts: list[float] = []
    for segment in map(sorted, segments):
        shifts.append(joined[-1].start_s + joined[-1].duration_s - segment[0].start_s if joined else 0.0)
        joined += [frame._replace(start_s=frame.start_s + shifts[-1]) for frame in segment]
    return joined, shifts


def _declared_end(container: InputContainer, stream: VideoStream, start: float) -> float:
    """The end that the container declares for this stream; 0 if it declares none."""
    if stream.duration is not None and stream.time_base is not None:
        return start + float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:  # otherwise the audio may be longer
        return float(container.duration) / av.time_base
    return 0.0


def _frames_at(
    container: InputContainer, stream: VideoStream, wanted: list[float], timeline: Timeline
) -> Iterator[VideoFrame]:
    """The frame on screen at each requested time; fewer frames if decoding fails."""
    if not wanted:
        return
    remaining = deque(wanted)
    current: VideoFrame | None = None  # on screen until the next frame starts
    needed = frozenset(map(_micros, wanted))
    decoded = decode_from(container, stream, timeline, remaining[0], needed=needed)
    while remaining:
        try:
            frame = next(decoded)
        except (StopIteration, av.error.FFmpegError):
            break
        if current is not None and _time(frame) <= _time(current):  # a seek may land before the current frame
            continue
        if current is not None and remaining[0] + TIMESTAMP_TOLERANCE_S < _time(frame):
            yield current
            while remaining and remaining[0] + TIMESTAMP_TOLERANCE_S < _time(frame):
                remaining.popleft()
            if remaining and _keyframe_to_seek(timeline.keyframes, _time(frame), remaining[0]) is not None:
                decoded = decode_from(container, stream, timeline, remaining[0], position_s=_time(frame), needed=needed)
        current = frame
    if remaining and current is not None and remaining[0] <= _time(current) + TIMESTAMP_TOLERANCE_S:
        yield current  # the last frame stays on screen until the end


def decode_from(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    time: float,
    *,
    position_s: float | None = None,
    needed: frozenset[int] | None = None,
) -> Iterator[VideoFrame]:
    """Yield frames in presentation order, starting at or before `time`.

    Args:
        position_s: current read position, None at the start. A short way forward is decoded, not skipped by a seek.
        needed: times in microseconds of the frames to return. Other non-reference frames may be skipped.
    """
    decoder = _decoder(stream)
    keyframe = _keyframe_to_seek(timeline.keyframes, timeline.start if position_s is None else position_s, time)
    if keyframe is not None:
        container.seek(round(keyframe / (stream.time_base or 1)), stream=stream, backward=True)
        decoder.flush_buffers()
        decoded = _decode(container, stream, decoder, needed)
        first = next(decoded, None)
        if first is not None and _time(first) <= keyframe + TIMESTAMP_TOLERANCE_S:
            yield first
            yield from decoded
            return
        # The seek landed too late, because some containers only estimate positions (MPEG): read from the start.
        container.seek(round(timeline.start / (stream.time_base or 1)), stream=stream, backward=True)
        decoder.flush_buffers()
    frames = _decode(container, stream, decoder, None if timeline.ignores_timestamps else needed)
    yield from _with_timestamps(frames, timeline.times) if timeline.ignores_timestamps else frames


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of the stream; for WebM with alpha, one that supports alpha."""
    context = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and context.name in _ALPHA_DECODERS:
        context = cast(VideoCodecContext, av.CodecContext.create(_ALPHA_DECODERS[context.name], "r"))
        context.extradata = stream.codec_context.extradata
    if not context.is_open:
        context.thread_count = 1  # parallelism is per file
    return context


def _decode(
    container: InputContainer, stream: VideoStream, decoder: VideoCodecContext, needed: frozenset[int] | None
) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        if needed is not None and packet.pts is not None and decoder.name in _PER_PACKET_SKIP_DECODERS:
            is_needed = _micros(float(packet.pts * (packet.time_base or 1))) in needed
            decoder.skip_frame = "DEFAULT" if is_needed else "NONREF"
        for frame in decoder.decode(packet):
            if frame.time_base is None:
                frame.time_base = stream.time_base
            yield frame


def _with_timestamps(decoded: Iterator[VideoFrame], times: Sequence[float]) -> Iterator[VideoFrame]:
    """Set the time of each frame by its position in presentation order.

    AVI numbers packets in decoding order, and joined recordings restart their clock.
    """
    for frame, time in zip(decoded, times, strict=False):
        frame.pts = round(time / float(frame.time_base or 1))
        yield frame


def _micros(time_s: float) -> int:
    return round(time_s * 1e6)


def _time(frame: VideoFrame) -> float:
    return frame.time or 0.0


def _keyframe_to_seek(keyframes: Sequence[float], position_s: float, target: float) -> float | None:
    """The last keyframe at or before `target`, if a seek from `position_s` to it is worthwhile."""
    index = bisect_right(keyframes, target + TIMESTAMP_TOLERANCE_S) - 1
    return keyframes[index] if index >= 0 and keyframes[index] > position_s + _MIN_SEEK_S else None
