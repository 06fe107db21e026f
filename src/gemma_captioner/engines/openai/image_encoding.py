"""Encodes frames as base64 JPEG or PNG."""

import base64
import io
from typing import Any

from PIL import Image

from ...config.model import ServerSettings
from ...types import Pixels

MIME = {"jpeg": "image/jpeg", "png": "image/png"}


def encode_images(pixels: Pixels, settings: ServerSettings) -> tuple[bytes, ...]:
    """Encode pixels, uint8 [n, height, width, 3], to one base64 text per frame. Releases the GIL while encoding."""
    options: dict[str, Any] = (
        {"quality": settings.jpeg_quality} if settings.image_format == "jpeg" else {"compress_level": 1}
    )
    return tuple(_encode_image(frame, settings.image_format, options) for frame in pixels)


def _encode_image(frame: Pixels, image_format: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, image_format, **options)
    return base64.b64encode(buffer.getbuffer())
