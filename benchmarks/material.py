"""Media of the size that cameras give, drawn: 12 MP JPEG, 1080p H.264 and 4K HEVC clips of 5 s.

What is drawn has detail at every scale, as photographs have (its spectrum falls as 1/f), and clips pan over it. A few
are drawn and the rest are copies under other names: reading one costs what reading any of them costs.
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
GRAIN = 7  # levels: what brings files to the size that a camera's have
CLIPS = {
    "libx264": ((1920, 1080), {"preset": "veryfast"}),
    "libx265": ((3840, 2160), {"preset": "ultrafast", "crf": "24"}),
}


def texture(width: int, height: int, seed: int) -> npt.NDArray[np.uint8]:
    """uint8 [height, width, 3]: noise of every scale laid over each other, twice the scale at twice the strength."""
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
    """A JPEG of 12 megapixels, quality 92: about 5 MB."""
    grain = np.random.default_rng(seed).integers(-GRAIN, GRAIN + 1, (PHOTO[1], PHOTO[0], 1), np.int16)
    Image.fromarray(np.clip(texture(*PHOTO, seed) + grain, 0, 255).astype(np.uint8)).save(path, quality=92)


def clip(path: Path, seed: int, codec: str) -> None:
    """5 s at 30 frames a second, a keyframe every 250 frames at most, B-frames as the encoder likes them."""
    (width, height), options = CLIPS[codec]
    ground = texture(width + 4 * SECONDS * RATE, height, seed)
    with av.open(str(path), "w") as container:
        options = options | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        rng = np.random.default_rng(seed)
        grain = rng.integers(-GRAIN, GRAIN + 1, (height + 64, width + 64, 1), np.int16)
        for number in range(SECONDS * RATE):
            x, y = rng.integers(0, 64, 2)  # another piece of the grain each time, as a sensor has it
            frame = ground[:, 4 * number : 4 * number + width] + grain[y : y + height, x : x + width]
            frame = np.clip(frame, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def fill(folder: Path, *, photos: int = 0, clips: int = 0, codec: str = "libx264") -> Path:
    """So many of each in `folder`; what lies there from an earlier call is kept."""
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
