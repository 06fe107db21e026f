"""Which frames of a clip to show: pure arithmetic on times in seconds, counts and spans."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ItemError
from ..types import SPAN, SamplingRule
from .settings import DecodeSettings

# Containers round times to their time base (Matroska: 1 ms): a frame that begins this soon after a wanted moment
# is the frame of that moment.
ROUNDING_S = 0.0015


@dataclass(frozen=True, slots=True)
class Timeline:
    """When things are in a clip, in seconds of presentation time, wherever the first frame begins.

    times: each frame's beginning, rising. end: when the last frame ends; what the container declares where the file
    breaks off before that. keyframes: beginnings of frames that a decoder can start at. by_place: what the decoder says
    of times is wrong, and its frames, in the order in which they come, have these.
    """

    times: Sequence[float]
    end: float
    keyframes: Sequence[float] = ()
    breaks_off: bool = False
    by_place: bool = False

    @property
    def start(self) -> float:
        return self.times[0]

    @property
    def duration(self) -> float:
        return self.end - self.start


def wanted_frames(timeline: Timeline, settings: DecodeSettings) -> tuple[list[int], int]:
    """(indexes of the frames to show, number of wanted moments that lie where the file has broken off).

    Raises `ItemError` for a span that begins after the clip's end.
    """
    begin, until = span_of(settings.span, timeline.duration)
    begin, until = timeline.start + begin, timeline.start + until
    first = max(0, bisect_right(timeline.times, begin + ROUNDING_S) - 1)  # on screen as the span begins
    last = max(first + 1, bisect_left(timeline.times, until - ROUNDING_S))
    inside = timeline.times[first:last]
    n = settings.frames
    if settings.fps is not None:
        n = min(n, max(1, round((until - begin) * settings.fps)))
    lacking = timeline.breaks_off and timeline.times[-1] < until
    if settings.sampling == "index" or (len(inside) <= n and not lacking):
        return [first + i for i in wanted_indexes(len(inside), n)], 0
    # `ends` shows the last frame, so that it aims at that frame's beginning.
    target = until if settings.sampling == "midpoints" or lacking else inside[-1]
    moments = [begin + t for t in wanted_times(target - begin, n, settings.sampling)]
    there = [m for m in moments if not lacking or m <= timeline.times[-1] + ROUNDING_S]
    indexes = covering(timeline.times, [m + ROUNDING_S for m in there])
    return indexes, len(moments) - len(there)


def span_of(span: str, duration_s: float) -> tuple[float, float]:
    """Beginning and end of a span within a clip, in seconds from its start.

    # of 10 s:  whole -> 0, 10    head:4 -> 0, 4    middle:4 -> 3, 7    2-6.5 -> 2, 6.5    head:60 -> 0, 10
    """
    parts = re.fullmatch(SPAN, span)
    if parts is None:
        raise ValueError(f"no span: {span!r}")
    if span == "whole":
        return 0.0, duration_s
    if parts["head"]:
        return 0.0, min(duration_s, float(parts["head"]))
    if parts["middle"]:
        length = min(duration_s, float(parts["middle"]))
        return (duration_s - length) / 2, (duration_s + length) / 2
    begin, end = float(parts["start"]), float(parts["end"])
    if begin >= min(end, duration_s):
        raise ItemError(f"--span {span} lies outside this clip of {duration_s:.2f} s: give another span")
    return begin, min(end, duration_s)


def wanted_times(duration_s: float, n: int, rule: SamplingRule) -> list[float]:
    """`n` rising times in 0..duration_s for the rules that go by time.

    # 12 s, 3, midpoints -> 2, 6, 10        12 s, 3, ends -> 0, 6, 12       12 s, 1, ends -> 0
    """
    if rule == "midpoints":
        return [(i + 0.5) * duration_s / n for i in range(n)]
    return [i * duration_s / max(1, n - 1) for i in range(n)]


def wanted_indexes(total: int, n: int) -> list[int]:
    """The original scripts' rule: frame int(i * total / n), or all frames where there are no more than n.

    # 10 frames, 4 -> 0, 2, 5, 7            3 frames, 4 -> 0, 1, 2
    """
    return list(range(total)) if total <= n else [i * total // n for i in range(n)]


def covering(frame_times_s: Sequence[float], wanted_s: Sequence[float]) -> list[int]:
    """Indexes of the frames on screen at the wanted times, each once: the last that begins at or before each.

    # frames at 0, 0.5, 2; wanted 0.4, 0.6, 1.9 -> 0, 1
    """
    return sorted({max(0, bisect_right(frame_times_s, t) - 1) for t in wanted_s})
