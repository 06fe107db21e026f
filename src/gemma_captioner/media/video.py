"""A video file -> the frames on screen at the wanted times, as a person sees them: upright, 8-bit sRGB.

A first pass reads packets, not pictures: when each frame begins and which are keyframes. The second decodes forward
and jumps only where a later keyframe lies before the next wanted frame.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
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
from ..storage.filesystem import is_local, source
from ..types import Frames, PatchBudget, Pixels, Size, resized_dimensions
from .color import frame_to_srgb, upright_size
from .sampling import TIMESTAMP_TOLERANCE_S, Timeline, select_frames
from .settings import DecodeSettings

av.logging.set_level(None)

_MAX_FULL_SCAN_BYTES = 256 << 20  # up to this size the packets are read; past it the container's index is believed
_MAX_CLOCK_STEP_BACK_S, _MAX_CLOCK_STEP_AHEAD_S = 0.9, 3600.0  # steps of the clock that no single recording takes
_MIN_SEEK_S = 1.0  # a keyframe nearer than this is not worth a seek
_INEXACT_SEEKING = ("avi", "mpeg", "mpegts", "mpegvideo")  # read in order, never jumped in
_PER_PACKET_SKIP_DECODERS = ("h264", "hevc")  # decoders that can be told anew with each packet what to leave out
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own drop the alpha of WebM


def decode_clip(path: Path, size: Size, settings: DecodeSettings) -> Frames:
    """Read `path` and resize its frames to `size`. Raises `ItemError` with reason and remedy.

    A file that breaks off gives the frames it has, flagged `partial_video`, if at least half of those wanted are there.
    """
    try:
        timeline = read_timeline(path)
        indexes, missing = select_frames(timeline, settings)
        wanted = [timeline.times[i] for i in indexes]
        with open_video(path) as container:
            stream = video_stream(container)
            pixels: Pixels = np.empty((0, 1, 1, 3), np.uint8)
            times, reformatter, source_size = [], VideoReformatter(), (0, 0)
            for number, frame in enumerate(_frames_at(container, stream, wanted, timeline)):
                if number == 0:  # which tells the clip's shape
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
                    f"the video breaks off: {len(times)} of {len(times) + missing} frames are there. "
                    "Copy or download it again"
                )
            return Frames(
                pixels=pixels[: len(times)],
                times_s=tuple(times),
                duration_s=round(timeline.duration, 6),
                flags=("partial_video",) if missing else (),
                kind="clip",
                source_size=source_size,
            )
    except av.error.FileNotFoundError as error:
        raise ItemError("the file is gone") from error
    except av.error.PermissionError as error:
        raise ItemError("no permission to read the file: mend it with chmod") from error
    except (av.error.FFmpegError, ValueError) as error:
        empty = is_local(path) and path.exists() and path.stat().st_size == 0
        words = getattr(error, "strerror", None) or error
        reason = "the file is empty" if empty else f"this is no video that can be read ({words})"
        raise ItemError(f"{reason}: replace or remove it") from error


def open_video(path: Path) -> InputContainer:
    return av.open(source(path), "r", metadata_errors="ignore")


def video_stream(container: InputContainer) -> VideoStream:
    """The first that is no cover picture. Raises `ItemError` where there is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise ItemError("the file has no video in it, only sound or a cover picture: remove it")


def read_timeline(path: Path) -> Timeline:
    """When each frame begins, without decoding any. Raises `ItemError` where there is none."""
    with open_video(path) as container:
        stream = video_stream(container)
        base = float(stream.time_base or 0)
        entries = list(stream.index_entries)
        read_whole = _MAX_FULL_SCAN_BYTES if is_local(path) else 0  # from afar, what need not be read is not
        if container.size > read_whole and 1 < len(entries) == stream.frames:
            shift = (stream.start_time or 0) - entries[0].timestamp
            frames = sorted(_FrameTiming((e.timestamp + shift) * base, 0.0, e.is_keyframe) for e in entries)
            frames[-1] = frames[-1]._replace(duration_s=frames[-1].start_s - frames[-2].start_s)
            segments = [frames]
        else:
            segments = _read_segments(container, stream)
        if not segments:
            raise ItemError("the file has no video in it that can be read: copy or download it again")
        ignores_timestamps = len(segments) > 1 or container.format.name == "avi"
        seen = _join_segments(segments)
        if not ignores_timestamps:  # a time is said once; where places count, every frame is
            seen = list({frame.start_s: frame for frame in seen}.values())
        times = [frame.start_s for frame in seen]
        actual, declared = times[-1] + seen[-1].duration_s, _declared_end(container, stream, times[0])
        if len(segments) > 1:
            declared = 0.0  # by clocks that were set anew
        is_truncated = declared - actual > max(0.5, 0.05 * (declared - times[0]))
        can_seek = container.format.name not in _INEXACT_SEEKING and not ignores_timestamps
        keyframes = [frame.start_s for frame in seen if frame.is_keyframe and can_seek]
        return Timeline(times, declared if is_truncated else actual, keyframes, is_truncated, ignores_timestamps)


