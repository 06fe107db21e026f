"""Reads BMP files of any bit depth, bit fields and run lengths, as browsers do; Pillow reads only some of them.

Format: https://learn.microsoft.com/windows/win32/gdi/bitmap-storage, and its OS/2 variants.
"""

import struct

import numpy as np
import numpy.typing as npt
from PIL import Image

_RGB, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG, _ALPHA_BITFIELDS = range(7)  # compression
_RLE24 = _JPEG  # in OS/2 2.x files
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}


def read_bmp(content: bytes) -> Image.Image:
    """Decode a BMP file.

    Returns:
        RGB or RGBA. `info` has `icc_profile` if there is one, and `missing_rows`, which are transparent, if the file is
        truncated.

    Raises:
        ValueError, struct.error: not a BMP, or of a kind that this does not read.
    """
    if content[:2] != b"BM":
        raise ValueError("not a BMP")
    data_at, header_bytes = struct.unpack_from("<II", content, 10)
    header = content[14 : 14 + header_bytes].ljust(124, b"\0")
    if header_bytes == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", header, 4)
        compression = colors = 0
    elif 16 <= header_bytes <= 124:
        width, height, _, depth, compression, _, _, _, colors = struct.unpack_from("<iiHHIIiiI", header, 4)
    else:
        raise ValueError(f"unknown BMP header of {header_bytes} bytes")
    top_down, height = height < 0, abs(height)
    if width <= 0 or height == 0 or width * height > 2 * (Image.MAX_IMAGE_PIXELS or 1 << 62):
        raise ValueError(f"invalid BMP size: {width} x {height}")
    is_os2 = header_bytes not in (40, 52, 56, 108, 124)
    after_header = 14 + header_bytes
    masks = _DEFAULT_MASKS.get(depth, ())
    if compression in (_BITFIELDS, _ALPHA_BITFIELDS) and not is_os2:
        count = 4 if compression == _ALPHA_BITFIELDS or header_bytes >= 56 else 3
        masks = (*struct.unpack_from(f"<{count}I", content, 54), 0)[:4]  # in the header, or just behind a short one
        after_header = max(after_header, 54 + 4 * count)
    bytes_per_color = 3 if header_bytes == 12 else 4
    palette = np.zeros((1 << min(depth, 8), 3), np.uint8)
    if depth <= 8:
        there = min(len(palette), colors or len(palette), (len(content) - after_header) // bytes_per_color)
        found = np.frombuffer(content, np.uint8, there * bytes_per_color, after_header)
        palette[:there] = found.reshape(there, bytes_per_color)[:, 2::-1]
    data = memoryview(content)[data_at or after_header :]
    if depth == 32 and compression == _RGB and header_bytes >= 56 and np.frombuffer(data, np.uint8)[3::4].any():
        masks = (*masks[:3], 0xFF000000)
    if (is_os2 and compression == _RLE24 and depth == 24) or compression in (_RLE8, _RLE4):
        pixels, rows = _read_runs(data, width, height, depth, palette)
    elif compression in (_RGB, _BITFIELDS, _ALPHA_BITFIELDS) and not (is_os2 and compression):
        pixels, rows = _read_rows(data, width, height, depth, palette, masks)
    else:
        raise ValueError(f"unknown BMP compression: {compression}")
    image = Image.fromarray(np.ascontiguousarray(pixels if top_down else pixels[::-1]))
    if header_bytes == 124 and header[56:60] == b"DEBM":
        profile_at, profile_bytes = struct.unpack_from("<II", header, 112)
        image.info["icc_profile"] = content[14 + profile_at :][:profile_bytes]
    image.format = "BMP"
    if rows < height:
        image.info["missing_rows"] = height - rows
    return image


def _read_rows(
    data: memoryview, width: int, height: int, depth: int, palette: npt.NDArray[np.uint8], masks: tuple[int, ...]
) -> tuple[npt.NDArray[np.uint8], int]:
    """Return (pixels in the order of the file, uint8 [height, width, 3 or 4]; the number of rows that are there)."""
    stride = (width * depth + 31) // 32 * 4
    rows = min(height, len(data) // stride)
    packed = np.frombuffer(data, np.uint8, rows * stride).reshape(rows, stride)
    pixels: npt.NDArray[np.uint8]
    if depth == 8:
        pixels = palette[packed[:, :width]]
    elif depth < 8:
        bits = np.unpackbits(packed, axis=1)[:, : width * depth].reshape(rows, width, depth)
        pixels = palette[bits @ (1 << np.arange(depth)[::-1]).astype(np.uint8)]
    elif depth in (16, 32):
        values = packed.view(f"<u{depth // 8}")[:, :width].astype(np.uint32)
        used = masks if masks[3] else masks[:3]
        pixels = np.stack([_channel(values, mask) for mask in used], axis=-1)
    elif depth == 24:
        pixels = np.asarray(Image.frombuffer("RGB", (width, rows), packed, "raw", "BGR", stride, 1))
    else:
        raise ValueError(f"unknown BMP bit depth: {depth}")
    if rows < height:
        pixels = np.concatenate([pixels, np.full((rows, width, 1), 255, np.uint8)], axis=2)[..., [0, 1, 2, -1]]
        pixels = np.pad(pixels, ((0, height - rows), (0, 0), (0, 0)))
    return pixels, rows


def _channel(values: npt.NDArray[np.uint32], mask: int) -> npt.NDArray[np.uint8]:
    """# values 0x7C00, mask 0x7C00 -> 255"""
    lowest = mask & -mask
    levels = (values & np.uint32(mask)) // np.uint32(lowest or 1)
    return (levels * (255.0 / max(mask // (lowest or 1), 1)) + 0.5).astype(np.uint8)


def _read_runs(
    data: memoryview, width: int, height: int, depth: int, palette: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], int]:
    """Decode RLE4, RLE8 and RLE24. Pixels that no run covers are black."""
    pixels: npt.NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
    at = x = y = 0
    with np.errstate(all="ignore"):
        while at + 1 < len(data) and y < height:
            count, value = data[at], data[at + 1]
            at += 2
            if count == 0 and value == 0:
                x, y = 0, y + 1
            elif count == 0 and value == 1:
                return pixels, height
            elif count == 0 and value == 2:
                x, y = x + data[at], y + data[at + 1]
                at += 2
            else:
                literal = count == 0
                length = value if literal else count
                start = at if literal else at - 1
                size = (length * depth + 7) // 8 if literal else max(1, depth // 8)
                colors = _run_colors(data[start : start + size], length, depth, palette)[: max(0, width - x)]
                pixels[y, x : x + len(colors)] = colors
                at = start + (size + size % 2 if literal else size)
                x += length
    return pixels, height if y >= height - 1 else y


def _run_colors(run: memoryview, length: int, depth: int, palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    values = np.frombuffer(run, np.uint8)
    if depth == 24:
        colors = values[: len(values) // 3 * 3].reshape(-1, 3)[:, ::-1]
    elif depth == 4:
        colors = palette[np.stack([values >> 4, values & 15], axis=1).ravel()]
    else:
        colors = palette[values]
    return np.resize(colors, (length, 3))
