"""The sample media: drawn scenes as PNG, JPEG and H.264 files, with the correct caption of each."""

from fractions import Fraction
from pathlib import Path
from random import Random
from typing import cast

import av
from av.video.stream import VideoStream
from PIL import Image

from ..types import Pixels
from .drawing import Scene, draw, random_scene

SEED = 2026  # training uses other seeds
IMAGES, CLIPS = 7, 5
CLIP_FRAMES, FPS = 12, 12


def draw_samples(folder: Path, *, images: int = IMAGES, clips: int = CLIPS, seed: int = SEED) -> dict[str, str]:
    """Write `images` + `clips` files. The same seed gives the same files. Returns file name -> correct caption."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = Random(seed)
    truth = {}
    for number in range(images + clips):
        is_clip = number >= images
        scene = random_scene(rng, clip=is_clip)
        suffix = ".mp4" if is_clip else (".png", ".jpg")[number % 2]
        path = folder / f"{number + 1:02d}-{scene.color}-{scene.shape}{suffix}"
        write_scene(path, scene)
        truth[path.name] = scene.caption
    return truth


def write_scene(path: Path, scene: Scene, *, num_frames: int = CLIP_FRAMES) -> None:
    """Draw the scene into a file of the type that its suffix names."""
    if path.suffix == ".mp4":
        write_clip(path, draw(scene, num_frames))
    else:
        Image.fromarray(draw(scene)[0]).save(path, quality=92)


def write_clip(path: Path, frames: Pixels, *, fps: int = FPS, codec: str = "libx264") -> None:
    """Encode `frames`, uint8 [n, height, width, 3], as a video file of near-lossless quality."""
    with av.open(str(path), "w") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=Fraction(fps), options={"crf": "14"}))
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