class _FrameTiming(NamedTuple):
    """A frame by its packet: begins, lasts in seconds."""

    start_s: float
    duration_s: float
    is_keyframe: bool


def _read_segments(container: InputContainer, stream: VideoStream) -> list[list[_FrameTiming]]:
    """Frames in the order of the file, a new stretch wherever the clock was set anew (recordings that were joined)."""
    segments: list[list[_FrameTiming]] = []
    latest = 0.0
    try:
        for packet in container.demux(stream):
            if packet.pts is None or packet.is_discard or packet.time_base is None:
                continue
            clock = float((packet.pts if packet.dts is None else packet.dts) * packet.time_base)
            if not segments or not -_MAX_CLOCK_STEP_BACK_S < clock - latest < _MAX_CLOCK_STEP_AHEAD_S:
                segments.append([])
            latest = clock
            duration_s = float((packet.duration or 0) * packet.time_base)
            segments[-1].append(_FrameTiming(float(packet.pts * packet.time_base), duration_s, packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # what was read so far is what there is
    return segments


def _join_segments(segments: list[list[_FrameTiming]]) -> list[_FrameTiming]:
    """Sorted within each stretch, each of which begins where the one before it ends."""
    joined: list[_FrameTiming] = []
    for segment in map(sorted, segments):
        shift = joined[-1].start_s + joined[-1].duration_s - segment[0].start_s if joined else 0.0
        joined += [frame._replace(start_s=frame.start_s + shift) for frame in segment]
    return joined


def _declared_end(container: InputContainer, stream: VideoStream, start: float) -> float:
    """When the video ends by the container's word; 0 where it has none for this stream."""
    if stream.duration is not None and stream.time_base is not None:
        return start + float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:  # else sound may be what lasts longer
        return float(container.duration) / av.time_base
    return 0.0


def _frames_at(
    container: InputContainer, stream: VideoStream, wanted: list[float], timeline: Timeline
) -> Iterator[VideoFrame]:
    """The frame on screen at each wanted time, the last that begins at or before it; fewer where decoding fails."""
    if not wanted:
        return
    remaining = deque(wanted)
    current: VideoFrame | None = None  # on screen since its own time, until the next one's
    needed = frozenset(map(_micros, wanted))
    decoded = decode_from(container, stream, timeline, remaining[0], needed=needed)
    while remaining:
        try:
            frame = next(decoded)
        except (StopIteration, av.error.FFmpegError):
            break
        if current is not None and _time(frame) <= _time(current):  # a seek lands where a decoder can start
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
    """Frames in the order in which they are shown, from one at or before `time` on.

    position_s: where reading stands, None at the start: no jump is made that would save next to nothing.
    needed: of the others (by their times in microseconds), those that no frame refers to may be left undecoded.
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
        # The container seeks by guess (MPEG streams do) and landed too late: read it from the beginning.
        container.seek(round(timeline.start / (stream.time_base or 1)), stream=stream, backward=True)
        decoder.flush_buffers()
    frames = _decode(container, stream, decoder, None if timeline.ignores_timestamps else needed)
    yield from _with_timestamps(frames, timeline.times) if timeline.ignores_timestamps else frames


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """The stream's own, or for WebM with alpha the one that reads it."""
    context = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and context.name in _ALPHA_DECODERS:
        context = cast(VideoCodecContext, av.CodecContext.create(_ALPHA_DECODERS[context.name], "r"))
        context.extradata = stream.codec_context.extradata
    if not context.is_open:
        context.thread_count = 1  # files are what is decoded side by side
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
    """Frames in the order in which they are shown, each given the time of its place in that order.

    AVI numbers its packets in the order of decoding, and joined recordings count from different beginnings.
    """
    for frame, time in zip(decoded, times, strict=False):
        frame.pts = round(time / float(frame.time_base or 1))
        yield frame


def _micros(time_s: float) -> int:
    return round(time_s * 1e6)


def _time(frame: VideoFrame) -> float:
    return frame.time or 0.0


def _keyframe_to_seek(keyframes: Sequence[float], position_s: float, target: float) -> float | None:
    """The last keyframe at or before `target`, where it lies well after `position_s`."""
    at = bisect_right(keyframes, target + TIMESTAMP_TOLERANCE_S) - 1
    return keyframes[at] if at >= 0 and keyframes[at] > position_s + _MIN_SEEK_S else None
