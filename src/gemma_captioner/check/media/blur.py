"""How blurred a picture is. A pure function of gray levels, float32 [height, width].

The thresholds were set on one half of a collection of photographs and counted on the other: docs/decisions.md.
"""

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Gray: TypeAlias = npt.NDArray[np.float32]

_TILES = 8  # the picture is divided into 8 x 8 tiles
_MIN_CONTRAST = 0.4  # mean difference of neighbors, in levels; flatter tiles tell nothing about blur


def blur(gray: Gray) -> float:
    """How blurred the sharpest tiles are, from 0.0 (sharp) to 1.0.

    Blurring a sharp picture takes away most of its differences between neighbors; blurring a blurred one does not.
    Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric" (2007).
    The sharpest tiles count, because the background of a good photograph is often blurred.
    """
    if min(gray.shape) < 2:
        return 0.0
    blurs, contrasts = zip(_tile_blur(gray), _tile_blur(gray.T), strict=True)
    worst, contrast = np.maximum(blurs[0], blurs[1].T), np.minimum(contrasts[0], contrasts[1].T)
    textured = worst[contrast >= max(_MIN_CONTRAST, float(np.percentile(contrast, 60)))]
    return float(np.percentile(textured, 10)) if textured.size else 0.0


def _tile_blur(gray: Gray) -> tuple[Gray, Gray]:
    """For each tile: what a blur along the rows leaves of the differences between columns, and their mean."""
    gray = np.ascontiguousarray(gray)
    before = np.asarray(cv2.absdiff(gray[:, 1:], gray[:, :-1]), np.float32)
    blurred = cv2.blur(gray, (9, 1))
    lost = np.maximum(before - cv2.absdiff(blurred[:, 1:], blurred[:, :-1]), 0)
    total = _tile_means(before)
    return np.asarray(1 - _tile_means(np.asarray(lost, np.float32)) / np.maximum(total, 1e-6), np.float32), total


def _tile_means(values: Gray) -> Gray:
    """float32 [8, 8]. OpenCV's resize to so few pixels takes ten times as long."""
    rows, columns = (np.arange(_TILES) * side // _TILES for side in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights, widths = (
        np.maximum(np.diff(at, append=side), 1) for at, side in zip((rows, columns), values.shape, strict=True)
    )
    return np.asarray(sums / np.outer(heights, widths), np.float32)
