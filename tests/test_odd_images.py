"""Images that browsers show although a part of them is unusual or broken: made here, and compared with Chromium."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile, PngImagePlugin

from gemma_captioner.errors import ItemError
from gemma_captioner.media import native_log
from gemma_captioner.media.decode import decode, or_failed
from gemma_captioner.media.probe import probe_audio
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.workers import GIB, WorkerPool
from gemma_captioner.types import Failed, MediaItem
from tests.test_images import SIZE, chunk, far, frames_of, picture, png, read
from tools.fuzz_decoders import shorten


def bmp(depth: int, rows: bytes, *, header: int = 40, compression: int = 0, masks: bytes = b"", palette: bytes = b""):
    """64 x 64, bottom-up."""
    after = masks if header == 40 else b""
    info = struct.pack("<IiiHHIIiiII", header, 64, 64, 1, depth, compression, 0, 0, 0, len(palette) // 4, 0)
    info = (info + (b"" if header == 40 else masks)).ljust(header, b"\0") + after + palette
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(info)) + info + rows


def masks(*bits: int) -> bytes:
    return struct.pack(f"<{len(bits)}I", *bits)


COLOR = (255, 128, 64)
BLACK_AND_COLOR = bytes(4) + bytes((*COLOR[::-1], 0))
BMPS = {
    "rgb32-111110": bmp(
        32,
        struct.pack("<I", 2047 << 21 | 1028 << 10 | 257) * 4096,
        compression=3,
        masks=masks(0x7FF << 21, 0x7FF << 10, 0x3FF),
    ),
    "rgb16-444": bmp(16, struct.pack("<H", 0xF84) * 4096, compression=3, masks=masks(0xF00, 0xF0, 0xF)),
    "abf32": bmp(
        32, struct.pack("<I", 0xFFFF8040) * 4096, compression=6, masks=masks(0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    ),
    "pal2": bmp(2, b"\x55" * 16 * 64, palette=BLACK_AND_COLOR),
    "pal8-oversized": bmp(8, b"\1" * 4096, palette=BLACK_AND_COLOR + bytes(4 * 298)),
    "rle8": bmp(8, b"\x40\1\0\0" * 64 + b"\0\1", compression=1, palette=BLACK_AND_COLOR),
    "rle8-cut": bmp(8, b"\x40\1\0\0" * 64, compression=1, palette=BLACK_AND_COLOR),
    "rle24": bmp(24, (b"\x40" + bytes(COLOR[::-1]) + b"\0\0") * 64 + b"\0\1", header=64, compression=4),
}


@pytest.mark.parametrize("name", BMPS)
def test_bmp_of_any_bit_fields_and_runs(tmp_path, name):
    (tmp_path / "a.bmp").write_bytes(BMPS[name])
    got = read(tmp_path / "a.bmp")
    assert np.abs(got.pixels.astype(int) - COLOR).max() <= 9 and got.flags == ()  # 9: four bits of a color


def test_a_bmp_with_alpha_and_one_that_is_cut(tmp_path):
    alpha = masks(0x7C00, 0x3E0, 0x1F, 0x8000)
    (tmp_path / "a.bmp").write_bytes(bmp(16, struct.pack("<H", 0x7C00) * 4096, header=56, compression=3, masks=alpha))
    assert (read(tmp_path / "a.bmp").pixels == 255).all()
    (tmp_path / "cut.bmp").write_bytes(bmp(24, bytes(64 * 3 * 48)))
    got = read(tmp_path / "cut.bmp", (64, 64))
    assert got.flags == ("partial_image",) and (got.pixels[0, :16] == 255).all() and (got.pixels[0, 17:] == 0).all()
    (tmp_path / "cut.bmp").write_bytes(bmp(24, bytes(64 * 3 * 20)))
    with pytest.raises(ItemError, match="44 of 64 rows are missing"):
        read(tmp_path / "cut.bmp")


BROKEN_CHUNKS = {
    "zTXt": chunk(b"zTXt", b"Comment\0\7no zlib"),
    "eXIf": chunk(b"eXIf", b"LoremIpsum"),
    "iCCP": chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"junk" * 40)),
    "iCCP-zlib": chunk(b"iCCP", b"profile\0\0no zlib"),
    "crc": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a"))[:-1] + b"!",
}


@pytest.mark.parametrize("name", BROKEN_CHUNKS)
def test_broken_metadata_is_ignored_and_flagged(tmp_path, name):
    (tmp_path / "a.png").write_bytes(png(8, 2, bytes(COLOR) * 64, BROKEN_CHUNKS[name]))
    got = read(tmp_path / "a.png")
    assert (got.pixels == COLOR).all() and got.flags == ("broken_metadata",)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_broken_segment_of_a_jpeg_is_ignored(tmp_path):
    picture().save(tmp_path / "a.jpg")
    good = read(tmp_path / "a.jpg", exact_pixels=True)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\7JFIF\0" + content[20:])  # without its version
    got = read(tmp_path / "a.jpg", exact_pixels=True)
    assert (got.pixels == good.pixels).all() and got.flags == ("broken_metadata",)


def test_broken_exif_of_imagemagick_is_ignored(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n    4\nnot hexadecimal\n")
    Image.new("RGB", SIZE, COLOR).save(tmp_path / "a.png", pnginfo=text)
    assert (read(tmp_path / "a.png").pixels == COLOR).all()


def test_orientation_counts_where_browsers_count_it(tmp_path):
    """Not in XMP, not in WebP, not behind the pixels of a PNG."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(tmp_path / "a.webp", lossless=True, exif=exif)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    picture().save(tmp_path / "b.jpg", quality=98, xmp=xmp)
    picture().save(tmp_path / "c.tiff", tiffinfo={700: xmp})
    file = io.BytesIO()
    picture().save(file, "PNG")
    end = chunk(b"IEND", b"")
    (tmp_path / "d.png").write_bytes(file.getvalue().removesuffix(end) + chunk(b"eXIf", exif.tobytes()[6:]) + end)
    for path in sorted(tmp_path.iterdir()):
        got = read(path)
        assert got.source_size == SIZE and far(got.pixels[0], picture()) < 3, path.name


