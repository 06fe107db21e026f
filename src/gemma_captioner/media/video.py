"""A video file -> the frames that are on screen at the wanted times, upright, as 8-bit RGB.

Reads forward in presentation time and jumps only where a later keyframe lies before the next wanted moment.
"""

from dataclasses import dataclass
from pathlib import Path

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
from .sampling import wanted_indexes, wanted_times

av.logging.set_level(None)


@dataclass(frozen=True, slots=True)
class _Picked:
    frames: list[VideoFrame]
    wanted: int
    broke: bool  # the file ended in an error


def decode_clip(path: Path, sampling: Sampling, size: tuple[int, int]) -> Frames:
    """Read `path` and resize its frames to `size` (width, height). Raises `ItemError` with reason and remedy.

    A file that breaks off gives the frames it has, flagged `partial_video`, if at least half of those wanted are there.
    """
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = _video_stream(container)
            stream.thread_type = "AUTO"
            duration_s, total = _extent(container, stream, path)
            picked = _pick(container, stream, sampling, duration_s, total)
            if not picked.frames:
                raise ItemError("no frame of the video can be decoded: copy or download it again")
            if picked.broke and 2 * len(picked.frames) < picked.wanted:
                raise ItemError(
                    f"the video breaks off: {len(picked.frames)} of {picked.wanted} frames are there. "
                    "Copy or download it again"
                )
            start = _start_s(stream)
            return Frames(
                pixels=np.stack([_to_rgb(frame, stream, size) for frame in picked.frames]),
                times_s=tuple(round(_time(f) - start, 6) for f in picked.frames),
                duration_s=duration_s,
                flags=("partial_video",) if picked.broke else (),
            )
    except av.error.FileNotFoundError as error:
        raise ItemError("the file is gone") from error
    except av.error.PermissionError as error:
        raise ItemError("no permission to read the file: mend it with chmod") from error
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        empty = path.exists() and path.stat().st_size == 0
        reason = "the file is empty" if empty else f"this is no video that can be read ({_words(error)})"
        raise ItemError(f"{reason}: replace or remove it") from error


def _video_stream(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise ItemError("the file has no video in it, only sound or a cover picture: remove it")


def _extent(container: InputContainer, stream: VideoStream, path: Path) -> tuple[float, int]:
    """(seconds from the first frame to the end of the last, number of frames), by reading packets if need be."""
    if stream.frames and stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base), stream.frames
    with av.open(str(path), metadata_errors="ignore") as again:
        times, last = [], 0.0
        try:
            for packet in again.demux(again.streams[stream.index]):
                if packet.pts is not None and packet.time_base is not None:
                    times.append(float(packet.pts * packet.time_base))
                    last = float((packet.duration or 0) * packet.time_base)
        except av.error.FFmpegError:
            pass  # what was read so far is what there is; decoding will say that it breaks off
    if not times:
        raise ItemError("the file has no video packets: replace or remove it")
    return max(times) - min(times) + last, len(times)


def _start_s(stream: VideoStream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _time(frame: VideoFrame) -> float:
    return frame.time or 0.0


def _pick(container: InputContainer, stream: VideoStream, sampling: Sampling, duration_s: float, total: int) -> _Picked:
    if sampling.sampling == "index" or total <= sampling.frames:
        wanted = wanted_indexes(total, sampling.frames)
        return _by_index(container, stream, wanted)
    span_s = duration_s if sampling.sampling == "midpoints" else duration_s * (total - 1) / total
    start = _start_s(stream)
    return _by_time(container, stream, [start + t for t in wanted_times(span_s, sampling.frames, sampling.sampling)])


def _by_index(container: InputContainer, stream: VideoStream, wanted: list[int]) -> _Picked:
    numbers = set(wanted)
    frames = []
    try:
        for number, frame in enumerate(container.decode(stream)):
            if number in numbers:
                frames.append(frame)
            if number >= wanted[-1]:
                break
    except av.error.FFmpegError:
        pass
    # A container may promise a frame or two more than it holds; half of them missing is a broken file.
    return _Picked(frames, len(wanted), broke=len(frames) < len(wanted) - 1)


def _by_time(container: InputContainer, stream: VideoStream, wanted: list[float]) -> _Picked:
    """The frame on screen at each wanted time: the last one that begins at or before it."""
    keyframes = _keyframe_times(stream)
    frames: list[VideoFrame] = []
    before: VideoFrame | None = None
    left = list(wanted)
    broke = False
    decoded = container.decode(stream)
    while left:
        try:
            frame = next(decoded)
        except StopIteration:
            break
        except av.error.FFmpegError:
            broke = True
            break
        if before is not None and _time(frame) <= _time(before):
            continue
        covered = False
        while left and left[0] < _time(frame):
            covered = True
            left.pop(0)
        if covered:
            frames.append(before if before is not None else frame)
            if left and (target := _worth_a_jump(keyframes, _time(frame), left[0])) is not None:
                container.seek(int(target / (stream.time_base or 1)), stream=stream, backward=True)
                decoded = container.decode(stream)
        before = frame
    if left and before is not None and not broke and (not frames or frames[-1] is not before):
        frames.append(before)  # the last frame stays on screen until the end
    return _Picked(frames, len(wanted), broke)


def _keyframe_times(stream: VideoStream) -> list[float]:
    if stream.time_base is None:
        return []
    return sorted(float(e.timestamp * stream.time_base) for e in stream.index_entries if e.is_keyframe)


def _worth_a_jump(keyframes: list[float], now: float, target: float) -> float | None:
    """The last keyframe at or before `target`, where it lies at least a second after `now`."""
    ahead = [k for k in keyframes if now + 1.0 < k <= target]
    return ahead[-1] if ahead else None


def _to_rgb(frame: VideoFrame, stream: VideoStream, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    image = Image.fromarray(_upright(frame, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _upright(frame: VideoFrame, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(pixels, k=frame.rotation // 90))


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
