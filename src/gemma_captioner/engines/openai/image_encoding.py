"""Encodes frames as base64 JPEG or PNG."""

import base64
import io

import simplejpeg
from PIL import Image

from ...config.model import ServerSettings
from ...types import Frames, Pixels

MIME = {"jpeg": "image/jpeg", "png": "image/png"}


def encode_images(frames: Frames, settings: ServerSettings) -> tuple[bytes, ...]:
    """Encode the pixels to one base64 text per frame. A JPEG file that came with them is sent as it is."""
    if frames.jpeg is not None and settings.image_format == "jpeg":
        return (base64.b64encode(frames.jpeg),)
    return tuple(_encode_image(frame, settings) for frame in frames.pixels)


def _encode_image(frame: Pixels, settings: ServerSettings) -> bytes:
    if settings.image_format == "jpeg":
        # simplejpeg releases the GIL while it encodes; Pillow does not.
        return base64.b64encode(simplejpeg.encode_jpeg(frame, settings.jpeg_quality, colorsubsampling="420"))
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png", compress_level=1)
    return base64.b64encode(buffer.getbuffer())
