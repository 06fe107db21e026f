"""Which moments of a clip to show: pure arithmetic on durations, counts and times in seconds."""

from bisect import bisect_right
from collections.abc import Sequence

from ..settings import SamplingRule


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
