"""Draws media like those of cameras: 12 MP JPEG, 1080p H.264 and 4K HEVC clips of 5 s, and long H.264 clips.

The drawings have detail at every scale, as photographs do (a 1/f spectrum). Clips pan over them. Only a few files are
drawn; the rest are copies, because all of them cost the same to read.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

DISTINCT = 4
PHOTO = (4032, 3024)
SECONDS, RATE = 5, 30
GRAIN = 7  # in levels; gives files the size of a camera's files
CLIPS = {
    "libx264": ((1920, 1080), {"preset": "veryfast"}),
    "libx265": ((3840, 2160), {"preset": "ultrafast", "crf": "24"}),
}


def texture(width: int, height: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return uint8 [height, width, 3]: a sum of noise at all scales. Coarser noise is stronger."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    cell = 1
    while cell < min(width, height):
        grid = rng.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(grid[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(layer) * cell**0.8
        cell *= 2
    total = (total - total.mean()) / total.std()
    return np.clip(128 + 52 * total, 0, 255).astype(np.uint8)


def photo(path: Path, seed: int) -> None:
    """Write a 12 MP JPEG of quality 92, about 5 MB."""
    grain = np.random.default_rng(seed).integers(-GRAIN, GRAIN + 1, (PHOTO[1], PHOTO[0], 1), np.int16)
    Image.fromarray(np.clip(texture(*PHOTO, seed) + grain, 0, 255).astype(np.uint8)).save(path, quality=92)


def clip(path: Path, seed: int, codec: str) -> None:
    """Write 5 s at 30 frames/s with at most 250 frames between keyframes, and the encoder's default B-frames."""
    (width, height), options = CLIPS[codec]
    ground = texture(width + 4 * SECONDS * RATE, height, seed)
    with av.open(str(path), "w") as container:
        options = options | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        rng = np.random.default_rng(seed)
        grain = rng.integers(-GRAIN, GRAIN + 1, (height + 64, width + 64, 1), np.int16)
        for number in range(SECONDS * RATE):
            x, y = rng.integers(0, 64, 2)  # new grain in every frame, as from a sensor
            frame = ground[:, 4 * number : 4 * number + width] + grain[y : y + height, x : x + width]
            frame = np.clip(frame, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def long_clip(folder: Path, seconds: int, width: int, height: int) -> Path:
    """Write H.264 at 30 frames/s with at most 250 frames between keyframes: a square moves over still noise."""

    def draw(path: Path, seed: int) -> None:
        noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        ground = noise.repeat(8, 0).repeat(8, 1)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": "250"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(seconds * RATE):
                frame = ground.copy()
                x = number * 4 % (width - 64)
                frame[40:104, x : x + 64] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    folder.mkdir(parents=True, exist_ok=True)
    _fill(folder, f"long-{seconds}s", ".mp4", 1, draw)
    return folder / f"long-{seconds}s-0000.mp4"


def fill(folder: Path, *, photos: int = 0, clips: int = 0, codec: str = "libx264") -> Path:
    """Fill `folder` with this number of files of each kind. Existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    _fill(folder, "photo", ".jpg", photos, photo)
    _fill(folder, f"clip-{codec}", ".mp4", clips, lambda path, seed: clip(path, seed, codec))
    return folder


def _fill(folder: Path, stem: str, suffix: str, count: int, draw: Callable[[Path, int], None]) -> None:
    for number in range(count):
        path = folder / f"{stem}-{number:04d}{suffix}"
        if path.exists():
            continue
        unfinished = folder / f".unfinished{suffix}"
        if number < DISTINCT:
            draw(unfinished, number)
        else:
            shutil.copyfile(folder / f"{stem}-{number % DISTINCT:04d}{suffix}", unfinished)
        os.replace(unfinished, path)
