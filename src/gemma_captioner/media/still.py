"""Decodes a still image with FFmpeg, for files that Pillow refuses: AVIF with alpha or unusual boxes, HDR.

A second stream of gray frames is the alpha channel. Tile grids are refused: FFmpeg gives their tiles one by one.
"""

import re
from itertools import islice
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from ..storage.filesystem import read_source
from ..types import Frames, PatchBudget, Size, resized_dimensions
from .color import frame_to_srgb, upright_size
from .container import open_container
from .settings import DecodeSettings

_ANIMATIONS = ("gif", "apng")
HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def decode_still(path: Path, size: Size, settings: DecodeSettings) -> Frames:
    """Decode the first frame of an image file.

    Raises:
        ValueError, av.error.FFmpegError: not an image that FFmpeg reads.
    """
    with open_container(path) as container:
        if not _holds_image(container):
            raise ValueError("not an image")
        color, alpha = _streams(container)
        if color.codec_context.width * color.codec_context.height > 2 * (Image.MAX_IMAGE_PIXELS or 0):
            raise Image.DecompressionBombError
        frame, *rest = _first_frames(container, [color] if alpha is None else [color, alpha])
    if frame.color_trc in HDR and any(component.is_alpha for component in frame.format.components):
        raise ValueError("HDR with an alpha channel in one stream, which is not supported")
    peak = peak_nits(path) if frame.color_trc in HDR else None
    upright = upright_size(frame, None, even=False)
    width, height = resized_dimensions(size, *upright)
    bicubic, reformatter = isinstance(size, PatchBudget), VideoReformatter()
    if not rest:
        pixels = frame_to_srgb(
            frame,
            (width, height),
            settings.background,
            reformatter,
            exact=settings.exact_pixels,
            bicubic=bicubic,
            peak_nits=peak,
        )
    else:
        color_layer = frame_to_srgb(frame, upright, settings.background, reformatter, exact=True, peak_nits=peak)
        layer = Image.fromarray(color_layer)
        opacity = frame_to_srgb(rest[0], upright, settings.background, VideoReformatter(), exact=True)
        layer.putalpha(Image.fromarray(np.ascontiguousarray(opacity[..., 0])))
        flat = Image.alpha_composite(Image.new("RGBA", upright, settings.background), layer).convert("RGB")
        resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        pixels = np.asarray(flat.resize((width, height), resample))
    return Frames(pixels[None], (0.0,), source_size=upright)


def color_tags(path: Path) -> tuple[int, int]:
    """(color primaries, transfer function) of an AVIF or PNG file, as numbers of ITU-T H.273; 2 if unknown."""
    try:
        with open_container(path) as container:
            context = container.streams.video[0].codec_context
            return int(context.color_primaries), int(context.color_trc)
    except (FFmpegError, OSError, ValueError, IndexError):
        return 2, 2


def peak_nits(path: Path) -> float:
    """The luminance of the brightest pixel that the file states, or that of the mastering display; else 1000."""
    head = read_source(path, 4096)
    for pattern, unit in ((rb"clli(..)", 1.0), (rb"cLLI(....)", 1e-4), (rb"m[dD][cC][vV].{16}(....)", 1e-4)):
        found = re.search(pattern, head, re.DOTALL)
        if found is not None and int.from_bytes(found[1]):
            return int.from_bytes(found[1]) * unit
    return 1000.0


def is_animation(path: Path) -> bool:
    """Whether FFmpeg reads the file as an animated image (GIF, APNG) of several frames."""
    with open_container(path) as container:
        if container.format.name not in _ANIMATIONS:
            return False
        return sum(packet.size > 0 for packet in islice(container.demux(video=0), 2)) > 1


def _holds_image(container: InputContainer) -> bool:
    """Whether the file is one that FFmpeg opens as an image, or an ISO media file with one frame."""
    name = container.format.name
    return (
        name in _ANIMATIONS
        or name.endswith("_pipe")
        or ("mp4" in name and all(s.frames == 1 for s in container.streams.video))
    )


def _streams(container: InputContainer) -> tuple[VideoStream, VideoStream | None]:
    """The primary image and its alpha channel."""
    streams = list(container.streams.video)
    if any(stream.disposition & Disposition.dependent for stream in streams):
        raise ValueError("a grid of tiles, which is not supported")
    primary = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    shape = (primary.codec_context.width, primary.codec_context.height)
    for stream in streams:
        context = stream.codec_context
        if stream is not primary and (context.width, context.height) == shape and "gray" in (context.pix_fmt or ""):
            return primary, stream
    return primary, None


def _first_frames(container: InputContainer, streams: list[VideoStream]) -> list[VideoFrame]:
    """The first frame of each stream."""
    frames: dict[int, VideoFrame] = {}
    for stream in streams:
        context: VideoCodecContext = stream.codec_context
        context.thread_count = 1  # parallelism is per file
        context.options = {"err_detect": "explode"}  # no partial pictures
    for packet in container.demux(*streams):
        for frame in packet.decode():
            if isinstance(frame, VideoFrame) and not frame.is_corrupt:
                frames.setdefault(packet.stream_index, frame)
        if len(frames) == len(streams):
            return [frames[stream.index] for stream in streams]
    raise ValueError("no frame could be decoded")
