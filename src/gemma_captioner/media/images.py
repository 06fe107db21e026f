"""Decodes an image file to upright 8-bit sRGB and flattens transparency onto a background color.

The content decides the format, not the file name. An animated image is a clip, unless `animated` is "first".
"""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from pillow_heif import register_heif_opener

from ..errors import ItemError
from ..storage.filesystem import source
from ..types import Frames, PatchBudget, Pixels, Size, resized_dimensions
from .color import convert_primaries
from .sampling import Timeline, length_flags, select_frames
from .settings import DecodeSettings
from .video import decode_clip

register_heif_opener()
# Pillow warns above 89.5 megapixels and raises above 179. The error is reported; the warning is noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")  # ISO media files that hold images
_ORIENTATION, _TRANSPOSED_ORIENTATIONS = 0x0112, (5, 6, 7, 8)  # EXIF
_GRAY_SCALE = {"L;2": 85, "L;4": 17}  # PNG gray levels -> 0..255
_SRGB = ImageCms.createProfile("sRGB")
# Like browsers: a frame with a duration below the minimum is shown for the default duration.
_MIN_FRAME_DURATION_S, _DEFAULT_FRAME_DURATION_S = 0.02, 0.1


def decode_image(path: Path, size: Size, settings: DecodeSettings, clip_size: Size | None = None) -> Frames:
    """Decode `path` at `size`; the frames of an animated image at `clip_size` (default `size`).

    Raises:
        ItemError: the file cannot be decoded.
    """
    try:
        with Image.open(source(path, whole=True)) as file:
            if settings.animated == "clip" and file.format in ANIMATED and getattr(file, "n_frames", 1) > 1:
                if file.format == "PNG":  # Pillow composes some APNG frames wrongly: it keeps disposed content
                    return decode_clip(path, clip_size or size, settings)
                return _decode_animation(file, clip_size or size, settings)
            _scale_transparent_color(file)  # must run before the file is loaded
            upright = _upright_size(file)
            return Frames(_decode_still(file, size, upright, settings)[None], (0.0,), source_size=upright)
    except UnidentifiedImageError:
        raise ItemError(_unreadable_reason(path)) from None
    except Image.DecompressionBombError as error:
        raise ItemError("the image has more than 179 million pixels: scale it down") from error
    except FileNotFoundError as error:
        raise ItemError("the file no longer exists: restore it and run again") from error
    except PermissionError as error:
        raise ItemError("no permission to read the file: grant read access (chmod +r)") from error
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
        if "truncated" in str(error).lower():
            raise ItemError("the image file is truncated: copy or download it again") from error
        raise ItemError(f"cannot decode this image ({error}): re-export or replace it") from error


def _decode_still(file: Image.Image, wanted: Size, upright: tuple[int, int], settings: DecodeSettings) -> Pixels:
    size = resized_dimensions(wanted, *upright)
    use_draft = file.format == "JPEG" and not settings.exact_pixels
    if use_draft:
        # The decoder scales to 1/2, 1/4 or 1/8, never below the target size.
        file.draft(None, (max(size), max(size)))
    ImageOps.exif_transpose(file, in_place=True)
    pixels = image_to_srgb(
        file, size, settings.background, exact=not use_draft, bicubic=isinstance(wanted, PatchBudget)
    )
    primaries = (file.info.get("nclx_profile") or {}).get("color_primaries")  # HEIC files without an ICC profile
    return pixels if primaries is None or file.info.get("icc_profile") else convert_primaries(pixels, primaries)


def _upright_size(file: Image.Image) -> tuple[int, int]:
    width, height = file.size
    return (height, width) if file.getexif().get(_ORIENTATION, 1) in _TRANSPOSED_ORIENTATIONS else (width, height)


