"""Converts a Pillow image of any mode to 8-bit sRGB at the requested size, as the file declares its colors."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from ..types import Pixels
from .color import linear_to_srgb

_srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
_srgb[8:12] = b"\2\x40\0\0"  # version 2.4: LittleCMS always compensates the black point for version 4
_SRGB: Any = ImageCms.ImageCmsProfile(io.BytesIO(_srgb))
_SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue: x and y each
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def image_to_srgb(
    image: Image.Image, size: tuple[int, int], background: str, *, exact: bool = True, bicubic: bool = False
) -> Pixels:
    """Convert an image to sRGB through its ICC profile, or a PNG's gamma and chromaticities, and resize it.

    Args:
        size: (width, height) of the result.
        exact: resize in one pass over all pixels; otherwise a cheap integer reduction comes first.
        bicubic: resample bicubically, as Gemma 4 does; otherwise bilinearly.

    Returns:
        uint8 [height, width, 3].
    """
    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    info = image.info
    image = _to_eight_bit(image)
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if image.mode in ("LA", "RGBA"):  # a profile describes colors without alpha
            image = image.convert(image.mode[:-1])
        if alpha.getextrema() != (255, 255):
            image = _to_srgb(image, info)  # before it is blended
            image.putalpha(alpha)
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
            info = {}
    if image.mode not in ("RGB", "CMYK", "L") or not info.get("icc_profile"):
        image = _as_rgb(image)
    image = image.resize(size, resample, reducing_gap=None if exact else 1.0)
    return np.asarray(_to_srgb(image, info))


def _to_srgb(image: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Return an RGB image."""
    if profile := info.get("icc_profile"):
        image = image if image.mode in ("RGB", "CMYK", "L") else image.convert("RGB")
        return _as_rgb(_apply_icc_profile(image, profile))
    return _apply_png_gamma(_as_rgb(image), info)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB. Pillow would copy an image that is RGB already."""
    return image if image.mode == "RGB" else image.convert("RGB")


def is_valid_profile(profile: bytes | None) -> bool:
    """None: Pillow could not read the profile."""
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    return True


def is_srgb_profile(profile: bytes) -> bool:
    """Return whether the profile says that it is sRGB. False if it cannot be read."""
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).startswith("sRGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False


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
    if image.mode == "RGB" and is_srgb_profile(profile):
        return image
    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # Closest to Chromium: it uses the perceptual table of an RGB profile; that of a CMYK profile would be too dark.
        intents = ImageCms.Intent
        intent = intents.RELATIVE_COLORIMETRIC if image.mode == "CMYK" else intents.PERCEPTUAL
        converted = ImageCms.profileToProfile(image, source, _SRGB, renderingIntent=intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image


def _apply_png_gamma(image: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Convert by a PNG's gAMA and cHRM chunks, as browsers do if it has neither an ICC profile nor an sRGB chunk."""
    gamma, chromaticities = info.get("gamma"), info.get("chromaticity")
    if not gamma or "srgb" in info:
        return image
    table = ((np.arange(256) / 255) ** (1 / gamma)).astype(np.float32)
    matrix = _rgb_to_srgb(chromaticities or _SRGB_CHROMATICITIES)
    if matrix is None or np.abs(matrix - np.eye(3)).max() < 0.02:
        return image.point(linear_to_srgb(table).tolist() * 3)
    return Image.fromarray(linear_to_srgb(table[np.asarray(image)] @ matrix.T.astype(np.float32)))


def _rgb_to_srgb(chromaticities: tuple[float, ...]) -> npt.NDArray[np.float64] | None:
    """float64 [3, 3], linear RGB to linear sRGB; None if the chromaticities are impossible."""
    try:
        to_xyz = [_rgb_to_xyz(each) for each in (chromaticities, _SRGB_CHROMATICITIES)]
        whites = [_BRADFORD @ matrix.sum(axis=1) for matrix in to_xyz]
        adapt = np.linalg.inv(_BRADFORD) @ np.diag(whites[1] / whites[0]) @ _BRADFORD
        found = np.linalg.inv(to_xyz[1]) @ adapt @ to_xyz[0]
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    return found if np.isfinite(found).all() else None


def _rgb_to_xyz(chromaticities: tuple[float, ...]) -> npt.NDArray[np.float64]:
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in np.reshape(chromaticities, (4, 2)))
    columns = np.stack(primaries, axis=1)
    return columns * np.linalg.solve(columns, white)
