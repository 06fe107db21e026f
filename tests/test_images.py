"""Still images: whatever the file, what a person sees in it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageOps

from gemma_captioner.errors import ItemError
from gemma_captioner.media.images import decode_image
from gemma_captioner.media.settings import DecodeSettings

SIZE = (96, 64)


def picture(size: tuple[int, int] = SIZE) -> Image.Image:
    """Four corners of their own colors on a gradient: every turn and flip of it is another picture."""
    width, height = size
    gradient = np.linspace(60, 200, width)[None, :, None] * np.ones((height, 1, 3))
    image = Image.fromarray(gradient.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    third = (width // 3, height // 3)
    for corner, color in zip([(0, 0), (2, 0), (0, 2), (2, 2)], ["red", "green", "blue", "yellow"], strict=True):
        x, y = corner[0] * third[0], corner[1] * third[1]
        draw.rectangle((x, y, x + third[0], y + third[1]), fill=color)
    return image


def read(path: Path, size=SIZE, **settings):
    return decode_image(path, size, DecodeSettings(**settings))


def far(pixels, expected) -> float:
    """Mean difference in levels of 0 to 255."""
    return float(np.abs(np.asarray(pixels, int) - np.asarray(expected, int)).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "avif"])
def test_exif_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    options = {"quality": 98} if suffix in ("jpg", "avif") else {}
    picture().save(path, exif=exif, **options)
    with Image.open(path) as file:
        expected = ImageOps.exif_transpose(file).convert("RGB")
    frames = read(path, size=expected.size)
    got = frames.pixels[0]
    assert far(got, expected) < 3 and frames.source_size == expected.size
    turned = far(got, picture().resize(expected.size)) > 20
    assert turned == (orientation != 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_every_mode(tmp_path, mode):
    path = tmp_path / "mode.tiff"
    image = picture()
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    elif mode == "1":
        image = image.convert("1", dither=Image.Dither.NONE)
    else:
        image = image.convert(mode)
    image.save(path)
    expected = {"1": image, "L": image}.get(mode, picture()).convert("RGB")
    assert far(read(path).pixels[0], expected) < (25 if mode == "P" else 4)


def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 96).astype(np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "gray.png")
    Image.fromarray(ramp).save(tmp_path / "gray.tiff")
    for name in ("gray.png", "gray.tiff"):
        assert far(read(tmp_path / name).pixels[0, ..., 0], ramp >> 8) < 1


def test_floating_point_and_32_bit_tiff(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 96), (64, 1))
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray((ramp * 1_000_000).astype(np.int32)).save(tmp_path / "int.tiff")
    for name in ("float.tiff", "int.tiff"):
        assert far(read(tmp_path / name).pixels[0, ..., 1], ramp * 255) < 1


def test_transparency_is_laid_on_the_background(tmp_path):
    drawn = np.zeros((64, 96, 4), np.uint8)
    drawn[:, :48] = (255, 0, 0, 255)
    drawn[:, 48:] = (0, 255, 0, 0)  # a color that nobody should see
    palette = Image.fromarray(drawn[..., :3]).quantize(8)
    hidden = palette.getpixel((90, 5))
    Image.fromarray(drawn).save(tmp_path / "rgba.png")
    Image.fromarray(drawn).convert("LA").save(tmp_path / "la.png")
    palette.save(tmp_path / "palette.png", transparency=hidden)
    palette.save(tmp_path / "palette.gif", transparency=hidden)
    Image.fromarray(drawn).save(tmp_path / "alpha.webp", lossless=True)
    for path in sorted(tmp_path.iterdir()):
        assert (read(path).pixels[0, :, 60:] == 255).all(), path.name
        assert far(read(path, background="#102030").pixels[0, :, 60:], (16, 32, 48)) == 0, path.name


def profile_with(gamma_source: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(gamma_source)).tobytes()


def wide_gamut() -> bytes:
    """A profile whose primaries are Adobe RGB's: sRGB's with the red and blue columns of the matrix exchanged would do
    for a test, but a real gamut shows whether the conversion is the right way round."""
    import struct

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(x) + fixed(y) + fixed(z)

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(2.19921875 * 256), 0)
    description = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"Adobe\0" + bytes(4 + 4 + 2 + 1 + 67)
    tags = {
        b"desc": description + bytes(-len(description) % 4),
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"cprt": b"text\0\0\0\0none\0\0\0\0",
    }  # fmt: skip
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"test", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642) + fixed(1) + fixed(0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def test_a_wide_gamut_comes_out_as_srgb(tmp_path):
    adobe = np.full((64, 96, 3), (100, 160, 80), np.uint8)
    Image.fromarray(adobe).save(tmp_path / "adobe.png", icc_profile=wide_gamut())
    Image.fromarray(adobe).save(tmp_path / "plain.png")
    linear = (np.array([100, 160, 80]) / 255) ** 2.19921875
    to_srgb = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])  # both have D65
    light = to_srgb @ linear
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert far(read(tmp_path / "adobe.png").pixels[0, 5, 5], expected) < 2
    assert far(read(tmp_path / "plain.png").pixels[0, 5, 5], (100, 160, 80)) == 0


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_junk_or_plain_profile_changes_nothing(tmp_path, mode):
    image = picture().convert(mode)
    for name, profile in {"junk": b"junk" * 40, "srgb": profile_with("sRGB"), "none": None}.items():
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
    plain = read(tmp_path / "none.png").pixels
    for name in ("junk", "srgb"):
        assert far(read(tmp_path / f"{name}.png").pixels, plain) < 1


@pytest.mark.parametrize("suffix", ["heic", "heif", "avif"])
def test_heic_and_avif(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    picture().save(path, quality=95, **({"format": "HEIF"} if suffix != "avif" else {}))
    assert far(read(path).pixels[0], picture()) < 6


def test_a_large_jpeg_is_read_at_a_reduced_scale_and_looks_the_same(tmp_path):
    path = tmp_path / "large.jpg"
    picture((3000, 2000)).save(path, quality=92)
    reduced, exact = read(path).pixels, read(path, exact_pixels=True).pixels
    assert far(reduced, exact) < 1
    assert not np.array_equal(reduced, exact)  # it was reduced


def frames_of(count: int) -> list[Image.Image]:
    return [Image.new("RGB", SIZE, (20 * n, 0, 255 - 20 * n)) for n in range(count)]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_an_animated_image_is_a_clip(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    first, *rest = frames_of(10)
    options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "avif" else {}
    first.save(path, save_all=True, append_images=rest, duration=100, **options)
    got = read(path, frames=5)
    assert got.kind == "clip" and len(got.pixels) == 5
    assert got.times_s == pytest.approx((0.1, 0.3, 0.5, 0.7, 0.9), abs=0.002)
    assert got.duration_s == pytest.approx(1, abs=0.002)
    assert [round(frame[5, 5, 0] / 20) for frame in got.pixels] == [1, 3, 5, 7, 9]
    still = read(path, animated="first")
    assert still.kind == "image" and still.times_s == (0.0,) and round(still.pixels[0, 5, 5, 0] / 20) == 0


def test_frames_of_an_animation_without_a_time_are_shown_as_browsers_do(tmp_path):
    first, *rest = frames_of(4)
    first.save(tmp_path / "fast.gif", save_all=True, append_images=rest, duration=0)
    assert read(tmp_path / "fast.gif").duration_s == pytest.approx(0.4)


def test_format_by_content(tmp_path):
    picture().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert far(read(tmp_path / "a.jpg").pixels[0], picture()) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"GIF8 no more", "cannot read this image"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\0\0\0\x20ftypisom" + bytes(100), "video with the extension of an image"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(tmp_path, content, says):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ItemError, match=says):
        read(tmp_path / "bad.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "gif", "bmp", "heic", "avif"])
def test_truncated_files_are_refused(tmp_path, suffix):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8))
    file = io.BytesIO()
    noise.save(file, "HEIF" if suffix == "heic" else Image.registered_extensions()[f".{suffix}"])
    (tmp_path / f"cut.{suffix}").write_bytes(file.getvalue()[: len(file.getvalue()) // 3])
    with pytest.raises(ItemError):
        read(tmp_path / f"cut.{suffix}")


def test_a_decompression_bomb_is_refused(tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ItemError, match="179 million pixels"):
        read(tmp_path / "bomb.png")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, color_type: int, row: bytes, *more: bytes) -> bytes:
    """64 x 64, every row the same; `more`: chunks before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, depth, color_type, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + row) * 64))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "color_type", "row", "key"),
    [
        (16, 0, struct.pack(">H", 1000) * 64, struct.pack(">H", 1000)),
        (8, 0, b"\x05" * 64, struct.pack(">H", 5)),
        (4, 0, b"\x55" * 32, struct.pack(">H", 5)),
        (16, 2, struct.pack(">HHH", 1000, 2000, 3000) * 64, struct.pack(">HHH", 1000, 2000, 3000)),
    ],
)
def test_a_transparent_color_is_transparent_in_every_depth(tmp_path, depth, color_type, row, key):
    (tmp_path / "key.png").write_bytes(png(depth, color_type, row, chunk(b"tRNS", key)))
    assert read(tmp_path / "key.png").pixels.min() == 255


