"""How blurred a picture is. A pure function of gray levels, uint8 [height, width].

The thresholds were set on one half of a collection of photographs and counted on the other: docs/decisions.md.
"""

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ...types import Pixels

_Tiles: TypeAlias = npt.NDArray[np.float32]

_TILES = 8  # the picture is divided into 8 x 8 tiles
_REACH = 4  # a pixel is blurred with as many on each side
_MIN_CONTRAST = 0.4  # mean difference of neighbors, in levels; flatter tiles tell nothing about blur


def blur(gray: Pixels) -> float:
    """How blurred the sharpest tiles are, from 0.0 (sharp) to 1.0.

    Blurring a sharp picture takes away most of its differences between neighbors; blurring a blurred one does not.
    Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric" (2007).
    The sharpest tiles count, because the background of a good photograph is often blurred.
    """
    if min(gray.shape) < 2:
        return 0.0
    turned = np.asarray(cv2.transpose(gray), np.uint8)
    blurs, contrasts = zip(_tile_blur(gray), _tile_blur(turned), strict=True)
    worst, contrast = np.maximum(blurs[0], blurs[1].T), np.minimum(contrasts[0], contrasts[1].T)
    textured = worst[contrast >= max(_MIN_CONTRAST, float(np.percentile(contrast, 60)))]
    return float(np.percentile(textured, 10)) if textured.size else 0.0


def _tile_blur(gray: Pixels) -> tuple[_Tiles, _Tiles]:
    """For each tile: what a blur along the rows leaves of the differences between columns, and their mean."""
    width = 2 * _REACH + 1
    padded = cv2.copyMakeBorder(gray, 0, 0, _REACH, _REACH, cv2.BORDER_REFLECT_101)
    before = cv2.absdiff(gray[:, 1:], gray[:, :-1])
    # Two neighboring windows differ by the pixel that leaves and the one that enters.
    after = cv2.absdiff(padded[:, width:], padded[:, :-width])
    lost = cv2.addWeighted(before, width, after, -1, 0, dtype=cv2.CV_16U)  # below 0 becomes 0
    total = _tile_means(before)
    return np.asarray(1 - _tile_means(lost) / width / np.maximum(total, 1e-6), np.float32), total


def _tile_means(values: cv2.typing.MatLike) -> _Tiles:
    """float32 [8, 8]. OpenCV sums rows ten times as fast as NumPy does, and as its own resize to so few pixels."""
    rows, columns = (np.arange(_TILES + 1) * side // _TILES for side in values.shape)
    heights, widths = (np.maximum(np.diff(edges), 1) for edges in (rows, columns))
    bands = [values[top : top + height] for top, height in zip(rows, heights, strict=False)]
    sums = np.concatenate([cv2.reduce(band, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32F) for band in bands])
    return np.asarray(np.add.reduceat(sums, columns[:-1], axis=1) / np.outer(heights, widths), np.float32)
