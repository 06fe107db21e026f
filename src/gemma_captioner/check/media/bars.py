"""Finds bars at the edges of pictures: black ones, and ones of one color or with a blurred copy. Pure functions.

The thresholds were set on one half of a collection of photographs and counted on the other: docs/decisions.md.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Gray: TypeAlias = npt.NDArray[np.float32]  # levels 0 to 255, [height, width]
Bars = tuple[float, float]  # the parts of the height, or of the width, that bars take: at its start, at its end

NONE: Bars = (0.0, 0.0)
_MIN_BAR, _MAX_BAR = 0.015, 0.45  # parts of the picture
_MAX_BLACK, _MAX_DEVIATION = 48.0, 3.0  # levels
_MIN_STEP = 6.0  # levels that differ where a bar ends
_MIN_EDGE, _MIN_EDGE_OF_EQUAL = 0.5, 0.25  # shares of a bar's length that differ; bars of equal width need less
_MIN_BLURRED_BAR, _MIN_BLURRED_EDGE = 0.04, 0.3
_CLEAR_PEAK, _CLEAR_EDGE, _PLAIN_LEVELS = 20.0, 0.85, (40.0, 215.0)  # of bars that need not copy the picture
_MIN_PEAK = 4.0  # how much steeper the edge of a blurred bar is than the bar
_MAX_DETAIL = 0.35  # the fine detail of a blurred bar, relative to that between the bars
_MIN_VARIATION, _MIN_VARIATION_OF_COPY = 4.0, 0.7  # levels along a blurred bar; a plain ground has less
_MIN_CORRELATION = 0.6  # of a blurred bar with the picture
_MIN_VARIATION_OF_ONE, _MIN_CORRELATION_OF_ONE = 0.4, 0.8  # of one bar, if the other one is plain
_ZOOMS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)  # of the blurred copy


def on_both_axes(find: Callable[[Gray], Bars], frames: Sequence[Gray]) -> tuple[Bars, Bars]:
    """(bars above and below, bars left and right) that at least three of four frames have."""
    above = sorted(find(frame) for frame in frames)
    left = sorted(find(np.ascontiguousarray(frame.T)) for frame in frames)
    return above[len(frames) // 4], left[len(frames) // 4]


def black(gray: Gray) -> Bars:
    """The bars above and below: dark, even, ended by a straight line, and about equal."""
    height = gray.shape[0]
    top, bottom = _black_rows(gray), _black_rows(gray[::-1])
    low, high = sorted((top, bottom))
    if not max(3, _MIN_BAR * height) <= low <= high <= _MAX_BAR * height or high - low > max(2, 0.3 * high):
        return NONE
    share = _MIN_EDGE_OF_EQUAL if high - low <= max(2, 0.03 * high) else _MIN_EDGE
    if min(_edge_share(gray, top), _edge_share(gray[::-1], bottom)) < share:
        return NONE
    return top / height, bottom / height


def _black_rows(gray: Gray) -> int:
    """The number of rows at the top that are as dark and even as the first."""
    level = float(np.median(gray[0]))
    if level > _MAX_BLACK:
        return 0
    limit = round(gray.shape[0] * _MAX_BAR) + 1
    is_even = np.abs(gray[:limit] - level).mean(axis=1) <= _MAX_DEVIATION
    return limit if is_even.all() else int(np.argmin(is_even))


def _edge_share(gray: Gray, rows: int) -> float:
    """The share of the columns whose level differs between a bar of so many rows and what follows it."""
    bar, inside = gray[max(0, rows - 4) : rows].mean(axis=0), gray[rows + 1 : rows + 6].mean(axis=0)
    return float((np.abs(inside - bar) >= _MIN_STEP).mean())


def blurred(gray: Gray) -> Bars:
    """The bars above and below that show a blurred, usually enlarged copy of the picture, or one color."""
    height = gray.shape[0]
    first, last = max(6, int(_MIN_BLURRED_BAR * height)), int(_MAX_BAR * height)
    if last - first < 8:
        return NONE
    steepness = cv2.absdiff(gray[2:], gray[:-2]).mean(axis=1)  # of row i + 1
    mirrored = steepness[::-1]
    both = np.minimum(steepness, cv2.dilate(mirrored[None], np.ones((1, 5)))[0])  # bars of equal width
    rows = np.arange(first, last)
    outside = np.maximum(np.cumsum(steepness)[rows - 5], np.cumsum(mirrored)[rows - 5]) / (rows - 4)
    peaks = both[rows] / (outside + 0.5)
    top = int(rows[peaks.argmax()]) + 1
    around = [row for row in range(height - 4 - top, height + 3 - top) if row < height - 6]
    if peaks.max() < _MIN_PEAK or not around:
        return NONE
    bottom = height - 1 - max(around, key=lambda row: float(steepness[row - 1]))
    edge = min(_edge_share(gray, top), _edge_share(gray[::-1], bottom))
    if edge < _MIN_BLURRED_EDGE:
        return NONE
    detail = cv2.absdiff(gray, cv2.blur(gray, (5, 5))).mean(axis=1)
    inside = float(detail[top + 4 : height - bottom - 4].mean())
    if (
        max(np.percentile(detail[: top - 3], 95), np.percentile(detail[height - bottom + 3 :], 95))
        > _MAX_DETAIL * inside
    ):
        return NONE
    is_clear = peaks.max() >= _CLEAR_PEAK and edge >= _CLEAR_EDGE and _have_plain_levels(gray, top, bottom)
    return (top / height, bottom / height) if is_clear or _show_a_copy(gray, top, bottom) else NONE


def _have_plain_levels(gray: Gray, top: int, bottom: int) -> bool:
    """Whether the bars are neither black nor as bright as the ground of a product."""
    levels = float(gray[: top - 3].mean()), float(gray[gray.shape[0] - bottom + 3 :].mean())
    return _PLAIN_LEVELS[0] <= min(levels) <= max(levels) <= _PLAIN_LEVELS[1]


def _show_a_copy(gray: Gray, top: int, bottom: int) -> bool:
    """Whether the bars vary like the picture between them. A plain ground, as behind a product, does not."""
    found = _likeness(gray, top), _likeness(gray[::-1], bottom)
    if any(variation >= _MIN_VARIATION_OF_ONE and alike >= _MIN_CORRELATION_OF_ONE for variation, alike in found):
        return True  # the picture can be plain at the other side
    return all(
        variation >= _MIN_VARIATION or (variation >= _MIN_VARIATION_OF_COPY and alike >= _MIN_CORRELATION)
        for variation, alike in found
    )


def _likeness(gray: Gray, rows: int) -> tuple[float, float]:
    """(levels that the bar at the top varies along its length, its correlation with the picture below it)."""
    bar, picture = gray[: rows - 3], gray[rows + 3 : max(rows + 6, (gray.shape[0] - rows) // 2)]
    across = bar.mean(axis=0)
    profile = cv2.GaussianBlur(picture.mean(axis=0)[None], (31, 1), 0)[0]
    places = np.arange(len(across), dtype=np.float32) - len(across) / 2
    copies = (np.interp(places / zoom, places, profile) for zoom in _ZOOMS)
    return float(bar.std(axis=1).mean()), max(_correlation(across, copy) for copy in copies)


def _correlation(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    deviations = float(first.std() * second.std())
    return float(((first - first.mean()) * (second - second.mean())).mean()) / deviations if deviations > 1e-3 else 0.0
