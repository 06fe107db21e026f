"""Selects the frames of a clip to show to the model. Pure arithmetic on times, counts and spans."""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ItemError
from ..types import SPAN, SamplingRule
from .settings import DecodeSettings

# Containers round times to their time base (Matroska: 1 ms). A frame that starts up to this much after a requested time
# is the frame at that time.
TIMESTAMP_TOLERANCE_S = 0.0015
MAX_RATE_DIFFERENCE = 1.0  # frames per second; a trainer accepts a file this close to its rate, such as 24 for 25


@dataclass(frozen=True, slots=True)
class Timeline:
    """Frame times of a clip, in seconds of presentation time. The first frame may start at any time."""

    times: Sequence[float]  # start of each frame, in rising order
    end: float  # end of the last frame; for a truncated file, the end that the container declares
    keyframes: Sequence[float] = ()  # start times of frames that a decoder can start at
    is_truncated: bool = False  # the file ends before the declared end
    ignores_timestamps: bool = False  # the decoder's times are wrong: its frames, in output order, have these `times`
    shifts: Sequence[float] = (0.0,)  # seconds added to the timestamps of each of several joined recordings

    @property
    def start(self) -> float:
        return self.times[0]

    @property
    def duration(self) -> float:
        return self.end - self.start


def select_frames(timeline: Timeline, settings: DecodeSettings) -> tuple[list[int], int]:
    """Return (indexes of the frames to show, number of requested times in the missing part of a truncated file).

    Raises `ItemError` if the span starts after the end of the clip.
    """
    begin, until = parse_span(settings.span, timeline)
    begin, until = timeline.start + begin, timeline.start + until
    first = max(0, bisect_right(timeline.times, begin + TIMESTAMP_TOLERANCE_S) - 1)  # on screen when the span starts
    last = max(first + 1, bisect_left(timeline.times, until - TIMESTAMP_TOLERANCE_S))
    inside = timeline.times[first:last]
    n = settings.frames
    if settings.fps is not None:
        n = min(n, max(1, round((until - begin) * settings.fps)))
    truncated = timeline.is_truncated and timeline.times[-1] < until
    if settings.sampling == "index" or (len(inside) <= n and not truncated):
        return [first + i for i in sample_indexes(len(inside), n)], 0
    # `ends` includes the last frame, so its last time is the start of that frame.
    target = until if settings.sampling == "midpoints" or truncated else inside[-1]
    moments = [begin + t for t in sample_times(target - begin, n, settings.sampling)]
    available = [m for m in moments if not truncated or m <= timeline.times[-1] + TIMESTAMP_TOLERANCE_S]
    indexes = frames_at_times(timeline.times, [m + TIMESTAMP_TOLERANCE_S for m in available])
    return indexes, len(moments) - len(available)


def parse_span(span: str, timeline: Timeline) -> tuple[float, float]:
    """Return the start and end of a span, in seconds from the start of the clip.

    # of 10 s:  whole -> 0, 10    head:4 -> 0, 4    middle:4 -> 3, 7    2-6.5 -> 2, 6.5    head:60 -> 0, 10
    # at 24 a second:  head:48f -> 0, 2    head:48f@16 -> 0, 3    head:2,4,60 -> 0, 4    head:48f@30 -> 0, 10
    """
    match = re.fullmatch(SPAN, span)
    if match is None:
        raise ValueError(f"invalid span: {span!r}")
    duration_s = timeline.duration
    if span == "whole":
        return 0.0, duration_s
    if match["part"]:
        length = longest_that_fits(match["lengths"], timeline) or duration_s
        return (0.0, length) if match["part"] == "head" else ((duration_s - length) / 2, (duration_s + length) / 2)
    begin, end = float(match["start"]), float(match["end"])
    if begin >= min(end, duration_s):
        raise ItemError(f"--span {span} is outside this clip of {duration_s:.2f} s: choose an earlier span")
    return begin, min(end, duration_s)


def longest_that_fits(lengths: str, timeline: Timeline) -> float | None:
    """Return the longest of the lengths that the clip holds, in seconds; None if it is shorter than all of them.

    # 49f,81f, of 60 frames at 24 a second -> 49 / 24
    """
    seconds = [_length_s(length, timeline) for length in lengths.split(",")]
    fitting = [length for length in seconds if length <= timeline.duration + TIMESTAMP_TOLERANCE_S]
    return min(max(fitting), timeline.duration) if fitting else None


def clip_length_flags(timeline: Timeline, settings: DecodeSettings) -> tuple[str, ...]:
    """Return `too_short_for_trainer` for a clip that is shorter than what the trainer keeps."""
    is_short = bool(settings.min_lengths) and longest_that_fits(settings.min_lengths, timeline) is None
    return ("too_short_for_trainer",) * is_short


def _length_s(length: str, timeline: Timeline) -> float:
    """# 4.5 -> 4.5      of a file at 24 a second: 48f -> 2, 48f@16 -> 3, 48f@30 -> inf: too few frames"""
    number, is_frames, rate = re.fullmatch(r"([\d.]+)(f?)@?(.*)", length).groups()  # type: ignore[union-attr]  # by SPAN
    if not is_frames:
        return float(number)
    frames, total = int(float(number)), len(timeline.times)
    if frames > total or (rate and total < (float(rate) - MAX_RATE_DIFFERENCE) * timeline.duration):
        return math.inf
    of_file = timeline.times[frames] - timeline.start if frames < total else timeline.duration
    return max(of_file, frames / float(rate)) if rate else of_file


def sample_times(duration_s: float, n: int, rule: SamplingRule) -> list[float]:
    """Return `n` rising times in 0..duration_s for the rule "midpoints" or "ends".

    # 12 s, 3, midpoints -> 2, 6, 10        12 s, 3, ends -> 0, 6, 12       12 s, 1, ends -> 0
    """
    if rule == "midpoints":
        return [(i + 0.5) * duration_s / n for i in range(n)]
    return [i * duration_s / max(1, n - 1) for i in range(n)]


def sample_indexes(total: int, n: int) -> list[int]:
    """Return frames i * total // n, the rule of the original scripts; all frames if there are at most n.

    # 10 frames, 4 -> 0, 2, 5, 7            3 frames, 4 -> 0, 1, 2
    """
    return list(range(total)) if total <= n else [i * total // n for i in range(n)]


def frames_at_times(frame_times_s: Sequence[float], wanted_s: Sequence[float]) -> list[int]:
    """Return the indexes of the frames on screen at the requested times, without duplicates.

    # frames at 0, 0.5, 2; wanted 0.4, 0.6, 1.9 -> 0, 1
    """
    return sorted({max(0, bisect_right(frame_times_s, t) - 1) for t in wanted_s})
