"""Measures one media file for `check --media`. Runs in a worker process, and judges nothing: rules.py does.

Pictures are measured at no more pixels than most models train on: what is not visible there teaches nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image
from scenedetect import AdaptiveDetector, FrameTimecode

from ...errors import ItemError
from ...media.audio import decode_audio
from ...media.color import frame_to_srgb, upright_size
from ...media.container import open_container
from ...media.decode import or_failed
from ...media.header import read_header
from ...media.images import decode_image
from ...media.sampling import TIMESTAMP_TOLERANCE_S, Timeline, frames_at_times, sample_times
from ...media.settings import DecodeSettings
from ...media.video import container_errors, decode_from, read_timeline, video_stream
from ...types import Failed, MediaItem, PatchBudget, Pixels, resized_dimensions
from . import bars
from .blur import blur
from .record import CENTERS, MAX_SECONDS, THUMBNAIL, Measurement

SAMPLES = 4  # frames of a clip whose pixels are measured
_MAX_PIXELS = 768 * 768
_SMALL = 192  # the longer side of the frames that are searched for cuts and motion
_MIN_RATE, _MIN_FRAMES = 12, 24  # frames per second, and frames, that are searched at least where a clip has them
_PARTS = 24  # motion is measured in 24 x 24 parts of the picture
_HASHED = 32  # the side of the pictures that are hashed
_MIN_STEP = 8.0  # levels; a clip without such a change from frame to frame is not searched for cuts
_MIN_SHOT_FRAMES, _MIN_CUT = 4, 28.0  # the change at a cut, as PySceneDetect measures it
_DARK = 24  # levels; the hue of darker pixels is noise, which PySceneDetect would take for changes
_IMAGES = DecodeSettings(frames=SAMPLES)

cv2.setNumThreads(1)  # parallelism is per file


class _AtMost(PatchBudget):
    """A number of pixels to which larger pictures are reduced."""

    def of(self, width: int, height: int) -> tuple[int, int]:
        return (width, height) if width * height <= self.tokens else PatchBudget.of(self, width, height)


_SIZE = _AtMost(_MAX_PIXELS, 1)


def measure(item: MediaItem) -> Measurement:
    found = or_failed(item, lambda: _measure_clip(item.path) if item.kind == "clip" else _measure_image(item.path))
    return Measurement(error=found.error) if isinstance(found, Failed) else found


def _measure_image(path: Path) -> Measurement:
    frames = decode_image(path, _SIZE, _IMAGES)
    width, height = frames.source_size
    header = read_header(path)
    return Measurement(
        animated=frames.kind == "clip",
        width=width,
        height=height,
        orientation=header.orientation if header else 1,
        seconds=frames.duration_s,
        flags=frames.flags,
        **_measure_pictures(list(frames.pixels)),
    )


def _measure_clip(path: Path) -> Measurement:
    """Decode the first seconds once: each frame in small for cuts and motion, some frames for the rest."""
    with container_errors(path):
        timeline = read_timeline(path)
        read = _first_seconds(timeline)
        moments = [timeline.start + t for t in sample_times(read.duration, SAMPLES, "midpoints")]
        wanted = set(frames_at_times(read.times, [moment + TIMESTAMP_TOLERANCE_S for moment in moments]))
        search = _MotionSearch(read)
        pictures: list[Pixels] = []
        small, large = VideoReformatter(), VideoReformatter()
        size = source_size = (0, 0)
        with open_container(path) as container:
            stream = video_stream(container)
            has_audio = bool(container.streams.audio)
            decoded = decode_from(container, stream, timeline, timeline.start)
            for number, frame in enumerate(_until_broken(decoded, len(read.times))):
                if number == 0:
                    source_size = upright_size(frame, stream.sample_aspect_ratio)
                    size = resized_dimensions(_SIZE, *source_size)
                search.add(frame, small)
                if number in wanted:
                    pictures.append(frame_to_srgb(frame, size, "white", large, bicubic=True))
    if 2 * search.frames < len(read.times):
        raise ItemError(
            f"the video is truncated: {search.frames} of its first {len(read.times)} frames can be decoded. "
            "Copy or download it again"
        )
    flags = ("partial_video",) * (timeline.is_truncated or search.frames < len(read.times))
    if has_audio:
        _, audio_flags = decode_audio(path, timeline, 0.0, read.duration, MAX_SECONDS)
        flags += ("silent",) * ("silent" in audio_flags)
    return Measurement(
        kind="clip",
        width=source_size[0],
        height=source_size[1],
        frames=len(timeline.times),
        seconds=round(timeline.duration, 3),
        flags=flags,
        motion=search.motion,
        cuts=[round(timeline.times[number] - timeline.start, 3) for number in search.cuts()],
        **_measure_pictures(pictures),
    )


def _first_seconds(timeline: Timeline) -> Timeline:
    """The part of a clip that is decoded."""
    end = min(timeline.end, timeline.start + MAX_SECONDS)
    return Timeline([time for time in timeline.times if time < end] or timeline.times[:1], end)


def _until_broken(decoded: Iterator[VideoFrame], count: int) -> Iterator[VideoFrame]:
    """At most `count` frames, up to one that cannot be decoded."""
    with suppress(FFmpegError):
        yield from islice(decoded, count)


class _MotionSearch:
    """Sees the frames of a clip in order, and searches some of them, in small. motion: as in `Measurement`."""

    def __init__(self, read: Timeline) -> None:
        self.frames = 0  # seen
        self.motion = 0.0
        self._every = max(1, int(len(read.times) / max(_MIN_RATE * read.duration, _MIN_FRAMES)))
        self._pictures: list[npt.NDArray[np.uint8]] = []
        self._parts: list[Pixels] = []
        self._largest_step = 0.0  # mean change of the parts from one picture to the next

    def add(self, frame: VideoFrame, reformatter: VideoReformatter) -> None:
        self.frames += 1
        if (self.frames - 1) % self._every:
            return
        scale = _SMALL / max(frame.width, frame.height)
        width, height = (max(16, round(side * scale)) for side in (frame.width, frame.height))
        small = reformatter.reformat(frame, width, height, format="bgr24", interpolation=Interpolation.AREA, threads=1)
        picture = small.to_ndarray()
        parts = _shrink(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8), _PARTS)
        if self._parts:
            self.motion = max(self.motion, cv2.norm(parts, self._parts[0], cv2.NORM_INF))
            self._largest_step = max(self._largest_step, cv2.norm(parts, self._parts[-1], cv2.NORM_L1) / parts.size)
        self._parts.append(parts)
        self._pictures.append(np.asarray(picture, np.uint8))

    def cuts(self) -> list[int]:
        """The numbers of the frames after a cut."""
        if self._largest_step < _MIN_STEP:
            return []
        detector = AdaptiveDetector(min_scene_len=_MIN_SHOT_FRAMES, min_content_val=_MIN_CUT)
        cuts = []
        for number, picture in enumerate(self._pictures):
            bright = cv2.inRange(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), _DARK, 255)
            # The detector counts in frames, so that a variable frame rate does not matter.
            cuts += detector.process_frame(FrameTimecode(number, 1.0), cv2.copyTo(picture, bright))
        return [cut.frame_num * self._every for cut in cuts]


def _measure_pictures(pictures: Sequence[Pixels]) -> dict[str, Any]:
    grays = [np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) for picture in pictures]
    levels = [gray.astype(np.float32) for gray in grays]
    return {
        "hashes": [[_hash(gray, part) for part in CENTERS] for gray in grays],
        "thumbnails": [_shrink(gray, THUMBNAIL).tobytes().hex() for gray in grays],
        "blur": round(min(blur(gray) for gray in grays), 3),
        "black_bars": _rounded(bars.on_both_axes(bars.black, levels)),
        "blurred_bars": _rounded(bars.on_both_axes(bars.blurred, levels)),
    }


def _hash(gray: Pixels, part: float) -> int:
    """The perceptual hash of the center of the picture. Its library reduces to the same size; OpenCV does it faster."""
    height, width = gray.shape
    top, left = round(height * (1 - part) / 2), round(width * (1 - part) / 2)
    center = _shrink(gray[top : height - top, left : width - left], _HASHED)
    return int(str(imagehash.phash(Image.fromarray(center))), 16)


def _shrink(gray: Pixels, side: int) -> Pixels:
    return np.asarray(cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _rounded(found: tuple[bars.Bars, bars.Bars]) -> list[list[float]]:
    return [[round(part, 4) for part in pair] for pair in found]