def _scale_transparent_color(file: Image.Image) -> None:
    """Scale a PNG's transparent color from the bit depth of the file to that of Pillow's pixels."""
    key = file.info.get("transparency")
    depth = file.tile[0].args if isinstance(file, ImageFile) and file.tile else None
    if isinstance(key, int) and depth in _GRAY_SCALE:
        file.info["transparency"] = key * _GRAY_SCALE[depth]
    elif isinstance(key, tuple) and depth == "RGB;16B":
        file.info["transparency"] = tuple(part >> 8 for part in key)


def _decode_animation(file: Image.Image, wanted: Size, settings: DecodeSettings) -> Frames:
    """Load every frame in order: in these formats, each frame builds on the one before."""
    size = resized_dimensions(wanted, *file.size)
    start_times, time_s = [], 0.0
    for number in range(getattr(file, "n_frames", 1)):
        file.seek(number)
        file.load()
        start_times.append(time_s)
        frame_s = (file.info.get("duration") or 0) / 1000
        time_s += frame_s if frame_s >= _MIN_FRAME_DURATION_S else _DEFAULT_FRAME_DURATION_S
    timeline = Timeline(start_times, end=time_s)
    chosen, _ = select_frames(timeline, settings)
    pixels = []
    for number in chosen:
        file.seek(number)
        pixels.append(image_to_srgb(file.copy(), size, settings.background, bicubic=isinstance(wanted, PatchBudget)))
    times = tuple(start_times[i] for i in chosen)
    flags = length_flags(timeline, settings)
    return Frames(np.stack(pixels), times, duration_s=time_s, flags=flags, kind="clip", source_size=file.size)


def image_to_srgb(
    image: Image.Image, size: tuple[int, int], background: str, *, exact: bool = True, bicubic: bool = False
) -> Pixels:
    """Convert an image of any Pillow mode to sRGB through its ICC profile, and resize it.

    Args:
        size: (width, height) of the result.
        exact: resize in one pass over all pixels; otherwise a cheap integer reduction comes first.

    Returns:
        uint8 [height, width, 3].
    """
    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    profile = image.info.get("icc_profile")
    image = _to_eight_bit(image)
    if image.has_transparency_data:
        if profile and image.mode in ("L", "LA"):  # a gray profile cannot convert RGB
            alpha = image.convert("LA").getchannel("A")
            image = _apply_icc_profile(image.convert("L"), profile).convert("RGB")
            image.putalpha(alpha)
            profile = None
        image = image.convert("RGBA")
        background_image = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(background_image, image).convert("RGB")
    if image.mode != "RGB" and (image.mode not in ("CMYK", "L") or not profile):
        image = image.convert("RGB")
    image = image.resize(size, resample, reducing_gap=None if exact else 1.0)
    if profile:
        image = _apply_icc_profile(image, profile)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit and floating-point gray to 8 bits; Pillow's conversion would clip it."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = np.asarray(image).astype(np.uint32)
        gray = Image.fromarray((values >> 8).astype(np.uint8))
        if isinstance(key := image.info.get("transparency"), int):
            gray.putalpha(Image.fromarray(np.uint8(values != key) * 255))
        return gray
    if image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        low, high = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (values.min(), values.max())
        return Image.fromarray(np.uint8((values - low) / max(high - low, 1e-12) * 255 + 0.5))
    return image


def _apply_icc_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert to sRGB with the embedded ICC profile. An invalid or mismatched profile is ignored."""
    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and ImageCms.getProfileDescription(source).startswith("sRGB"):
            return image
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image


def _unreadable_reason(path: Path) -> str:
    found = source(path, whole=True)
    with open(found, "rb") if isinstance(found, str) else found as file:
        head = file.read(16)
    if not head:
        return "the file is empty: replace or remove it"
    is_mp4 = head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS
    if is_mp4 or head[:4] in (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba") or head[8:12] == b"AVI ":
        return "this is a video with the extension of an image: rename or remove it"
    if head.lstrip()[:1] == b"<":
        return "this is a web page, not an image: download it again"
    return "cannot read this image: it may be damaged or in an unsupported format. Replace or remove it"
