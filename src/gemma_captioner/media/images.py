"""An image file -> what a person sees: upright, on a background where it is transparent, 8-bit sRGB.

By its content, not its name. An animated image is a clip, unless only its first frame is asked for.
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
from .sampling import Timeline, select_frames
from .settings import DecodeSettings
from .video import decode_clip

register_heif_opener()
# Pillow warns from 89.5 megapixels and refuses from 179: the refusal is ours to report, the warning is noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")  # ISO files that hold images
_ORIENTATION, _TRANSPOSED_ORIENTATIONS = 0x0112, (5, 6, 7, 8)  # EXIF
_GRAY_SCALE = {"L;2": 85, "L;4": 17}  # of a PNG's grey, brought to 0..255
_SRGB = ImageCms.createProfile("sRGB")
_MIN_FRAME_DURATION_S, _DEFAULT_FRAME_DURATION_S = (
    0.02,
    0.1,
)  # as browsers have it: what claims less than the first is shown for the second


def decode_image(path: Path, size: Size, settings: DecodeSettings, clip_size: Size | None = None) -> Frames:
    """Read `path` and resize it to `size`, or where it is animated its frames to `clip_size` (by default the same).

    Raises `ItemError` with the reason and the remedy.
    """
    try:
        with Image.open(source(path, whole=True)) as file:
            if settings.animated == "clip" and file.format in ANIMATED and getattr(file, "n_frames", 1) > 1:
                if file.format == "PNG":  # Pillow lays some of its frames on what should be gone by then
                    return decode_clip(path, clip_size or size, settings)
                return _decode_animation(file, clip_size or size, settings)
            _scale_transparent_color(file)  # before anything loads the file
            upright = _upright_size(file)
            return Frames(_decode_still(file, size, upright, settings)[None], (0.0,), source_size=upright)
    except UnidentifiedImageError:
        raise ItemError(_unreadable_reason(path)) from None
    except Image.DecompressionBombError as error:
        raise ItemError("the image has over 179 million pixels: scale it down") from error
    except FileNotFoundError as error:
        raise ItemError("the file is gone") from error
    except PermissionError as error:
        raise ItemError("no permission to read the file: mend it with chmod") from error
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
        if "truncated" in str(error).lower():
            raise ItemError("the image file is cut off: copy or download it again") from error
        raise ItemError(f"the image cannot be decoded ({error}): save it anew") from error


def _decode_still(file: Image.Image, wanted: Size, upright: tuple[int, int], settings: DecodeSettings) -> Pixels:
    size = resized_dimensions(wanted, *upright)
    use_draft = file.format == "JPEG" and not settings.exact_pixels
    if use_draft:
        # The decoder itself scales by a half, a quarter or an eighth, to no less than what is wanted.
        file.draft(None, (max(size), max(size)))
    ImageOps.exif_transpose(file, in_place=True)
    pixels = image_to_srgb(
        file, size, settings.background, exact=not use_draft, bicubic=isinstance(wanted, PatchBudget)
    )
    primaries = (file.info.get("nclx_profile") or {}).get("color_primaries")  # HEIC's own way to say it
    return pixels if primaries is None or file.info.get("icc_profile") else convert_primaries(pixels, primaries)


def _upright_size(file: Image.Image) -> tuple[int, int]:
    width, height = file.size
    return (height, width) if file.getexif().get(_ORIENTATION, 1) in _TRANSPOSED_ORIENTATIONS else (width, height)


def _scale_transparent_color(file: Image.Image) -> None:
    """A PNG's transparent colour is told in the file's depth, and Pillow's pixels may have another."""
    key = file.info.get("transparency")
    depth = file.tile[0].args if isinstance(file, ImageFile) and file.tile else None
    if isinstance(key, int) and depth in _GRAY_SCALE:
        file.info["transparency"] = key * _GRAY_SCALE[depth]
    elif isinstance(key, tuple) and depth == "RGB;16B":
        file.info["transparency"] = tuple(part >> 8 for part in key)


def _decode_animation(file: Image.Image, wanted: Size, settings: DecodeSettings) -> Frames:
    """Every frame is loaded once for its duration and its picture: these formats build each on the one before."""
    size = resized_dimensions(wanted, *file.size)
    start_times, at = [], 0.0
    for number in range(getattr(file, "n_frames", 1)):
        file.seek(number)
        file.load()
        start_times.append(at)
        shown = (file.info.get("duration") or 0) / 1000
        at += shown if shown >= _MIN_FRAME_DURATION_S else _DEFAULT_FRAME_DURATION_S
    chosen, _ = select_frames(Timeline(start_times, end=at), settings)
    pixels = []
    for number in chosen:
        file.seek(number)
        pixels.append(image_to_srgb(file.copy(), size, settings.background, bicubic=isinstance(wanted, PatchBudget)))
    times = tuple(start_times[i] for i in chosen)
    return Frames(np.stack(pixels), times, duration_s=at, kind="clip", source_size=file.size)


def image_to_srgb(
    image: Image.Image, size: tuple[int, int], background: str, *, exact: bool = True, bicubic: bool = False
) -> Pixels:
    """Any Pillow mode -> uint8 [height, width, 3], sRGB by the image's own profile. Resized before the costly parts.

    exact: in one pass over all pixels; else halves and thirds come first, which are cheap.
    """
    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    profile = image.info.get("icc_profile")
    image = _to_eight_bit(image)
    if image.has_transparency_data:
        if profile and image.mode in ("L", "LA"):  # the profile is one for grey
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
    """16-bit and floating-point greys scaled to 8 bits, which Pillow's own conversion would clip."""
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
    """Through the embedded ICC profile to sRGB; a profile that is junk, or for another colour space, is ignored."""
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
    if (
        (head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS)
        or head[:4] in (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba")
        or head[8:12] == b"AVI "
    ):
        return "this is a video under an image's name: rename it, or remove it"
    if head.lstrip()[:1] == b"<":
        return "this is a web page, not an image: download it again"
    return "this is no image that can be read: replace or remove it"
