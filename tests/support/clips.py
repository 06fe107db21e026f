"""Clips whose frames show their own number, so that a test can identify a frame."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 10
PIXEL_FORMATS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}


def numbered_frame(number: int, width: int = 160, height: int = 64) -> np.ndarray:
    """Draw a frame whose upper half shows `number` in binary, as white and black fields from left to right."""
    frame = np.full((height, width, 3), 128, np.uint8)
    field = width // BITS
    for bit in range(BITS):
        frame[: height // 2, bit * field : (bit + 1) * field] = 255 if number >> bit & 1 else 0
    return frame


def frame_number(frame: np.ndarray) -> int:
    field = frame.shape[1] // BITS
    fields = [frame[2 : frame.shape[0] // 2 - 2, i * field + 2 : (i + 1) * field - 2].mean() for i in range(BITS)]
    return sum(1 << bit for bit, brightness in enumerate(fields) if brightness > 128)


def write(
    path: Path, times: list[int], *, rate: int = 24, codec: str = "libx264", gop: int = 12, options=(), pix_fmt=None
) -> Path:
    """Write a clip of numbered frames. times: presentation times in units of 1 / rate seconds."""
    with av.open(str(path), "w") as container:
        settings = {"g": str(gop)} if codec not in ("mjpeg", "prores_ks") else {}
        stream = container.add_stream(codec, rate=rate, options={**settings, **dict(options)})
        stream.width, stream.height = 160, 64
        stream.pix_fmt = pix_fmt or PIXEL_FORMATS.get(codec, "yuv420p")
        stream.codec_context.time_base = Fraction(1, rate)
        for number, pts in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Overwrite the display matrix [[a, b], [c, d]] in the track header of an mp4."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(content)
    return path
