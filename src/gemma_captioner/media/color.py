"""Converts a decoded video frame to upright 8-bit sRGB at the requested size.

HDR frames (PQ, HLG) are resized at 16 bits, then converted to sRGB with lookup tables and a matrix. HDR reference white
(203 nits, ITU-R BT.2408) maps to sRGB white. Brighter values are compressed above a knee. Skin tones lie far below the
knee, so they keep their brightness and hue.
"""

from fractions import Fraction
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from PIL import Image

from ..types import Pixels

Floats: TypeAlias = npt.NDArray[np.float32]

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_WHITE_NITS, _KNEE = 203.0, 0.7
_BT2020_TO_709 = np.array(  # linear light, ITU-R BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_P3_TO_709 = np.array(  # linear light, D65 white point in both
    [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32
)
_TO_SRGB = {int(ColorPrimaries.BT2020): _BT2020_TO_709, int(ColorPrimaries.SMPTE432): _P3_TO_709}
_GAMMAS = {int(ColorTrc.GAMMA22): 2.2, int(ColorTrc.GAMMA28): 2.8, int(ColorTrc.LINEAR): 1.0}
# By default swscale rounds every value down, by one level or more on average. These flags make it exact.
_ACCURATE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
ACCURATE_FLAGS = Interpolation.BILINEAR | _ACCURATE
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


def frame_to_srgb(
    frame: VideoFrame,
    size: tuple[int, int],
    background: str,
    reformatter: VideoReformatter,
    *,
    exact: bool = False,
    bicubic: bool = False,
    peak_nits: float | None = None,
) -> Pixels:
    """Deinterlace, rotate, flatten, convert and resize a frame.

    Args:
        size: (width, height) of the result.
        background: color that shows through transparent pixels.
        reformatter: shared by all frames of a clip. A reformatter per frame would keep its threads until collected.
        peak_nits: of an HDR image, which is shown as in Chromium; None for a clip, which keeps the brightness of skin.
        exact: convert at full size, then resize. Otherwise one step does both (mean difference 0.2 of 255, tested).

    Returns:
        uint8 [height, width, 3].
    """
    transposed, flip_down, flip_right = _orientation(frame)
    width, height = reversed(size) if transposed else size
    scaler = Interpolation.BICUBIC if bicubic else Interpolation.BILINEAR
    if _is_hdr(frame):
        pixels = hdr_to_srgb(
            np.asarray(_reformat(frame, "rgb48le", (width, height), reformatter, scaler), np.uint16),
            int(frame.color_primaries),
            int(frame.color_trc),
            peak_nits,
        )
    else:
        at_full_size = exact or frame.interlaced_frame or _has_alpha(frame)
        pixels = _from_sdr(frame, None if at_full_size else (width, height), background, reformatter, scaler)
    if transposed:
        pixels = pixels.transpose(1, 0, 2)
    pixels = np.ascontiguousarray(pixels[:: -1 if flip_down else 1, :: -1 if flip_right else 1])
    if pixels.shape[1::-1] != size:
        resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        pixels = np.asarray(Image.fromarray(pixels).resize(size, resample))
    return pixels if _is_hdr(frame) else convert_primaries(pixels, int(frame.color_primaries))


def convert_primaries(pixels: Pixels, primaries: int, transfer: int = 2) -> Pixels:
    """Convert Display P3, BT.2020, linear light and gamma 2.2 and 2.8 to sRGB; other pixels are returned unchanged.

    primaries, transfer: numbers of ITU-T H.273.
    """
    matrix, gamma = _TO_SRGB.get(primaries), _GAMMAS.get(transfer)
    if matrix is None and gamma is None:
        return pixels
    table = ((np.arange(256) / 255) ** gamma).astype(np.float32) if gamma else srgb_to_linear()
    return linear_to_srgb(table[pixels] if matrix is None else table[pixels] @ matrix.T)


def linear_to_srgb(linear: Floats) -> Pixels:
    """Encode linear light (1 = white); values outside 0..1 are clipped."""
    return np.asarray(_gamma_table()[(np.clip(linear, 0, 1) * 65535 + 0.5).astype(np.uint16)], np.uint8)


def upright_size(frame: VideoFrame, aspect: Fraction | None, *, even: bool = True) -> tuple[int, int]:
    """(width, height) as displayed, with square pixels. aspect: pixel width / height. even: as encoders require."""
    width, height = round(frame.width * float(aspect or 1)), frame.height
    if _orientation(frame)[0]:
        width, height = height, width
    return (max(2, width & ~1), max(2, height & ~1)) if even else (width, height)


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then flip vertically, flip horizontally), from the container's display matrix.

    The matrix [[a, b], [c, d]] maps x to (a x, b x) and y to (c y, d y); y points down.
    """
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know each type of side data; then it gives the rotation, without flips
        turned = frame.rotation
        return abs(turned) == 90, turned in (-90, 180, -180), turned in (90, 180, -180)
    if data is None:
        return False, False, False
    a, b, _, c, d = np.rint(np.frombuffer(data, "<i4")[:5] / 2**16)  # 16.16 fixed point; rounding removes noise
    if a == 0 and d == 0:
        return True, bool(b < 0), bool(c < 0)
    return False, bool(d < 0), bool(a < 0)


def _matrix(frame: VideoFrame) -> int:
    """The color matrix. If unspecified, it follows players: BT.709 from 720 lines, BT.601 below."""
    if frame.colorspace != _UNSPECIFIED:
        return int(frame.colorspace)
    return int(Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601)


def _is_hdr(frame: VideoFrame) -> bool:
    return frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def _has_alpha(frame: VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _reformat(
    frame: VideoFrame, pix_fmt: str, size: tuple[int, int] | None, reformatter: VideoReformatter, scaler: Interpolation
) -> npt.NDArray[Any]:
    """size: (width, height); None keeps the frame's size."""
    flags = scaler | _ACCURATE if pix_fmt != "rgb48le" else scaler  # swscale gets rgb48le wrong with full chroma
    options: dict[str, Any] = {"threads": 1}  # parallelism is per file
    if not frame.format.is_rgb:
        options |= {"src_colorspace": _matrix(frame), "src_color_range": int(frame.color_range)}
    if size is not None:
        options |= {"width": size[0], "height": size[1]}
    return reformatter.reformat(frame, format=pix_fmt, interpolation=flags, **options).to_ndarray()


