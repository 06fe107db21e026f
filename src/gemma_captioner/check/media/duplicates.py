"""Finds copies among measured files: exact ones by their bytes, near ones by perceptual hashes and small pictures.

A hash proposes pairs; a comparison of the pictures, 32 x 32 levels of gray, accepts them. So the number of false pairs
does not grow with the square of the number of files, as with hashes alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .record import CENTERS, THUMBNAIL, Measurement

_MAX_DISTANCE = 16  # bits of 64
_MIN_COARSE, _MIN_CORRELATION = 0.85, 0.95  # of two pictures, in these sizes:
_COARSE, _FINE = THUMBNAIL, 3 * THUMBNAIL
_MIN_DEVIATION = 4.0  # levels; flatter pictures are all alike
_MAX_LENGTH_RATIO = 1.1  # of two clips
_ROWS_AT_ONCE = 512
_CROPS = (
    1.0,
    0.975,
    0.95,
    0.925,
    0.9,
    0.875,
    0.85,
    0.825,
    0.8,
    0.775,
)  # parts of the width and height of a picture that a copy shows

Picture: TypeAlias = npt.NDArray[np.float32]


def exact_copies(paths: Iterable[str]) -> list[list[str]]:
    """Groups of files with the same bytes. Reads only files whose size another file has."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):  # it was removed since it was measured
            by_size[Path(path).stat().st_size].append(path)
    groups: dict[bytes, list[str]] = defaultdict(list)
    for same_size in by_size.values():
        if len(same_size) > 1:
            for path in same_size:
                with suppress(OSError), open(path, "rb") as file:
                    groups[hashlib.file_digest(file, "blake2b").digest()].append(path)
    return [group for group in groups.values() if len(group) > 1]


def near_copies(measured: Mapping[str, Measurement]) -> Iterator[tuple[str, str]]:
    """Pairs of files that show nearly the same: recompressed, resized, slightly cropped or changed in brightness."""
    paths = [path for path, found in measured.items() if found.hashes]
    for first, second in _proposed([measured[path] for path in paths]):
        if _is_copy(measured[paths[first]], measured[paths[second]]):
            yield paths[first], paths[second]


def _proposed(found: Sequence[Measurement]) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) of which the middle frame of one, whole or cropped, has about the hash of the other's, whole."""
    if not found:
        return
    hashes = np.array([_middle(each.hashes) for each in found], np.uint64)  # [files, CENTERS]
    whole = hashes[:, 0]
    for start in range(0, len(found), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        near: npt.NDArray[np.bool_] = np.zeros((len(whole[rows]), len(whole)), np.bool_)
        for center in range(len(CENTERS)):
            near |= np.bitwise_count(hashes[rows, center, None] ^ whole[None]) <= _MAX_DISTANCE
            near |= np.bitwise_count(whole[rows, None] ^ hashes[None, :, center]) <= _MAX_DISTANCE
        for row, column in zip(*np.nonzero(near), strict=True):
            if start + row < column:
                yield start + int(row), int(column)


def _is_copy(first: Measurement, second: Measurement) -> bool:
    if first.kind != second.kind or len(first.thumbnails) != len(second.thumbnails):
        return False
    short, long = sorted((first.seconds, second.seconds))
    if long > short * _MAX_LENGTH_RATIO:
        return False
    return all(
        _same_picture(_picture(one), _picture(other))
        for one, other in zip(first.thumbnails, second.thumbnails, strict=True)
    )


def _same_picture(first: Picture, second: Picture) -> bool:
    """Whether one picture, or a part of it, looks like the whole other one."""
    if min(first.std(), second.std()) < _MIN_DEVIATION:
        return False
    return any(
        _best_match(picture, part, _COARSE) >= _MIN_COARSE and _best_match(picture, part, _FINE) >= _MIN_CORRELATION
        for picture, part in ((first, second), (second, first))
    )


def _best_match(picture: Picture, part: Picture, side: int) -> float:
    """The correlation of `part` with the place in `picture` where it fits best, both enlarged to `side`."""
    picture = np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
    return max(_match(picture, part, round(crop * side)) for crop in _CROPS)


def _match(picture: Picture, part: Picture, side: int) -> float:
    template = cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC)
    return float(cv2.matchTemplate(picture, template, cv2.TM_CCOEFF_NORMED).max())


def _middle(samples: Sequence[Sequence[int]]) -> Sequence[int]:
    return samples[len(samples) // 2]


def _picture(thumbnail: str) -> Picture:
    levels = np.frombuffer(bytes.fromhex(thumbnail), np.uint8)
    return levels.reshape(THUMBNAIL, THUMBNAIL).astype(np.float32)