def test_sixteen_bit_gray_without_a_profile_keeps_its_levels_in_any_format(tmp_path):
    levels = np.tile(np.linspace(20_000, 40_000, 64).astype(">u2"), (64, 1))
    (tmp_path / "gray.png").write_bytes(b"P5 64 64 65535\n" + levels.tobytes())
    got = read(tmp_path / "gray.png", size=(64, 64)).pixels[0, 32, :, 0]
    assert np.abs(got.astype(int) - (levels[0] >> 8)).max() <= 1


def linear_gray_profile() -> bytes:
    """The smallest ICC profile for gray: linear light."""
    white = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    tags = [
        (b"desc", b"desc" + bytes(4) + struct.pack(">I", 5) + b"glin\0" + bytes(78)),
        (b"wtpt", b"XYZ " + bytes(4) + white),
        (b"kTRC", b"curv" + bytes(8)),
    ]
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for name, data in tags:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_for_gray_counts(tmp_path, mode):
    image = Image.new("L", (64, 64), 0x37)
    if mode == "LA":
        image.putalpha(255)
    image.save(tmp_path / "gray.png", icc_profile=linear_gray_profile())
    assert abs(int(read(tmp_path / "gray.png").pixels[0, 3, 3, 1]) - 128) <= 1  # 0x37 / 255 of the light, in sRGB


