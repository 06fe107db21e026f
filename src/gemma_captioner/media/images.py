"""Decodes an image file to upright 8-bit sRGB and flattens transparency onto a background color.

The content decides the format, not the file name. An animated image is a clip, unless `animated` is "first".

Decoders are tried in turn: Pillow (with pillow-heif and our BMP reader), Pillow without the broken parts, tifffile, and
FFmpeg. What browsers ignore is ignored here: broken metadata, and the orientation in XMP.
"""

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TypeAlias

import numpy as np
from av.error import FFmpegError
from PIL import EpsImagePlugin, Image, ImageFile, ImagePalette, PngImagePlugin, UnidentifiedImageError
from pillow_heif import register_heif_opener

from ..errors import ItemError
from ..storage.filesystem import read_source, source
from ..types import Frames, PatchBudget, Size, resized_dimensions
from . import native_log
from .bmp import read_bmp
from .color import convert_primaries, hdr_to_srgb
from .damaged import JPEG, fill_before_loading, hide_missing_rows, is_interlaced, without_metadata
from .header import exif_orientation
from .image_color import image_to_srgb, is_valid_profile
from .sampling import Timeline, clip_length_flags, select_frames
from .settings import DecodeSettings
from .still import HDR, color_tags, decode_still, is_animation, peak_nits
from .tiff import read_tiff
from .video import decode_clip

register_heif_opener()
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 24  # bytes of an ICC profile: those of printers have more than 1 MiB
Image.ID.remove(EpsImagePlugin.EpsImageFile.format)  # runs Ghostscript: the file is a program, which can write files
# Pillow warns above 89.5 megapixels and raises above 179. The error is reported; the warning is noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Box: TypeAlias = tuple[int, int, int, int]  # left, upper, right, lower
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_STILL_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"mif1", b"mif2", b"mif3", b"msf1", b"miaf"}
_TRANSPOSITIONS = {
    number: Image.Transpose[name]
    for number, name in enumerate(
        "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split(), 2
    )
}
_GRAY_SCALE = {"L;2": 85, "L;4": 17}  # PNG gray levels -> 0..255
_COPY_AGAIN = "copy or download it again"
# Like browsers: a frame with a duration below the minimum is shown for the default duration.
_MIN_FRAME_DURATION_S, _DEFAULT_FRAME_DURATION_S = 0.02, 0.1


def decode_image(path: Path, size: Size, settings: DecodeSettings, clip_size: Size | None = None) -> Frames:
    """Decode `path` at `size`; the frames of an animated image at `clip_size` (default `size`).

    Broken metadata is ignored, with the flag `broken_metadata`. A truncated image of which more than half of the rows
    are there is returned with the flag `partial_image`; the missing rows show the background.

    Raises:
        ItemError: the file cannot be decoded.
    """
    errors: list[Exception] = []
    for attempt in (_decode_with_pillow, _decode_damaged, _decode_with_tifffile, _decode_with_ffmpeg):
        try:
            return attempt(path, size, settings, clip_size or size)
        except Image.DecompressionBombError as error:
            raise ItemError("the image has more than 179 million pixels: scale it down") from error
        except (ItemError, MemoryError):
            raise
        except FFmpegError as error:  # it may name a system error that has not happened, such as EPERM
            errors.append(error)
        except FileNotFoundError as error:
            raise ItemError("the file no longer exists: restore it and run again") from error
        except PermissionError as error:
            raise ItemError("no permission to read the file: grant read access (chmod +r)") from error
        except Exception as error:  # a decoder may fail in any way; the next one may read the file
            errors.append(error)
    raise ItemError(_unreadable_reason(path, errors)) from errors[0]


def _decode_with_pillow(path: Path, size: Size, settings: DecodeSettings, clip_size: Size) -> Frames:
    with _open(path) as file:
        if settings.animated == "clip" and file.format in ANIMATED and _is_animated(file):
            if file.format == "PNG":  # Pillow composes some APNG frames wrongly: it keeps disposed content
                return decode_clip(path, clip_size, settings)
            return _decode_animation(file, clip_size, settings)
        if getattr(file, "default_image", False):  # browsers never show the default image of an APNG
            file.seek(1)
        return _decode_still(file, path, size, settings)


def _decode_damaged(path: Path, size: Size, settings: DecodeSettings, clip_size: Size) -> Frames:
    """Decode as a still image, without the metadata; if that fails, without what is missing."""
    with suppress(OSError, ValueError, SyntaxError, struct.error):
        with Image.open(BytesIO(without_metadata(read_source(path)))) as file:
            frames = _decode_still(file, path, size, settings)
        return replace(frames, flags=("broken_metadata",))
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # for this file only; a decoder process has one thread
    try:
        with _open(path) as file:
            return _decode_still(file, path, size, settings, is_damaged=True)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _decode_with_tifffile(path: Path, size: Size, settings: DecodeSettings, clip_size: Size) -> Frames:
    if read_source(path, 2) not in (b"II", b"MM"):
        raise UnidentifiedImageError
    image, orientation = read_tiff(read_source(path))
    if orientation in _TRANSPOSITIONS:
        image = image.transpose(_TRANSPOSITIONS[orientation])
    return _decode_still(image, path, size, settings)