@pytest.mark.parametrize("gamma", [1.0, 0.45455, 0.35])
def test_gamma_of_a_png_counts_unless_it_says_srgb(tmp_path, gamma):
    value = chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    (tmp_path / "a.png").write_bytes(png(8, 2, bytes((20, 100, 200)) * 64, value))
    light = (np.array([20, 100, 200]) / 255) ** (1 / gamma)
    expected = 255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(read(tmp_path / "a.png").pixels - expected).max() <= 1
    (tmp_path / "b.png").write_bytes(png(8, 2, bytes((20, 100, 200)) * 64, chunk(b"sRGB", b"\0"), value))
    assert (read(tmp_path / "b.png").pixels == (20, 100, 200)).all()


def test_primaries_of_a_png_count(tmp_path):
    p3 = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    gamma = chunk(b"gAMA", struct.pack(">I", 45455))
    (tmp_path / "a.png").write_bytes(png(8, 2, bytes((200, 100, 50)) * 64, gamma, p3))
    light = (np.array([200, 100, 50]) / 255) ** 2.2
    light = [[1.2249, -0.2247, 0], [-0.042, 1.0419, 0], [-0.0197, -0.0786, 1.0979]] @ light  # P3 -> sRGB
    expected = 255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(read(tmp_path / "a.png").pixels - expected).max() <= 2


def hdr_png(primaries: int, color: tuple[int, ...], *more: bytes) -> bytes:
    """PQ. color: three or four samples of 16 bits."""
    kind = {3: 2, 4: 6}[len(color)]
    return png(
        16, kind, struct.pack(f">{len(color)}H", *color) * 64, chunk(b"cICP", bytes((primaries, 16, 0, 1))), *more
    )


