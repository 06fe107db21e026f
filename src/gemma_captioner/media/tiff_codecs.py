"""Decodes what tifffile leaves to imagecodecs, a wheel of 26 MB: LZW, WebP, samples of 2 to 24 bits, float predictors.

TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf. Float predictor: Adobe Technical Note 3.
"""

import struct
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from ..types import Pixels

_LZW, _WEBP = 5, 50001  # compressions
_FILES = (33003, 33005, 34712, 34933, _WEBP)  # each strip or tile is a file: JPEG 2000, PNG, WebP
_FLOAT_PREDICTOR = 3


def install() -> None:
    """Give tifffile the codecs of this module."""
    library: Any = tifffile
    library.TIFF.DECOMPRESSORS._codecs.update({_LZW: _decode_lzw, **dict.fromkeys(_FILES, _decode_file)})
    library.TIFF.UNPREDICTORS._codecs[_FLOAT_PREDICTOR] = _undo_float_predictor
    library.tifffile.imagecodecs.packints_decode = _unpack_integers
    library.tifffile.imagecodecs.webp_decode = _decode_file  # for WebP with alpha


def _decode_lzw(data: bytes, out: int) -> bytes:
    """Decode one strip or tile of `out` bytes with libtiff, as if it were a gray image of one row."""
    tags = {256: out, 257: 1, 258: 8, 259: _LZW, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    strip = data + bytes(len(data) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(strip))
    with Image.open(BytesIO(head + strip + struct.pack("<H", len(tags)) + entries + bytes(4))) as image:
        return image.tobytes()


def _decode_file(data: bytes, out: object = None, hasalpha: bool = False) -> Pixels:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA") if hasalpha else image)


def _undo_float_predictor(values: npt.NDArray[Any], axis: int, out: object = None) -> npt.NDArray[Any]:
    """values: [..., width, samples], as read. Each row holds the differences of the first bytes, of the second, ..."""
    *_, width, samples = values.shape
    size = values.dtype.itemsize
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(-1, size * width, samples)
    planes = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(-1, size, width * samples)
    whole = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")
    return whole.reshape(values.shape).astype(f"=f{size}")


def _unpack_integers(data: bytes, dtype: npt.DTypeLike, bits: int, runlen: int = 0) -> npt.NDArray[Any]:
    """Unpack integers of 1 to 24 bits, the highest bit first. Rows of `runlen` integers begin at a whole byte.

    # b"\\x12\\x34\\x56", 12 bits -> 0x123, 0x456
    """
    if not 1 <= bits <= 24:
        raise ValueError(f"samples of {bits} bits")
    stride = (runlen * bits + 7) // 8
    rows = np.frombuffer(data, np.uint8)[: len(data) // stride * stride].reshape(-1, stride)
    rows = np.pad(rows, ((0, 0), (0, 3)))
    first, offset = np.divmod(np.arange(runlen) * bits, 8)
    window = sum(rows[:, first + i].astype(np.uint32) << np.uint32(24 - 8 * i) for i in range(4))
    values = window >> (32 - bits - offset).astype(np.uint32) & np.uint32((1 << bits) - 1)
    return values.ravel().astype(dtype)
