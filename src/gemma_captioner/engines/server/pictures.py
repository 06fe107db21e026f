"""Frames -> JPEG or PNG, as base64."""

import base64
import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...settings import Server

MIME = {"jpeg": "image/jpeg", "png": "image/png"}


def base64_pictures(pixels: npt.NDArray[np.uint8], how: Server) -> tuple[bytes, ...]:
    """pixels: uint8 [n, height, width, 3]. One text a frame.

    Pillow lets go of the interpreter's lock while it encodes a JPEG into a file, not into memory: threads that encode
    side by side, and the one that talks to the server, need a file.
    """
    options: dict[str, Any] = {"quality": how.jpeg_quality} if how.image_format == "jpeg" else {"compress_level": 1}
    pictures = []
    with _scratch() as file:
        for frame in pixels:
            start = file.tell()
            Image.fromarray(frame).save(file, how.image_format, **options)
            size = file.tell() - start
            file.seek(start)
            pictures.append(base64.b64encode(file.read(size)))
    return tuple(pictures)


def _scratch() -> Any:
    """A file without a name, in memory where there are such; unbuffered, as Pillow writes past Python's buffer."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pictures"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
