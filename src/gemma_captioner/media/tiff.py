"""Reads TIFF files of unusual sample types with tifffile: floats, 16 to 64 bits, CIELAB, planes, big-endian BigTIFF.

Pillow reads the other ones.
"""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image, ImageCms

from ..types import Pixels
from . import tiff_codecs

tiff_codecs.install()

_ICC_PROFILE = 34675  # a tag
_MODES = {"SEPARATED": ("CMYK", 4), "CIELAB": ("LAB", 3), "YCBCR": ("YCbCr", 3)}  # Pillow mode, number of samples


def read_tiff(content: bytes) -> tuple[Image.Image, int]:
    """Decode the first page.

    Returns:
        RGB or RGBA with `info["icc_profile"]` if there is one, and the orientation as an EXIF number.

    Raises:
        Exception: any, if tifffile cannot read the page.
    """
    with tifffile.TiffFile(BytesIO(content)) as file:
        page: Any = file.pages[0]
        if page.imagewidth * page.imagelength > 2 * (Image.MAX_IMAGE_PIXELS or 1 << 62):
            raise Image.DecompressionBombError
        if page.nbytes > 1 << 32 or page.dtype is None or page.dtype.kind == "c":
            raise ValueError("samples of this type cannot be shown")
        samples = page.asarray()
        photometric = getattr(page.photometric, "name", "")
        tags = {tag.code: tag.value for tag in page.tags if tag.code in (ExifTags.Base.Orientation, _ICC_PROFILE)}
        colormap, has_alpha = page.colormap, any(int(kind) in (1, 2) for kind in page.extrasamples)
        bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * samples.dtype.itemsize
        samples = np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples
    samples = samples.reshape(*samples.shape[:2], -1)
    if photometric == "PALETTE" and colormap is not None:
        numbers = np.minimum(samples[..., 0], colormap.shape[1] - 1)
        image = Image.fromarray((colormap.T[numbers] >> 8).astype(np.uint8))
    else:
        image = _to_image(_to_eight_bit(samples, bits), photometric, has_alpha)
    if profile := tags.get(_ICC_PROFILE):
        image.info["icc_profile"] = profile
    image.format = "TIFF"
    return image, tags.get(ExifTags.Base.Orientation, 1)


def _to_eight_bit(samples: npt.NDArray[Any], bits: int) -> Pixels:
    """Integers keep their highest 8 bits; floats are 0..1, or are stretched."""
    if samples.dtype.kind == "f":
        values = np.nan_to_num(samples.astype(np.float64))
        low, high = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (values.min(), values.max())
        return ((values - low) / max(high - low, 1e-12) * 255 + 0.5).astype(np.uint8)
    if bits < 8:
        return (samples.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    if samples.dtype.kind == "i":
        samples = samples.view(f"u{samples.dtype.itemsize}") ^ samples.dtype.type(-1 << (bits - 1)).view(
            f"u{bits // 8}"
        )
    return (samples >> (bits - 8)).astype(np.uint8)


def _to_image(pixels: Pixels, photometric: str, has_alpha: bool) -> Image.Image:
    count = pixels.shape[2]
    mode, bands = _MODES.get(photometric, ("", 0))
    if mode and count >= bands:
        image = Image.frombytes(mode, pixels.shape[1::-1], pixels[..., :bands].tobytes())
        if mode != "LAB":
            return image.convert("RGB")
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    if photometric == "MINISWHITE":
        pixels = 255 - pixels
    colors = pixels[..., :3] if count >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    used = 3 if count >= 3 else 1
    if has_alpha and count > used:
        colors = np.concatenate([colors, pixels[..., used : used + 1]], axis=2)
    return Image.fromarray(np.ascontiguousarray(colors))
