"""Splits long videos into clips at scene cuts, with a minimum and a maximum length.

A segment between keyframes is copied without re-encoding. Other segments are re-encoded, visually lossless, as upright
8-bit sRGB. Audio is dropped. A clip gets its final name only when it is complete.
"""

import csv
import glob
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import av.error
import av.logging

from ..dataset.containment import check_store_is_contained
from ..dataset.journal import fingerprint
from ..dataset.sidecar import DOT_FOLDER, storage_error
from ..errors import ItemError, StartError
from ..media.container import open_container
from ..media.encode import encode
from ..media.sampling import TIMESTAMP_TOLERANCE_S, Timeline
from ..media.settings import DecodeSettings
from ..media.video import decode_clip, read_timeline, video_stream
from ..pages import jpeg_data_url, render_page
from ..storage.atomic import atomic_write
from .settings import SplitSettings

_COPYABLE_CODECS = {"h264", "hevc", "av1", "vp9", "mpeg4"}  # codecs that an mp4 file supports
_DETECTORS = {"adaptive": "AdaptiveDetector", "content": "ContentDetector", "none": None}  # PySceneDetect classes
_CRF = "14"
_THUMBNAIL_SIZE = (256, 144)


@dataclass(frozen=True, slots=True)
class Segment:
    """start, end: seconds from the video's first frame. rate: the frame rate of the clip; 0 for the video's own."""

    number: int
    start: float
    end: float
    rate: float = 0


def split(video: Path, output: Path, settings: SplitSettings) -> Iterator[Path]:
    """Split one video and yield the path of each finished clip. Existing clips are not written again.

    Also writes a table of the cuts (CSV) and a contact sheet (HTML) to `.gemma-captioner/split/` in `output`.

    Raises:
        ItemError: the video cannot be read or split.
        StartError: PySceneDetect is not installed, or nothing can be written.
    """
    check_store_is_contained(output)
    records = output / DOT_FOLDER / "split"
    temporary = output / DOT_FOLDER / "tmp"
    if not video.is_file():
        raise ItemError("no such file: check the spelling")
    try:
        records.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(parents=True, exist_ok=True)
        timeline = read_timeline(video)
        table = records / f"{video.stem}.csv"
        cut = settings.training_clips
        lengths = f"{settings.min} {settings.max}" if cut is None else f"{cut[0]} frames at {cut[1]:g}"
        key = f"{fingerprint(video)} {settings.detector} {lengths}"
        scenes = _cached_scenes(table, key)
        if scenes is None:
            if any(output.glob(f"{glob.escape(video.stem)}-[0-9][0-9][0-9][0-9].mp4")):
                raise ItemError(
                    f"{output} has clips from another split of {video.stem}: remove them, or choose another --output"
                )
            scenes = _detect_scenes(video, timeline, _DETECTORS[settings.detector])
            _write_table(table, scenes, key)
        clips = []
        segments = (
            split_scenes(scenes, settings.min_seconds, settings.max_seconds)
            if cut is None
            else split_for_training(scenes, timeline, *cut)
        )
        for segment in segments:
            clip = output / f"{video.stem}-{segment.number:04d}.mp4"
            if not (clip.exists() and clip.stat().st_size):
                with atomic_write(clip, temporary / f"{os.getpid()}-{clip.name}") as unfinished:
                    _write_clip(video, unfinished, segment, timeline)
            clips.append(clip)
            yield clip
        _write_contact_sheet(records / f"{video.stem}.html", clips)
    except av.error.FFmpegError as error:
        raise ItemError(f"cannot split this video ({error.strerror}): convert it with another program") from error
    except OSError as error:
        raise storage_error(error, output) from error


def split_scenes(scenes: list[tuple[float, float]], min_s: float, max_s: float) -> list[Segment]:
    """Cut scenes longer than `max_s` into equal parts, and drop parts shorter than `min_s`.

    # scenes 0-12, 12-13 s, min_s 2, max_s 5 -> 0-4, 4-8, 8-12
    """
    segments: list[Segment] = []
    for start, end in scenes:
        count = max(1, math.ceil((end - start) / max_s - 1e-9))
        edges = [start + (end - start) * i / count for i in range(count + 1)]
        for a, b in pairwise(edges):
            if b - a >= min_s - 1e-9:
                segments.append(Segment(len(segments) + 1, a, b))
    return segments


def split_for_training(
    scenes: list[tuple[float, float]], timeline: Timeline, counts: list[int], rate: float
) -> list[Segment]:
    """Cut scenes into clips of exactly so many frames; the longest that fits first. Drop what remains of each scene.

    # a scene of 12 s, [81, 33] frames at 16 a second -> 0-5.0625, 5.0625-10.125; 1.875 s remain, too few for 33 frames
    """
    times = [time - timeline.start for time in timeline.times]
    segments: list[Segment] = []
    for start, end in scenes:
        if rate:
            edges = [start + i / rate for i in range(math.floor((end - start) * rate + 1e-6) + 1)]
        else:
            edges = [time for time in times if start - TIMESTAMP_TOLERANCE_S <= time < end - TIMESTAMP_TOLERANCE_S]
            edges.append(end)
        while (count := next((count for count in counts if count < len(edges)), None)) is not None:
            segments.append(Segment(len(segments) + 1, edges[0], edges[count], rate))
            del edges[:count]
    return segments