@pytest.mark.parametrize(("brightest", "level"), [(None, 188), (203, 255), (4000, 188), (450, 224)])
def test_the_tone_mapping_of_an_hdr_image_is_that_of_chromium(tmp_path, brightest, level):
    """SMPTE ST 2094-50: white (203 nits, PQ 38056) becomes 1 - 0.5 log(peak / 203) / log(1000 / 203) at least 0.5."""
    stated = [] if brightest is None else [chunk(b"cLLI", struct.pack(">II", brightest * 10_000, 0))]
    (tmp_path / "a.png").write_bytes(hdr_png(9, (38056, 38056, 38056), *stated))
    assert np.abs(read(tmp_path / "a.png").pixels.astype(int) - level).max() <= 1
    (tmp_path / "a.png").write_bytes(hdr_png(9, (38056, 38056, 38056, 0), *stated))
    assert (read(tmp_path / "a.png").pixels == 255).all()  # transparent


@pytest.mark.parametrize(("primaries", "pure"), [(1, True), (9, False), (12, False)])
def test_an_hdr_image_is_converted_from_its_own_primaries(tmp_path, primaries, pure):
    (tmp_path / "a.png").write_bytes(hdr_png(primaries, (25700, 33410, 25700)))
    (tmp_path / "b.png").write_bytes(hdr_png(primaries, (25700, 33410, 25700, 65535)))
    got = read(tmp_path / "a.png").pixels[0, 0, 0].astype(int)
    assert (abs(got[0] - got[2]) <= 1) == pure  # other primaries add different amounts to red and blue
    assert np.abs(read(tmp_path / "b.png").pixels[0, 0, 0] - got).max() <= 1


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_gives_its_rows(tmp_path, progressive):
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG", progressive=progressive)
    for share, suffix in ((0.99, "jpg"), (0.75, "jpg")):
        (tmp_path / f"a.{suffix}").write_bytes(file.getvalue()[: int(share * len(file.getvalue()))])
        got = read(tmp_path / f"a.{suffix}", (200, 200), exact_pixels=True)
        assert got.flags == ("partial_image",)
    if not progressive:
        assert (got.pixels[0, -30:] == 255).all() and (got.pixels[0, :120] != 255).any(axis=2).mean() > 0.9


def test_rows_of_a_cut_image_are_not_missing_because_they_are_black(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:10] = COLOR
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG", compress_level=0)
    (tmp_path / "a.png").write_bytes(file.getvalue()[: -10 * 64 * 3])
    got = read(tmp_path / "a.png", (64, 64))
    assert got.flags == ("partial_image",)
    assert (got.pixels[0, 10:50] == 0).all() and (got.pixels[0, -8:] == 255).all()