def _from_sdr(
    frame: VideoFrame,
    size: tuple[int, int] | None,
    background: str,
    reformatter: VideoReformatter,
    scaler: Interpolation,
) -> Pixels:
    has_alpha = _has_alpha(frame)
    pixels = np.asarray(_reformat(frame, "rgba" if has_alpha else "rgb24", size, reformatter, scaler), np.uint8)
    if (
        frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG
    ):  # swscale takes gray as full range
        pixels = _expand_limited_range(pixels)
    if frame.interlaced_frame:
        pixels = np.ascontiguousarray(pixels[::2])  # keep one field: an interlaced frame holds two moments
    if has_alpha:
        rgba = Image.fromarray(pixels)
        pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB"))
    return pixels


def _expand_limited_range(pixels: Pixels) -> Pixels:
    """# 16 -> 0, 235 -> 255"""
    table = np.clip((np.arange(256) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(table[pixels])


def hdr_to_srgb(
    signal: npt.NDArray[np.uint16], primaries: int, transfer: int, peak_nits: float | None = None
) -> Pixels:
    """Convert PQ or HLG, uint16 [..., 3]. For primaries and transfer see `convert_primaries`, for peak_nits above."""
    if transfer == ColorTrc.SMPTE2084:
        light = _pq_table()[signal]
    else:
        light = _hlg_table()[signal]
        light = light * (light @ _LUMA_2020)[..., None] ** 0.2 * np.float32(1000 / _WHITE_NITS)  # system gamma 1.2
    to_srgb = _TO_SRGB.get(primaries, _BT2020_TO_709)
    if primaries == ColorPrimaries.BT709 or (primaries == _UNSPECIFIED and peak_nits is not None):
        to_srgb = np.eye(3, dtype=np.float32)
    if peak_nits is not None:
        peak = (light @ (np.linalg.inv(_BT2020_TO_709) @ to_srgb).T).max(axis=-1, keepdims=True)
        light *= _reference_white_tone_map(peak, peak_nits / _WHITE_NITS) / np.maximum(peak, 1e-6)
        return linear_to_srgb(light @ to_srgb.T)
    linear = np.clip(light @ to_srgb.T, 0, None)
    peak = linear.max(axis=-1, keepdims=True)
    linear *= _roll_off_highlights(peak) / np.maximum(peak, 1e-6)
    return linear_to_srgb(linear)


def _reference_white_tone_map(x: Floats, top: float) -> Floats:
    """The Reference White Tone Mapping Operator of SMPTE ST 2094-50, for a display without headroom.

    x: the largest of linear R, G, B in BT.2020 (1 = reference white). top: that of the brightest pixel, becoming 1.
    Reference white becomes 0.5 if `top` is 1000 nits or more, and more if it is less. A quadratic Bezier curve joins
    both.
    """
    if top <= 1:
        return np.clip(x, 0, 1)
    white = 1 - 0.5 * min(np.log(top) / np.log(1000 / _WHITE_NITS), 1)
    middle_x, middle_y = 0.35 + 0.65 / white, 0.35 * white + 0.65
    a, b = 1 - 2 * middle_x + top, 2 * middle_x - 2
    beyond = np.clip(x, 1, top) - 1
    t = 2 * beyond / (b + np.sqrt(np.maximum(b * b + 4 * a * beyond, 1e-9)))  # solves a t^2 + b t = beyond
    curve = white + t * (2 * (middle_y - white) + t * (white - 2 * middle_y + 1))
    return np.asarray(np.where(x <= 1, x * white, curve), np.float32)


def _roll_off_highlights(x: Floats) -> Floats:
    """Compress linear light (1 = white): unchanged up to the knee, then toward 1 with a continuous slope."""
    above = (np.maximum(x, _KNEE) - _KNEE) / (1 - _KNEE)
    return np.where(x <= _KNEE, x, _KNEE + (1 - _KNEE) * above / (1 + above))


@cache
def _pq_table() -> Floats:
    """16-bit signal -> linear light (1 = white), SMPTE ST 2084."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    e = (np.arange(65536) / 65535) ** (1 / m2)
    nits = 10_000 * (np.maximum(e - c1, 0) / (c2 - c3 * e)) ** (1 / m1)
    return (nits / _WHITE_NITS).astype(np.float32)


@cache
def _hlg_table() -> Floats:
    """16-bit signal -> scene light 0..1, ARIB STD-B67."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    e = np.arange(65536) / 65535
    return np.where(e <= 0.5, e**2 / 3, (np.exp((e - c) / a) + b) / 12).astype(np.float32)


@cache
def srgb_to_linear() -> Floats:
    """A table: 8-bit sRGB -> linear light 0..1, IEC 61966-2-1."""
    x = np.arange(256) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


@cache
def _gamma_table() -> Pixels:
    """16-bit linear light -> 8-bit sRGB, IEC 61966-2-1."""
    x = np.arange(65536) / 65535
    y = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)
    return (y * 255 + 0.5).astype(np.uint8)