def _detect_scenes(video: Path, timeline: Timeline, detector: str | None) -> list[tuple[float, float]]:
    if detector is None:
        return [(0.0, timeline.duration)]
    try:
        import scenedetect
    except ImportError as error:
        raise StartError("split requires PySceneDetect: pip install 'gemma-captioner[scenes]'") from error
    manager = scenedetect.SceneManager()
    manager.add_detector(getattr(scenedetect, detector)())
    manager.detect_scenes(scenedetect.open_video(str(video), backend="pyav"))
    av.logging.set_level(None)  # PySceneDetect enables FFmpeg logging
    cuts = [start.seconds for start, _ in manager.get_scene_list()][1:]
    if timeline.ignores_timestamps:
        cuts = _correct_cut_times(video, timeline, cuts)
    return list(pairwise([0.0, *cuts, timeline.duration]))


def _correct_cut_times(video: Path, timeline: Timeline, cuts: list[float]) -> list[float]:
    """Map cuts from wrong decoder times, which PySceneDetect reports, to the timeline."""
    with open_container(video) as source:
        stream = video_stream(source)
        start = float((stream.start_time or 0) * (stream.time_base or 1))
        decoder_times = [round((frame.time or 0.0) - start, 3) for frame in source.decode(stream)]
    if len(set(decoder_times)) < len(decoder_times):
        raise ItemError(
            "the clock of this video restarts in the middle, so scene cuts cannot be located: "
            "convert it with another program, or use --detector none"
        )
    indexes = {time: index for index, time in enumerate(decoder_times)}
    return sorted(timeline.times[indexes[round(cut, 3)]] - timeline.start for cut in cuts if round(cut, 3) in indexes)


def _cached_scenes(table: Path, key: str) -> list[tuple[float, float]] | None:
    """The scenes that an earlier call found in the same file with the same settings. Detection is the slowest step."""
    try:
        rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
        return [(float(start), float(end)) for start, end, found_by in rows[1:] if found_by == key] or None
    except (OSError, ValueError):
        return None


def _write_table(table: Path, scenes: list[tuple[float, float]], key: str) -> None:
    with atomic_write(table) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("start_s", "end_s", "found in (bytes:time) by (detector, lengths)"))
        writer.writerows((f"{start:.6f}", f"{end:.6f}", key) for start, end in scenes)


def _write_clip(video: Path, target: Path, segment: Segment, timeline: Timeline) -> None:
    start, end = timeline.start + segment.start, timeline.start + segment.end
    if segment.rate:
        encode(video, target, start, end, timeline, crf=_CRF, rate=segment.rate)
        return
    with open_container(video) as source:
        name = video_stream(source).codec_context.name
        can_copy = name in _COPYABLE_CODECS and _between_keyframes(start, end, timeline)
    if not (can_copy and _remux(video, target, start, end, timeline)):
        encode(video, target, start, end, timeline, crf=_CRF)


def _between_keyframes(start: float, end: float, timeline: Timeline) -> bool:
    """Whether the range and the frames after it start at keyframes, so no frame should refer across its edges."""

    def at_keyframe(time: float) -> bool:
        return any(abs(time - keyframe) <= TIMESTAMP_TOLERANCE_S for keyframe in timeline.keyframes)

    return at_keyframe(start) and (end >= timeline.end - TIMESTAMP_TOLERANCE_S or at_keyframe(end))


def _remux(video: Path, target: Path, start: float, end: float, timeline: Timeline) -> bool:
    """Copy the packets of the range. Returns whether the copy has all its frames and they can be decoded.

    It fails if frames refer across the edges (open GOPs), or if packets have no decoding times (Matroska).
    """
    low, high = start - TIMESTAMP_TOLERANCE_S, end - TIMESTAMP_TOLERANCE_S
    expected_frames = sum(low <= time < high for time in timeline.times)
    with open_container(video) as source, av.open(str(target), "w", format="mp4") as clip:
        stream = video_stream(source)
        base = float(stream.time_base or 1)
        first = round(start / base)
        source.seek(first, stream=stream, backward=True)
        copied = clip.add_stream_from_template(stream)
        past_end_keyframe = False  # in decoding order
        for packet in source.demux(stream):
            if packet.pts is None:
                continue
            if packet.dts is None:
                return False
            if packet.dts * base >= high:
                break
            past_end_keyframe = past_end_keyframe or (packet.is_keyframe and packet.pts * base >= high)
            if not low <= packet.pts * base < high:
                continue
            if past_end_keyframe:
                return False
            packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, copied
            clip.mux(packet)
    with open_container(target) as clip:
        return sum(1 for _ in clip.decode(video=0)) == expected_frames


def _write_contact_sheet(path: Path, clips: list[Path]) -> None:
    """Write a page with the middle frame and the name of every clip, for a visual check.

    It is a page, not an image file, because some trainers train on any image in the folder.
    """
    if not clips:
        return
    middles = ((clip.name, decode_clip(clip, _THUMBNAIL_SIZE, DecodeSettings(frames=1)).pixels[0]) for clip in clips)
    thumbnails = [(name, jpeg_data_url(pixels, *_THUMBNAIL_SIZE)) for name, pixels in middles]
    with atomic_write(path) as unfinished:
        unfinished.write_text(render_page("sheet.html", title=path.stem, clips=thumbnails), encoding="utf-8")
