"""Frames -> JPEG or PNG, as base64."""

import base64
import io
from typing import Any

from PIL import Image

from ...config.model import ServerSettings
from ...types import Pixels

MIME = {"jpeg": "image/jpeg", "png": "image/png"}


def base64_pictures(pixels: Pixels, how: ServerSettings) -> tuple[bytes, ...]:
    """pixels: uint8 [n, height, width, 3]. One text a frame. Lets other threads run while it encodes."""
    options: dict[str, Any] = {"quality": how.jpeg_quality} if how.image_format == "jpeg" else {"compress_level": 1}
    return tuple(_encoded(frame, how.image_format, options) for frame in pixels)


def _encoded(frame: Pixels, image_format: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, image_format, **options)
    return base64.b64encode(file.getbuffer())