def test_a_gif_that_ends_within_a_row_shows_no_filler(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.gif", interlace=0)
    whole = read(tmp_path / "a.gif", (64, 64)).pixels[0]
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[: len(content) * 4 // 5])
    got = read(tmp_path / "a.gif", (64, 64))
    there = (got.pixels[0] == whole).all(axis=(1, 2))
    rows = int(there.sum())
    assert got.flags == ("partial_image",) and rows > 40
    assert there[:rows].all() and (got.pixels[0, rows:] == 255).all()


def test_a_png_with_a_wrong_checksum_of_its_pixels_keeps_its_last_row(tmp_path):
    good = png(8, 2, bytes(COLOR) * 64)
    data = zlib.compress((b"\0" + bytes(COLOR) * 64) * 64)
    (tmp_path / "a.png").write_bytes(good.replace(chunk(b"IDAT", data), chunk(b"IDAT", data[:-4] + b"none")))
    got = read(tmp_path / "a.png", (64, 64))
    assert (got.pixels == COLOR).all() and got.flags == ("broken_metadata",)


def lut_profile(*tables: int, extra: int = 0) -> bytes:
    """An RGB profile of a printer that turns each color to one L*, for each intent. extra: more bytes at its end."""
    identity = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 16)
    ramp = bytes(range(256)) * 3
    luts = [
        b"mft1" + bytes(4) + b"\3\3\2\0" + identity + ramp + bytes((level, 128, 128)) * 8 + ramp for level in tables
    ]
    white = b"XYZ " + bytes(4) + struct.pack(">3I", 63190, 65536, 54061)  # D50
    tags = [(b"wtpt", white), *((b"A2B%d" % number, lut) for number, lut in enumerate(luts))]
    body, table = b"", struct.pack(">I", len(tags))
    for name, data in tags:
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data
    body += bytes(extra)
    head = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"lcms", 0x2100000, b"prtr", b"RGB ", b"Lab ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3I", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def test_a_large_profile_with_tables_is_applied_as_in_chromium(tmp_path):
    profile = lut_profile(128, 255, extra=2 << 20)
    Image.new("RGB", SIZE, COLOR).save(tmp_path / "a.png", icc_profile=profile)
    got = read(tmp_path / "a.png")
    assert np.abs(got.pixels.astype(int) - 119).max() <= 1 and got.flags == ()  # the perceptual table: L* 50


def test_a_palette_that_is_too_short_repeats_its_last_color(tmp_path):
    (tmp_path / "a.png").write_bytes(png(8, 3, b"\x09" * 64, chunk(b"PLTE", bytes(3) + bytes(COLOR))))
    assert (read(tmp_path / "a.png").pixels == COLOR).all()


def test_odd_gifs(tmp_path):
    first, *rest = frames_of(4)
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=100, loop=0)
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content.replace(b"NETSCAPE2.0\3\1\0\0\0", b"NETSCAPE2.0\0"))  # no loop count
    assert len(read(tmp_path / "a.gif").pixels) == 4
    (tmp_path / "a.gif").write_bytes(content[: len(content) * 3 // 5])
    got = read(tmp_path / "a.gif")
    assert 1 <= len(got.pixels) < 4
    # a first frame that is smaller than the image: what it leaves open is transparent
    screen = b"GIF89a" + struct.pack("<HHBBB", 2, 1, 0x80, 0, 0) + bytes((255, 0, 0, 0, 0, 255))
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x4c\1\0;"
    (tmp_path / "b.gif").write_bytes(screen + frame)
    assert read(tmp_path / "b.gif", (2, 1)).pixels[0, 0].tolist() == [[0, 0, 255], [255, 255, 255]]


def test_a_system_error_that_only_ffmpeg_reports_is_no_missing_permission(tmp_path):
    screen = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 0, 2, 0) + b"\x0d\2\x4c\1\0;"  # no width, codes of 13 bits
    (tmp_path / "a.gif").write_bytes(screen + frame)
    with pytest.raises(ItemError, match=r"^cannot read this image"):
        read(tmp_path / "a.gif")


def test_apng_without_its_default_image(tmp_path):
    first, *rest = frames_of(4)
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, default_image=True, duration=100)
    assert read(tmp_path / "a.png", animated="first").pixels[0, 5, 5].tolist() == [20, 0, 235]


def avif_with_two_property_boxes(path: Path) -> None:
    """An AVIF with alpha that Pillow's decoder refuses: each item has an `ipma` box of its own."""
    image = picture()
    image.putalpha(128)
    image.save(path, quality=95)
    content = bytearray(path.read_bytes())
    at = content.index(b"ipma") - 4
    for name, step in ((b"meta", 0), (b"iprp", 0), (b"iloc", 22), (b"iloc", 36)):  # box sizes, and offsets of the items
        place = content.index(name) - 4 + step
        content[place : place + 4] = struct.pack(">I", struct.unpack_from(">I", content, place)[0] + 16)
    head, items = (
        bytes(content[at + 8 : at + 12]),
        (bytes(content[at + 16 : at + 23]), bytes(content[at + 23 : at + 30])),
    )
    content[at : at + 30] = b"".join(struct.pack(">I4s4sI", 23, b"ipma", head, 1) + item for item in items)
    path.write_bytes(content)


