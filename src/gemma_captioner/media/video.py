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
from .colour import as_srgb, upright_size
from .sampling import ROUNDING_S, Timeline, wanted_frames
from .settings import DecodeSettings

av.logging.set_level(None)

_READ_WHOLE_BYTES = 256 << 20  # up to this size the packets are read; past it the container's index is believed
_CLOCK_BACK_S, _CLOCK_AHEAD_S = 0.9, 3600.0  # steps of the clock that no single recording takes
_JUMP_S = 1.0  # a keyframe nearer than this is not worth a seek
_INEXACT_SEEKING = ("avi", "mpeg", "mpegts", "mpegvideo")  # read in order, never jumped in
_SKIPS_BY_PACKET = ("h264", "hevc")  # decoders that can be told anew with each packet what to leave out
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own drop the alpha of WebM


def decode_clip(path: Path, size: Size, settings: DecodeSettings) -> Frames:
    """Read `path` and resize its frames to `size`. Raises `ItemError` with reason and remedy.

    A file that breaks off gives the frames it has, flagged `partial_video`, if at least half of those wanted are there.
    """
    try:
        timeline = timeline_of(path)
        indexes, missing = wanted_frames(timeline, settings)
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
                pixels[number] = as_srgb(
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


def timeline_of(path: Path) -> Timeline:
    """When each frame begins, without decoding any. Raises `ItemError` where there is none."""
    with open_video(path) as container:
        stream = video_stream(container)
        base = float(stream.time_base or 0)
        entries = list(stream.index_entries)
        read_whole = _READ_WHOLE_BYTES if is_local(path) else 0  # from afar, what need not be read is not
        if container.size > read_whole and 1 < len(entries) == stream.frames:
            shift = (stream.start_time or 0) - entries[0].timestamp
            frames = sorted(_Shown((e.timestamp + shift) * base, 0.0, e.is_keyframe) for e in entries)
            frames[-1] = frames[-1]._replace(lasts=frames[-1].begins - frames[-2].begins)
            stretches = [frames]
        else:
            stretches = _stretches(container, stream)
        if not stretches:
            raise ItemError("the file has no video in it that can be read: copy or download it again")
        by_place = len(stretches) > 1 or container.format.name == "avi"
        seen = _on_one_clock(stretches)
        if not by_place:  # a time is said once; where places count, every frame is
            seen = list({frame.begins: frame for frame in seen}.values())
        times = [frame.begins for frame in seen]
        actual, declared = times[-1] + seen[-1].lasts, _declared_end(container, stream, times[0])
        if len(stretches) > 1:
            declared = 0.0  # by clocks that were set anew
        breaks_off = declared - actual > max(0.5, 0.05 * (declared - times[0]))
        jumps = container.format.name not in _INEXACT_SEEKING and not by_place
        keyframes = [frame.begins for frame in seen if frame.is_keyframe and jumps]
        return Timeline(times, declared if breaks_off else actual, keyframes, breaks_off, by_place)


class _Shown(NamedTuple):
    """A frame by its packet: begins, lasts in seconds."""

    begins: float
    lasts: float
    is_keyframe: bool


def _stretches(container: InputContainer, stream: VideoStream) -> list[list[_Shown]]:
    """Frames in the order of the file, a new stretch wherever the clock was set anew (recordings that were joined)."""
    stretches: list[list[_Shown]] = []
    latest = 0.0
    try:
        for packet in container.demux(stream):
            if packet.pts is None or packet.is_discard or packet.time_base is None:
                continue
            clock = float((packet.pts if packet.dts is None else packet.dts) * packet.time_base)
            if not stretches or not -_CLOCK_BACK_S < clock - latest < _CLOCK_AHEAD_S:
                stretches.append([])
            latest = clock
            lasts = float((packet.duration or 0) * packet.time_base)
            stretches[-1].append(_Shown(float(packet.pts * packet.time_base), lasts, packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # what was read so far is what there is
    return stretches


def _on_one_clock(stretches: list[list[_Shown]]) -> list[_Shown]:
    """Sorted within each stretch, each of which begins where the one before it ends."""
    joined: list[_Shown] = []
    for stretch in map(sorted, stretches):
        shift = joined[-1].begins + joined[-1].lasts - stretch[0].begins if joined else 0.0
        joined += [frame._replace(begins=frame.begins + shift) for frame in stretch]
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
    left = deque(wanted)
    shown: VideoFrame | None = None  # on screen since its own time, until the next one's
    needed = frozenset(map(_micros, wanted))
    decoded = frames_from(container, stream, timeline, left[0], needed=needed)
    while left:
        try:
            frame = next(decoded)
        except (StopIteration, av.error.FFmpegError):
            break
        if shown is not None and _time(frame) <= _time(shown):  # a seek lands where a decoder can start
            continue
        if shown is not None and left[0] + ROUNDING_S < _time(frame):
            yield shown
            while left and left[0] + ROUNDING_S < _time(frame):
                left.popleft()
            if left and _jump(timeline.keyframes, _time(frame), left[0]) is not None:
                decoded = frames_from(container, stream, timeline, left[0], now=_time(frame), needed=needed)
        shown = frame
    if left and shown is not None and left[0] <= _time(shown) + ROUNDING_S:
        yield shown  # the last frame stays on screen until the end


def frames_from(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    time: float,
    *,
    now: float | None = None,
    needed: frozenset[int] | None = None,
) -> Iterator[VideoFrame]:
    """Frames in the order in which they are shown, from one at or before `time` on.

    now: where reading stands, None at the start: no jump is made that would save next to nothing.
    needed: of the others (by their times in microseconds), those that no frame refers to may be left undecoded.
    """
    decoder = _decoder(stream)
    keyframe = _jump(timeline.keyframes, timeline.start if now is None else now, time)
    if keyframe is not None:
        container.seek(round(keyframe / (stream.time_base or 1)), stream=stream, backward=True)
        decoder.flush_buffers()
        decoded = _decode(container, stream, decoder, needed)
        first = next(decoded, None)
        if first is not None and _time(first) <= keyframe + ROUNDING_S:
            yield first
            yield from decoded
            return
        # The container seeks by guess (MPEG streams do) and landed too late: read it from the beginning.
        container.seek(round(timeline.start / (stream.time_base or 1)), stream=stream, backward=True)
        decoder.flush_buffers()
    frames = _decode(container, stream, decoder, None if timeline.by_place else needed)
    yield from _timed(frames, timeline.times) if timeline.by_place else frames


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
        if needed is not None and packet.pts is not None and decoder.name in _SKIPS_BY_PACKET:
            is_needed = _micros(float(packet.pts * (packet.time_base or 1))) in needed
            decoder.skip_frame = "DEFAULT" if is_needed else "NONREF"
        for frame in decoder.decode(packet):
            if frame.time_base is None:
                frame.time_base = stream.time_base
            yield frame


def _timed(decoded: Iterator[VideoFrame], times: Sequence[float]) -> Iterator[VideoFrame]:
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


def _jump(keyframes: Sequence[float], now: float, target: float) -> float | None:
    """The last keyframe at or before `target`, where it lies well after `now`."""
    at = bisect_right(keyframes, target + ROUNDING_S) - 1
    return keyframes[at] if at >= 0 and keyframes[at] > now + _JUMP_S else None