def test_wide_gamut_that_heic_states_without_a_profile(tmp_path):
    from pillow_heif import from_pillow

    options = {"quality": -1, "chroma": 444, "transfer_characteristics": 13, "matrix_coefficients": 6}
    for primaries, seen in ((1, (200, 100, 50)), (12, (215, 95, 35))):
        heif = from_pillow(Image.new("RGB", (64, 64), (200, 100, 50)))
        heif.save(tmp_path / "p3.heic", color_primaries=primaries, full_range_flag=1, **options)
        assert np.abs(read(tmp_path / "p3.heic").pixels[0, 3, 3].astype(int) - seen).max() <= 4


def test_an_animated_png_shows_what_browsers_show(tmp_path):
    number = 0

    def control(x: int, width: int, dispose: int, blend: int) -> bytes:
        nonlocal number
        number += 1
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number - 1, width, 64, x, 0, 1, 10, dispose, blend))

    red, clear = bytes((255, 0, 0, 255)) * 16, bytes(4)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 6, 0, 0, 0))
    content += chunk(b"acTL", struct.pack(">II", 4, 0)) + control(0, 64, 0, 0)
    content += chunk(b"IDAT", zlib.compress((b"\0" + red + clear * 48) * 64))
    for x, dispose in ((16, 2), (32, 2), (48, 0)):  # 2: back to what was there before
        content += control(x, 16, dispose, 1)
        content += chunk(b"fdAT", struct.pack(">I", number) + zlib.compress((b"\0" + red) * 64))
        number += 1
    (tmp_path / "a.png").write_bytes(content + chunk(b"IEND", b""))
    got = read(tmp_path / "a.png", size=(64, 64))
    columns = ["".join("R" if frame[30, 8 + 16 * i, 1] < 99 else "-" for i in range(4)) for frame in got.pixels]
    assert columns == ["R---", "RR--", "R-R-", "R--R"]
    assert got.duration_s == pytest.approx(0.4) and got.kind == "clip"


def test_a_picture_for_viewers_without_animation_is_no_frame(tmp_path):
    first, *rest = frames_of(4)
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, default_image=True, duration=100)
    assert len(read(tmp_path / "a.png").pixels) == 3
    assert read(tmp_path / "a.png", animated="first").kind == "image"
    assert len(read(tmp_path / "a.png", frames=1).pixels) == 1