def test_an_avif_that_pillow_refuses(tmp_path):
    avif_with_two_property_boxes(tmp_path / "a.avif")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO((tmp_path / "a.avif").read_bytes()))
    got = read(tmp_path / "a.avif")
    assert far(got.pixels[0], (np.asarray(picture(), int) + 255) / 2) < 6 and got.source_size == SIZE


def test_a_postscript_program_is_not_run(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    with pytest.raises(ItemError, match=r"\(not an image\)"):
        read(path)


def test_a_device_is_not_read(tmp_path):
    (tmp_path / "a.png").symlink_to("/dev/zero")
    with pytest.raises(ItemError, match="not a regular file"):
        read(tmp_path / "a.png")
    assert probe_audio(tmp_path / "a.png") is None


def test_an_unknown_kind_of_heif_is_not_called_a_video(tmp_path):
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x10ftypmif3avif\0\0\0\x20mini" + bytes(60))
    with pytest.raises(ItemError, match="unsupported kind of HEIF"):
        read(tmp_path / "a.avif")


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "u4", "i2"])
def test_tiff_of_any_sample_type(tmp_path, byte_order, dtype):
    values = np.empty((64, 96, 3), dtype)
    span = {"f4": 1, "f8": 1, "u4": 2**32 - 1, "i2": 65535}[dtype]
    values[:] = np.array([1, 0.5, 0.25]) * span - (32768 if dtype == "i2" else 0)
    tifffile.imwrite(tmp_path / "a.tiff", values, byteorder=byte_order, bigtiff=True, photometric="rgb")
    assert np.abs(read(tmp_path / "a.tiff").pixels.astype(int) - (255, 128, 64)).max() <= 1


def test_planes_pages_and_lab_in_tiff(tmp_path):
    planes = np.zeros((3, 64, 96), np.float64)
    planes[0] = 1
    with tifffile.TiffWriter(tmp_path / "a.tiff") as file:
        file.write(planes, photometric="rgb", planarconfig="separate")
        file.write(planes[::-1], photometric="rgb", planarconfig="separate")
    assert (read(tmp_path / "a.tiff").pixels == (255, 0, 0)).all()
    lab = np.full((64, 96, 3), (128 << 8, 0, 0), np.uint16)
    tifffile.imwrite(tmp_path / "lab.tiff", lab, photometric="cielab")
    assert np.abs(read(tmp_path / "lab.tiff").pixels.astype(int) - 119).max() <= 3


def tiff(pixels: bytes, shape: tuple[int, int], tags: dict[int, int], *, lzw: bool = False) -> bytes:
    """One strip of three samples. shape: (height, width). tags: with small numbers, beside those of every file."""
    if lzw:  # libtiff encodes it, as if it were a gray image of one row
        Image.frombytes("L", (len(pixels), 1), pixels).save(file := io.BytesIO(), "TIFF", compression="tiff_lzw")
        with Image.open(file) as encoded:
            at, size = encoded.tag_v2[273][0], encoded.tag_v2[279][0]
        pixels = file.getvalue()[at : at + size]
    height, width = shape
    tags = {
        256: width, 257: height, 258: 8, 259: 5 if lzw else 1, 262: 2, 273: 8, 277: 3, 278: height, 279: len(pixels)
    } | tags  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def difference_bytes(values: np.ndarray) -> bytes:
    """TIFF's float predictor. values: [height, width, samples]."""
    height, width, samples = values.shape
    size = values.dtype.itemsize
    planes = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1, size).transpose(0, 2, 1)
    rows = planes.reshape(height, size * width, samples)
    return np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1])).tobytes()


def test_tiff_with_lzw_and_a_predictor_or_lab(tmp_path):
    values = np.empty((64, 96, 3), np.float32)
    values[:] = 1, 0.5, 0.25
    (tmp_path / "a.tiff").write_bytes(tiff(difference_bytes(values), (64, 96), {258: 32, 317: 3, 339: 3}, lzw=True))
    assert np.abs(read(tmp_path / "a.tiff").pixels.astype(int) - (255, 128, 64)).max() <= 1
    lab = bytes((128, 0, 0)) * 64 * 96
    (tmp_path / "a.tiff").write_bytes(tiff(lab, (64, 96), {262: 8}, lzw=True))
    assert np.abs(read(tmp_path / "a.tiff").pixels.astype(int) - 119).max() <= 3


