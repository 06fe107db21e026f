"""Takes a JPEG file as it is, without metadata, for an engine that sends files: nothing is lost or encoded again."""

import io
import re
from pathlib import Path

from PIL import Image

from ..storage.filesystem import read_source
from ..types import Size, resized_dimensions
from .header import exif_orientation
from .image_color import is_srgb_profile

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES = (0xC0, 0xC1, 0xC2)  # 8-bit Huffman coding, baseline or progressive; every decoder reads these
_KEPT = (*_FRAMES, 0xC4, 0xDB, 0xDD, _SCAN)  # with the tables of the decoder; no segment of these holds metadata
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"  # without a thumbnail
_ADOBE, _ADOBE_RGB = 0xEE, 0  # the segment with the color transform, and its value for RGB
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # within a scan, FF 00 and restart markers are data


def jpeg_to_send(path: Path, size: Size, scale: float) -> bytes | None:
    """Return the file without metadata if it needs no conversion before a model sees it, else None.

    It must be upright, RGB, in sRGB, and fit: see `EngineSpec.jpeg_scale`. A large file does not fit either.
    """
    data = read_source(path)
    if data[:2] != bytes((0xFF, _START)):
        return None
    with Image.open(io.BytesIO(data)) as file:
        width, height = resized_dimensions(size, *file.size)
        ratio = max(file.width / width, file.height / height)
        if not (ratio <= scale and (scale > 1 or file.size == (width, height))):
            return None
        upright = exif_orientation(file) == 1
        profile = file.info.get("icc_profile")
        is_srgb = not profile or is_srgb_profile(profile)
        if file.format != "JPEG" or file.mode != "RGB" or not upright or not is_srgb:
            return None
    stripped = strip_metadata(data)
    return stripped if stripped is not None and len(stripped) <= width * height else None


def strip_metadata(data: bytes) -> bytes | None:
    """Return only what a decoder needs of a YCbCr JPEG file; None for another kind, or a damaged one.

    EXIF, XMP, IPTC, comments, thumbnails, profiles, and what follows the image are left out.
    """
    kept, at = [bytes((0xFF, _START)), _JFIF], 2
    while (found := _MARKER.match(data, at)) is not None:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at : at + 2 + length]
        if marker == _END:
            return b"".join([*kept, found[0]])
        if len(segment) < 2 + length or length < 2 or marker in _OTHER_FRAMES:
            return None
        if marker in _FRAMES and (segment[4] != 8 or segment[9] != 3 or segment[10::3] == b"RGB"):
            return None
        if marker == _ADOBE and segment[4:9] == b"Adobe" and segment[-1] == _ADOBE_RGB:
            return None
        at += 2 + length
        if marker == _SCAN:
            end = _MARKER.search(data, at)
            if end is None:
                return None
            segment += data[at : end.start()]
            at = end.start()
        if marker in _KEPT:
            kept.append(segment)
    return None