def _decode_with_ffmpeg(path: Path, size: Size, settings: DecodeSettings, clip_size: Size) -> Frames:
    if settings.animated == "clip" and is_animation(path):
        return decode_clip(path, clip_size, settings)
    return decode_still(path, size, settings)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    if read_source(path, 2) == b"BM":
        with suppress(ValueError, IndexError, struct.error):
            image = read_bmp(read_source(path))
            yield image
            return
    with Image.open(source(path, whole=True)) as file:
        _repair_palette(file)
        yield file


def _decode_still(
    file: Image.Image, path: Path, size_rule: Size, settings: DecodeSettings, *, is_damaged: bool = False
) -> Frames:
    _scale_transparent_color(file)  # must run before the file is loaded
    nclx = file.info.get("nclx_profile") or {}  # HEIC files without an ICC profile
    primaries, transfer = nclx.get("color_primaries", 2), 2
    if file.format == "AVIF" or (file.format == "PNG" and b"cICP" in read_source(path, 1024)):
        # FFmpeg decodes a frame to know them. Most files state them once, in a box at their beginning.
        stated = set(re.findall(rb"colrnclx\0(.)\0(.)", read_source(path, 4096), re.DOTALL))
        primaries, transfer = map(ord, stated.pop()) if len(stated) == 1 else color_tags(path)
        if transfer in HDR:
            with suppress(FFmpegError, OSError, ValueError):  # Pillow decodes grids of tiles
                return decode_still(path, size_rule, settings)
        if primaries != 2 and file.format == "PNG":
            file.info.pop("gamma", None)  # cICP counts
    orientation, flags = _read_metadata(file)
    upright = file.size[::-1] if orientation >= 5 else file.size
    size = resized_dimensions(size_rule, *upright)
    use_draft = file.format == "JPEG" and not settings.exact_pixels and not is_damaged
    if use_draft:
        # The decoder scales to 1/2, 1/4 or 1/8, never below the target size.
        file.draft(None, (max(size), max(size)))
    interlaced = is_interlaced(file)
    filler = fill_before_loading(file) if is_damaged else []
    file.load()
    image = (
        hide_missing_rows(file, filler, interlaced=interlaced) if is_damaged else _hide_uncovered(file, _covered(file))
    )
    missing = image.info.get("missing_rows", 0)
    if 2 * missing > image.height:
        raise ItemError(f"the image is truncated: {missing} of {image.height} rows are missing: {_COPY_AGAIN}")
    if missing or (is_damaged and file.format in JPEG):
        flags.append("partial_image")
    elif is_damaged:
        flags.append("broken_metadata")
    if orientation > 1:
        image = image.transpose(_TRANSPOSITIONS[orientation])
    if transfer in HDR:
        image, primaries, transfer = _tone_mapped(image, primaries, transfer, peak_nits(path)), 2, 2
    pixels = image_to_srgb(
        image, size, settings.background, exact=not use_draft, bicubic=isinstance(size_rule, PatchBudget)
    )
    if not file.info.get("icc_profile"):
        pixels = convert_primaries(pixels, primaries, transfer)
    return Frames(pixels[None], (0.0,), flags=tuple(dict.fromkeys(flags)), source_size=upright)


def _tone_mapped(image: Image.Image, primaries: int, transfer: int, peak: float) -> Image.Image:
    """An HDR image of 8 bits in sRGB, with its alpha channel."""
    signal = np.asarray(image.convert("RGB")).astype(np.uint16) * 257
    mapped = Image.fromarray(hdr_to_srgb(signal, primaries, transfer, peak))
    if image.has_transparency_data:
        mapped.putalpha(image.convert("RGBA").getchannel("A"))
    return mapped


def _read_metadata(file: Image.Image) -> tuple[int, list[str]]:
    """Return (EXIF orientation, flags). An ICC profile that cannot be read is removed."""
    flags = []
    file.info.pop("xmp", None)  # Pillow would turn a TIFF by it
    if "icc_profile" in file.info and not is_valid_profile(file.info["icc_profile"]):
        del file.info["icc_profile"]
        flags.append("broken_metadata")
    try:
        return exif_orientation(file), flags
    except Exception:  # Pillow's parser may fail in any way
        return 1, [*flags, "broken_metadata"]


