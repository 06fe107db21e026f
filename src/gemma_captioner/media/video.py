"""A video file -> the frames that are on screen at the wanted times, upright, as 8-bit RGB.

A first pass reads packets, not pictures: when each frame begins and which are keyframes. The second decodes forward
and jumps only where a later keyframe lies before the next wanted frame.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from ..errors import ItemError
from ..records import Frames
from ..settings import Sampling
from .sampling import covering, wanted_indexes, wanted_times

av.logging.set_level(None)

# Containers round times to their time base (Matroska: 1 ms): a frame that begins this soon after a wanted moment
# is the frame of that moment.
_ROUNDING_S = 0.0015
_READ_WHOLE_BYTES = 256 << 20  # up to this size the packets are read; past it the container's index is believed
_JUMP_S = 1.0  # a keyframe nearer than this is not worth a seek


@dataclass(frozen=True, slots=True)
class Timeline:
    """When things are in a clip, in seconds of presentation time, the first frame anywhere.

    times: each frame's beginning, rising. keyframes: those a decoder can start at. end: when the last frame ends,
    by what the container declares where the file breaks off before that.
    """

    times: list[float]
    keyframes: list[float]
    end: float
    breaks_off: bool

    @property
    def start(self) -> float:
        return self.times[0]


def decode_clip(path: Path, sampling: Sampling, size: tuple[int, int]) -> Frames:
    """Read `path` and resize its frames to `size` (width, height). Raises `ItemError` with reason and remedy.

    A file that breaks off gives the frames it has, flagged `partial_video`, if at least half of those wanted are there.
    """
    try:
        timeline = _timeline(path)
        wanted, missing = _wanted(timeline, sampling)
        with _open(path) as container:
            stream = _video_stream(container)
            stream.thread_type = "AUTO"
            frames = _frames_at(container, stream, wanted, timeline.keyframes)
            missing += len(wanted) - len(frames)
            if missing and 2 * len(frames) < len(frames) + missing:
                raise ItemError(
                    f"the video breaks off: {len(frames)} of {len(frames) + missing} frames are there. "
                    "Copy or download it again"
                )
            return Frames(
                pixels=np.stack([_to_rgb(frame, size) for frame in frames]),
                times_s=tuple(round(_time(frame) - timeline.start, 6) for frame in frames),
                duration_s=round(timeline.end - timeline.start, 6),
                flags=("partial_video",) if missing else (),
            )
    except av.error.FileNotFoundError as error:
        raise ItemError("the file is gone") from error
    except av.error.PermissionError as error:
        raise ItemError("no permission to read the file: mend it with chmod") from error
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        empty = path.exists() and path.stat().st_size == 0
        words = getattr(error, "strerror", None) or error
        reason = "the file is empty" if empty else f"this is no video that can be read ({words})"
        raise ItemError(f"{reason}: replace or remove it") from error


def _open(path: Path) -> InputContainer:
    return av.open(str(path), metadata_errors="ignore")


def _video_stream(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise ItemError("the file has no video in it, only sound or a cover picture: remove it")


def _timeline(path: Path) -> Timeline:
    with _open(path) as container:
        stream = _video_stream(container)
        base = float(stream.time_base or 0)
        entries = list(stream.index_entries)
        if path.stat().st_size > _READ_WHOLE_BYTES and 1 < len(entries) == stream.frames:
            shift = (stream.start_time or 0) - entries[0].timestamp
            seen = [((e.timestamp + shift) * base, 0.0, e.is_keyframe) for e in entries]
        else:
            seen = _packets(container, stream)
        if not seen:
            raise ItemError("the file has no video in it that can be read: copy or download it again")
        seen.sort()
        times = [time for time, _, _ in seen]
        actual, declared = times[-1] + seen[-1][1], _declared_end(container, stream, times[0])
        breaks_off = declared - actual > max(0.5, 0.05 * (declared - times[0]))
        keyframes = [time for time, _, is_keyframe in seen if is_keyframe]
        return Timeline(times, keyframes, declared if breaks_off else actual, breaks_off)


def _packets(container: InputContainer, stream: VideoStream) -> list[tuple[float, float, bool]]:
    """(beginning, seconds shown, is a keyframe) of each frame, in the order of the file."""
    seen = []
    try:
        for packet in container.demux(stream):
            if packet.pts is not None and not packet.is_discard and packet.time_base is not None:
                base = packet.time_base
                seen.append((float(packet.pts * base), float((packet.duration or 0) * base), packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # what was read so far is what there is
    return seen


def _declared_end(container: InputContainer, stream: VideoStream, start: float) -> float:
    """When the video ends by the container's word; 0 where it has none for this stream."""
    if stream.duration is not None and stream.time_base is not None:
        return start + float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:  # else sound may be what lasts longer
        return float(container.duration) / av.time_base
    return 0.0


def _wanted(timeline: Timeline, sampling: Sampling) -> tuple[list[float], int]:
    """(beginnings of the frames to show, number of wanted moments that the file breaks off before)."""
    times, n = timeline.times, sampling.frames
    if sampling.sampling == "index" or (len(times) <= n and not timeline.breaks_off):
        return [times[i] for i in wanted_indexes(len(times), n)], 0
    until = timeline.end if sampling.sampling == "midpoints" or timeline.breaks_off else times[-1]
    moments = [timeline.start + t for t in wanted_times(until - timeline.start, n, sampling.sampling)]
    there = [m for m in moments if not timeline.breaks_off or m <= times[-1] + _ROUNDING_S]
    return [times[i] for i in covering(times, [m + _ROUNDING_S for m in there])], len(moments) - len(there)


def _frames_at(
    container: InputContainer, stream: VideoStream, wanted: list[float], keyframes: list[float]
) -> list[VideoFrame]:
    """The frame on screen at each wanted time, the last that begins at or before it; fewer where decoding fails."""
    frames: list[VideoFrame] = []
    shown: VideoFrame | None = None  # on screen since its own time, until the next one's
    left = list(wanted)
    decoded = container.decode(stream)
    while left:
        try:
            frame = next(decoded)
        except (StopIteration, av.error.FFmpegError):
            break
        if shown is not None and _time(frame) <= _time(shown):  # a seek lands where a decoder can start
            continue
        if shown is not None and left[0] + _ROUNDING_S < _time(frame):
            frames.append(shown)
            left = [t for t in left if t + _ROUNDING_S >= _time(frame)]
            if left and (jump := _jump(keyframes, _time(frame), left[0])) is not None:
                container.seek(int(jump / (stream.time_base or 1)), stream=stream, backward=True)
                decoded = container.decode(stream)
        shown = frame
    if left and shown is not None and left[0] <= _time(shown) + _ROUNDING_S:
        frames.append(shown)  # the last frame stays on screen until the end
    return frames


def _time(frame: VideoFrame) -> float:
    return frame.time or 0.0


def _jump(keyframes: list[float], now: float, target: float) -> float | None:
    """The last keyframe at or before `target`, where it lies well after `now`."""
    ahead = [k for k in keyframes if now + _JUMP_S < k <= target + _ROUNDING_S]
    return ahead[-1] if ahead else None


def _to_rgb(frame: VideoFrame, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    pixels: Any = frame.to_ndarray(format="rgb24")
    upright = np.ascontiguousarray(np.rot90(pixels, k=frame.rotation // 90))
    return np.asarray(Image.fromarray(upright).resize(size, Image.Resampling.BILINEAR))