@pytest.mark.parametrize("bits", [5, 6, 10, 12, 14, 24])
def test_tiff_of_packed_integers(tmp_path, bits):
    top = (1 << bits) - 1
    row = "".join(f"{value:0{bits}b}" for value in [top, top // 2, top // 4] * 95)
    row = row.ljust(-(-len(row) // 8) * 8, "0")
    (tmp_path / "a.tiff").write_bytes(tiff(int(row, 2).to_bytes(len(row) // 8) * 64, (64, 95), {258: bits}))
    assert np.abs(read(tmp_path / "a.tiff").pixels.astype(int) - (255, 127, 63)).max() <= 255 >> bits - 1


def test_tiff_with_png_files_as_strips(tmp_path):
    picture().save(file := io.BytesIO(), "PNG")
    (tmp_path / "a.tiff").write_bytes(tiff(file.getvalue(), picture().size[::-1], {259: 34933}))
    picture().save(tmp_path / "a.png")
    assert (read(tmp_path / "a.tiff").pixels == read(tmp_path / "a.png").pixels).all()


def test_what_libtiff_prints_is_the_reason_of_its_file(tmp_path, capfd):
    picture().save(tmp_path / "a.tiff", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tiff").read_bytes())
    content[8:2000] = b"\xff" * len(content[8:2000])
    (tmp_path / "a.tiff").write_bytes(content)
    item = MediaItem(tmp_path / "a.tiff", "image", "a.tiff", tmp_path / "a.txt", tmp_path)
    workers = WorkerPool(1, 4 * GIB, timeout_s=60)
    try:
        failed = workers.start(decode, item, SIZE, DecodeSettings()).result()
    finally:
        workers.close()
    assert re.match(r"cannot read this image \(decoder error -2; [A-Z][a-z ]+\): ", failed.error)
    assert capfd.readouterr().err == "" and native_log.captured() == ""


@pytest.mark.long
def test_chromium_shows_the_same(tmp_path):
    """Every file made above that a browser reads, by the tool that compares folders."""
    from tests.support.review_server import chromium

    with chromium():
        pass  # skips, or fails, without a browser
    for name, content in BMPS.items():
        (tmp_path / f"{name}.bmp").write_bytes(content)
    for name, content in BROKEN_CHUNKS.items():
        (tmp_path / f"{name}.png").write_bytes(png(8, 2, bytes(COLOR) * 64, content))
    for gamma in (1.0, 0.45455, 0.35):
        value = chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
        (tmp_path / f"{gamma}.png").write_bytes(png(8, 2, bytes((20, 100, 200)) * 64, value))
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png", "webp", "avif"):
        picture().save(tmp_path / f"turned.{suffix}", exif=exif, quality=95)
    avif_with_two_property_boxes(tmp_path / "alpha.avif")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tools.compare_with_chromium", tmp_path, "--sheet", tmp_path / "sheet.html"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"},
        capture_output=True,
        encoding="utf-8",
        timeout=200,
    )
    count = len(BMPS) + len(BROKEN_CHUNKS) + 8
    expected = f"{count} files, {count} decoded, {count} compared, 0 differ, 0 refused though shown"
    assert done.stdout.startswith(expected), done.stdout + done.stderr
    assert "<table" in (tmp_path / "sheet.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [ValueError, OverflowError])
def test_the_fuzzer_tells_the_exceptions_of_decoders_apart(kind):
    def broken():
        raise kind("no more")

    failed = or_failed(MediaItem(Path("a.png"), "image", "a.png", Path("a.txt"), Path()), broken)
    assert isinstance(failed, Failed)
    assert shorten(failed.error).startswith(f"cannot decode ({kind.__name__}: no more)")
    assert shorten("cannot read this image (broken): it may be damaged") == "cannot read this image"