def _repair_palette(file: Image.Image) -> None:
    """Repeat the last color of a short PNG palette for the numbers above it, as browsers do."""
    if file.format == "PNG" and file.mode == "P" and file.palette is not None:
        colors = file.palette.palette
        file.palette = ImagePalette.raw("RGB", bytes(colors) + bytes(colors[-3:]) * (256 - len(colors) // 3))


def _scale_transparent_color(file: Image.Image) -> None:
    """Scale a PNG's transparent color from the bit depth of the file to that of Pillow's pixels."""
    key = file.info.get("transparency")
    depth = file.tile[0].args if isinstance(file, ImageFile.ImageFile) and file.tile else None
    if isinstance(key, int) and depth in _GRAY_SCALE:
        file.info["transparency"] = key * _GRAY_SCALE[depth]
    elif isinstance(key, tuple) and depth == "RGB;16B":
        file.info["transparency"] = tuple(part >> 8 for part in key)


def _is_animated(file: Image.Image) -> bool:
    try:
        return bool(getattr(file, "is_animated", False))
    except Exception:  # the second frame is broken: browsers show the first
        return False


def _decode_animation(file: Image.Image, size_rule: Size, settings: DecodeSettings) -> Frames:
    """Load every frame in order: in these formats, each frame builds on the one before."""
    _, flags = _read_metadata(file)
    size = resized_dimensions(size_rule, *file.size)
    start_times, time_s = [], 0.0
    covered: list[Box | None] = []  # the area that the frames so far cover
    for number in count():
        try:
            file.seek(number)
            file.load()
        except EOFError:
            break
        except Exception:  # browsers show the frames before a broken one
            if number < 2:
                raise
            flags.append("partial_video")
            break
        start_times.append(time_s)
        covered.append(_covered(file, covered[-1] if covered else None))
        frame_s = (file.info.get("duration") or 0) / 1000
        time_s += frame_s if frame_s >= _MIN_FRAME_DURATION_S else _DEFAULT_FRAME_DURATION_S
    timeline = Timeline(start_times, end=time_s)
    chosen, _ = select_frames(timeline, settings)
    pixels = []
    for number in chosen:
        file.seek(number)
        image = _hide_uncovered(file, covered[number])
        pixels.append(
            image_to_srgb(image.copy(), size, settings.background, bicubic=isinstance(size_rule, PatchBudget))
        )
    times = tuple(start_times[i] for i in chosen)
    flags += clip_length_flags(timeline, settings)
    return Frames(np.stack(pixels), times, duration_s=time_s, flags=tuple(flags), kind="clip", source_size=file.size)


def _covered(file: Image.Image, before: Box | None = None) -> Box | None:
    """The box that a GIF's frames cover, up to this one; None for the whole image."""
    box: Box | None = getattr(file, "dispose_extent", None) if file.format == "GIF" else None
    if box is None or before is None:
        return box
    return min(before[0], box[0]), min(before[1], box[1]), max(before[2], box[2]), max(before[3], box[3])


def _hide_uncovered(file: Image.Image, box: Box | None) -> Image.Image:
    """Make transparent what no frame has covered; Pillow fills it with the background color, browsers do not."""
    if box is None or box == (0, 0, *file.size):
        return file
    image = Image.new("RGBA", file.size)
    image.paste(file.crop(box).convert("RGBA"), box)
    return image


def _unreadable_reason(path: Path, errors: list[Exception]) -> str:
    """What happened and what to do. errors: of each decoder, in turn."""
    head = read_source(path, 4096)
    if not head:
        return "the file is empty: replace or remove it"
    brands = {head[at : at + 4] for at in (8, *range(16, min(int.from_bytes(head[:4]), 256), 4))}
    is_iso = head[4:8] == b"ftyp"
    is_heif = is_iso and (brands & _STILL_BRANDS or (b"meta" in head and b"moov" not in head))
    if (is_iso and not is_heif) or head[:4] in (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba") or head[8:12] == b"AVI ":
        return "this is a video with the extension of an image: rename or remove it"
    if head.lstrip()[:1] == b"<":
        return "this is a web page, not an image: download it again"
    if any("truncated" in str(error).lower() for error in errors):
        return f"the image file is truncated: {_COPY_AGAIN}"
    identified = [error for error in errors if not isinstance(error, UnidentifiedImageError)]
    reasons = [getattr(error, "strerror", None) or str(error) for error in identified[:1]]
    details = "; ".join(filter(None, [*reasons, native_log.captured()]))
    what = "cannot read this image" + (f" ({details})" if details else "")
    if is_heif:
        return f"{what}: it is damaged, or an unsupported kind of HEIF or AVIF. Re-export or replace it"
    return f"{what}: it is damaged, or in an unsupported format. Re-export, replace or remove it"
