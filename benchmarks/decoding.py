"""Frames decoded against frames needed, and time: ours, reading every file through, and seeking with OpenCV.

python benchmarks/decoding.py            # draws its files first: 4 s, 60 s and 30 min; prints a Markdown table
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from gemma_captioner.media import video
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip

SIZE = (896, 896)
FRAMES = 12
RUNS = 3
FILES = {"4 s, 1080p": (4, 1920, 1080), "60 s, 720p": (60, 1280, 720), "30 min, 360p": (1800, 640, 360)}


def draw(path: Path, seconds: int, width: int, height: int) -> None:
    """H.264 at 30 frames a second, a keyframe every 250 at most, something moving on noise that stays."""
    rng = np.random.default_rng(1)
    ground = rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    ground = np.pad(ground, ((0, height - len(ground)), (0, width - ground.shape[1]), (0, 0)), mode="edge")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * 30):
            frame = ground.copy()
            x = number * 4 % (width - 64)
            frame[40:104, x : x + 64] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def ours(path: Path) -> int:
    counted = 0
    decode = video._decode

    def counting(*args):
        nonlocal counted
        for frame in decode(*args):
            counted += 1
            yield frame

    video._decode = counting
    try:
        decode_clip(path, SIZE, DecodeSettings(frames=FRAMES))
    finally:
        video._decode = decode
    return counted


def decode_all(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        wanted = {int((i + 0.5) * stream.frames / FRAMES) for i in range(FRAMES)}
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                np.asarray(Image.fromarray(frame.to_ndarray(format="rgb24")).resize(SIZE, Image.Resampling.BILINEAR))
    return number + 1


def opencv_seeking(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    for i in range(FRAMES):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int((i + 0.5) * total / FRAMES))
        _, frame = capture.read()
        rgb = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        np.asarray(rgb.resize(SIZE, Image.Resampling.BILINEAR))
    return -1  # it does not tell


METHODS: dict[str, Callable[[Path], int]] = {
    "ours": ours,
    "reading it through": decode_all,
    "seeking with OpenCV": opencv_seeking,
}


def main() -> None:
    head = f"file | way | frames decoded for {FRAMES} | processor seconds, median of {RUNS} | least to most | to ours"
    print(f"| {head} | elapsed |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as base:
        for name, (seconds, width, height) in FILES.items():
            path = Path(base) / "clip.mp4"
            draw(path, seconds, width, height)
            times: dict[str, list[float]] = {way: [] for way in METHODS}
            elapsed: dict[str, list[float]] = {way: [] for way in METHODS}
            decoded: dict[str, int] = {}
            for _ in range(RUNS):  # in turn, so that a drift of the machine's speed hits all alike
                for way, run in METHODS.items():
                    since, spent = time.perf_counter(), time.process_time()
                    decoded[way] = run(path)
                    times[way].append(time.process_time() - spent)
                    elapsed[way].append(time.perf_counter() - since)
            ours_s = statistics.median(times["ours"])
            for way, taken in times.items():
                median = statistics.median(taken)
                count = f"{decoded[way]:,}" if decoded[way] >= 0 else "not told"
                whole = statistics.median(elapsed[way])
                spread = f"{min(taken):.2f} to {max(taken):.2f}"
                print(
                    f"| {name} | {way} | {count} | {median:.2f} | {spread} | {median / ours_s:.1f} | {whole:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
