"""Encodes frames as base64 JPEG or PNG, and sound as base64 WAV."""

import base64
import io
import wave

import numpy as np
import simplejpeg
from PIL import Image

from ...config.model import ServerSettings
from ...types import Audio, Frames, Pixels

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


def encode_sound(audio: Audio) -> bytes:
    """Encode the samples to the base64 text of a WAV file with 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.rate)
        file.writeframes(np.round(audio.samples * 32767).astype("<i2").tobytes())
    return base64.b64encode(buffer.getbuffer())
