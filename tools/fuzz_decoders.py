"""Decodes mutated images and clips. Each must give one outcome, without a crash, a hang or unbounded memory.

python tools/fuzz_decoders.py                       # 1,000 images and 300 clips
python tools/fuzz_decoders.py --images 100 --clips 30 --seed 5
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
from PIL import Image

from gemma_captioner.demo.drawing import draw, random_scene
from gemma_captioner.demo.samples import write_clip
from gemma_captioner.media.decode import UNEXPECTED_ERROR
from gemma_captioner.media.pool import DecodePool
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.types import Failed, Kind, MediaItem

SIZE = (896, 896)
IMAGE_TYPES = {
    "jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF",
    "tiff": "TIFF", "bmp": "BMP", "avif": "AVIF", "heic": "HEIF",
}  # fmt: skip
CLIP_TYPES = {
    "mp4": "libx264", "mkv": "libx264", "mov": "libx265", "webm": "libvpx-vp9", "avi": "mpeg4", "mpeg": "mpeg2video",
}  # fmt: skip


@dataclass(frozen=True)
class FuzzResult:
    files: int
    outcomes: Counter[str]  # `decoded`, or the beginning of an error message
    seconds: float
    peak_bytes: int  # resident memory of one worker


def fuzz(images: int, clips: int, seed: int) -> FuzzResult:
    rng, settings = Random(seed), DecodeSettings(timeout_s=20, memory_gib=2)
    with tempfile.TemporaryDirectory() as base:
        paths = _make_mutants(Path(base), images, clips, rng)
        outcomes: Counter[str] = Counter()
        since = time.monotonic()
        with (
            _MemoryWatch() as watch,
            DecodePool(SIZE, settings, clip_size=SIZE, workers=2, pixel_bytes=1 << 29) as pool,
        ):
            waiting, running = list(paths), []
            while waiting or running:
                while waiting and (started := pool.start(_item(*waiting[-1]))) is not None:
                    running.append(started)
                    waiting.pop()
                done = [decoding for decoding in running if decoding.done()]
                for decoding in done:
                    result = decoding.result()
                    outcomes[shorten(result.error) if isinstance(result, Failed) else "decoded"] += 1
                    decoding.release()
                running = [decoding for decoding in running if decoding not in done]
                time.sleep(0.002)
        return FuzzResult(len(paths), outcomes, time.monotonic() - since, watch.peak)


def _item(path: Path, kind: Kind) -> MediaItem:
    return MediaItem(path, kind, path.name, path.with_suffix(".txt"), path.parent)


def shorten(error: str) -> str:
    if error.startswith(UNEXPECTED_ERROR):  # with its type and message
        return error[:100]
    return error.split("(")[0].split(":")[0].strip()


def _make_mutants(base: Path, images: int, clips: int, rng: Random) -> list[tuple[Path, Kind]]:
    """Write files of every type with bytes that are changed, cut, repeated, zeroed or copied from another file."""
    made: list[tuple[Path, Kind]] = []
    for kind, count, types in (("image", images, IMAGE_TYPES), ("clip", clips, CLIP_TYPES)):
        originals = []
        for suffix, how in types.items():
            path = base / f"original.{suffix}"
            scene = random_scene(rng, clip=kind == "clip")
            if kind == "clip":
                write_clip(path, draw(scene, 24), codec=how)
            else:
                Image.fromarray(draw(scene)[0]).resize((300, 200)).save(path, how)
            originals.append((suffix, path.read_bytes()))
            path.unlink()
        for number in range(count):
            suffix, content = originals[number % len(originals)]
            path = base / f"{kind}-{number}.{suffix}"
            path.write_bytes(_mutate(bytearray(content), rng.choice(originals)[1], rng))
            made.append((path, "image" if kind == "image" else "clip"))
    return made


def _mutate(content: bytearray, other: bytes, rng: Random) -> bytes:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content)) if content else 0
        length = rng.choice([1, 2, 4, 16, 200])
        match rng.randrange(6):
            case 0:
                for i in range(at, min(len(content), at + length)):
                    content[i] = rng.randrange(256)
            case 1:
                del content[at:]
            case 2:
                content[at:at] = content[at : at + length] * rng.randint(1, 50)
            case 3:
                content[at : at + length] = bytes(length)
            case 4:
                content[at : at + length] = other[at : at + length]
            case 5:
                content[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
    return bytes(content)


class _MemoryWatch:
    """Samples the largest resident memory of any child process."""

    peak = 0

    def __enter__(self) -> "_MemoryWatch":
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    self.peak = max(self.peak, process.memory_info().rss)
                except psutil.Error:
                    continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    result = fuzz(given.images, given.clips, given.seed)
    print(
        f"{result.files} files, {result.outcomes.total()} outcomes, {result.seconds:.0f} s, "
        f"largest worker {result.peak_bytes / 2**20:.0f} MiB"
    )
    for outcome, times in result.outcomes.most_common():
        print(f"{times:6d}  {outcome}")


if __name__ == "__main__":
    main()
