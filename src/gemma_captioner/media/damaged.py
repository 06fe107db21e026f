"""Finds what is missing in a damaged image file, and leaves out what is broken."""

import struct
import zlib
from contextlib import suppress
from random import Random

import numpy as np
from PIL import Image, ImageFile

from .jpeg import strip_metadata

JPEG = ("JPEG", "MPO")
_PNG = b"\x89PNG\r\n\x1a\n"
_ESSENTIAL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"IDAT", b"IEND")
_MAX_BYTES = 1 << 28  # of pixels: larger files are not repaired


def without_metadata(content: bytes) -> bytes:
    """A PNG or JPEG file with nothing but what its pixels need.

    Raises:
        ValueError, struct.error: another kind of file, or a short one.
    """
    stripped = _essential_chunks(content) if content.startswith(_PNG) else strip_metadata(content)
    if stripped is None:
        raise ValueError("neither PNG nor JPEG")
    return stripped


def _essential_chunks(content: bytes) -> bytes:
    """A PNG without metadata, and with the right checksum of its pixels if only that is wrong."""
    kept, at, data, is_intact = [_PNG], len(_PNG), bytearray(), True
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4])
        name, body, crc = content[at + 4 : at + 8], content[at + 8 : end - 4], content[end - 4 : end]
        if name == b"IDAT":
            data += body
            is_intact &= zlib.crc32(name + body) == int.from_bytes(crc)
        if name in _ESSENTIAL_CHUNKS:
            kept.append(content[at:end])
        at = end
    width, height = struct.unpack_from(">II", content, 16)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # without the header and the checksum of zlib
    with suppress(zlib.error):
        pixels = inflate.decompress(data[2:], min(8 * width * height + 4 * height + 8, _MAX_BYTES))
        if is_intact and inflate.eof and zlib.adler32(pixels) != int.from_bytes(inflate.unused_data[:4]):
            body = b"IDAT" + zlib.compress(pixels, 0)
            whole = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            kept = [*(chunk for chunk in kept if chunk[4:8] not in (b"IDAT", b"IEND")), whole]
    return b"".join(kept)


def fill_before_loading(file: Image.Image) -> list[Image.Image]:
    """Have every row filled with the same noise before it is decoded: then a missing row is not taken for a black one.

    Returns:
        A list that receives an image of that row.
    """
    filler: list[Image.Image] = []
    if not isinstance(file, ImageFile.ImageFile):  # it is loaded
        return filler
    prepare = file.load_prepare

    def prepare_and_fill() -> None:
        prepare()
        row = Image.new(file.im.mode, (file.width, 1))
        row.frombytes(Random(0).randbytes(len(row.tobytes())))
        file.im.paste(row.resize(file.size).im, (0, 0, *file.size))
        filler.append(row)

    file.load_prepare = prepare_and_fill  # type: ignore[method-assign]  # Pillow has no hook here
    return filler


def hide_missing_rows(file: Image.Image, filler: list[Image.Image], *, interlaced: bool) -> Image.Image:
    """Make the missing rows of a truncated file transparent. They are as they were filled; libjpeg made them gray."""
    pixels = np.asarray(file).reshape(file.height, file.width, -1)
    if file.format in JPEG:
        is_filler = np.all(abs(pixels.astype(np.int16) - 128) <= 1, axis=2)
    elif filler and filler[0].mode == file.mode:
        is_filler = np.all(pixels == np.asarray(filler[0]).reshape(1, file.width, -1), axis=2)
    else:
        is_filler = np.zeros(pixels.shape[:2], bool)
    is_missing = np.all(is_filler, axis=1)
    missing = file.height if is_missing.all() else int(np.argmin(is_missing[::-1]))
    there = file.height - missing
    if file.format == "GIF" and is_filler[max(0, there - 2) : there, -1].any():  # its decoder may stop within a row
        missing += 1
    if interlaced and (missing or is_missing.any()):  # pixels are missing all over the image
        missing = file.height
    if missing == 0:
        return file
    image = file.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, file.height - missing, *image.size))
    image.info["missing_rows"] = missing
    return image


def is_interlaced(file: Image.Image) -> bool:
    """For a PNG or GIF that is not loaded yet."""
    if file.format == "GIF" and isinstance(file, ImageFile.ImageFile) and file.tile:
        return bool(file.tile[0].args[1])  # type: ignore[index]  # its type depends on the format
    return bool(file.info.get("interlace"))
