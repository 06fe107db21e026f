"""Counts what `check --media` finds in real files and in files with a known fault. Prints two Markdown tables.

python benchmarks/media.py photographs/ clips/                    # what it finds in them, to be looked at
python benchmarks/media.py photographs/ clips/ --right right.tsv  # those of its findings that are right: code, name
python benchmarks/media.py photographs/ clips/ --thousands 10     # time and memory of `check --media` instead

A finding in a real file counts as false unless the file of --right names it. The faulty files are made from the real
ones: 40 for each code, of different strength, and saved as JPEG, WebP or H.264 of different quality. Use files that no
threshold was set on.
"""

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from gemma_captioner.check.media.duplicates import near_copies
from gemma_captioner.check.media.measure import measure
from gemma_captioner.check.media.record import Measurement
from gemma_captioner.check.media.rules import match
from gemma_captioner.check.settings import CheckSettings
from gemma_captioner.dataset.discover import EXTENSIONS
from gemma_captioner.types import MediaItem

FAULTY = 40
SETTINGS = CheckSettings(media=True)
FPS = Fraction(24)


def item_of(path: Path) -> MediaItem:
    return MediaItem(path, EXTENSIONS[path.suffix[1:].lower()], path.name, path.with_suffix(".txt"), path.parent)


def measured(paths: list[Path]) -> dict[Path, Measurement]:
    with ProcessPoolExecutor() as workers:
        return dict(zip(paths, workers.map(measure, map(item_of, paths), chunksize=2), strict=True))


def media_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix[1:].lower() in EXTENSIONS)


# Faults. Each gets a picture and returns the faulty one.


def blurred(image: Image.Image, rng: random.Random) -> Image.Image:
    """Out of focus, from clearly to strongly: Gaussian, box (twice), median, or enlarged from few pixels."""
    # The rules see at most 768 x 768 pixels, so a blur of a larger picture has to be as much wider.
    scale = max(1.0, (image.width * image.height) ** 0.5 / 768)
    kind = rng.choice(["gaussian", "box", "median", "enlarged"])
    if kind == "gaussian":
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(2.5, 8) * scale))
    if kind == "box":
        radius = rng.uniform(3.5, 9) * scale
        return image.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius / 2))
    if kind == "median":
        return image.filter(ImageFilter.GaussianBlur(2.2 * scale)).filter(ImageFilter.MedianFilter(5))
    factor = rng.uniform(6, 12) * scale
    small = image.resize((max(8, int(image.width / factor)), max(8, int(image.height / factor))), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def barred(image: Image.Image, rng: random.Random, *, blur: bool) -> Image.Image:
    """In another frame: bars above and below or left and right, 3 to 30 % each (blurred ones 8 to 33 %)."""
    part = rng.uniform(0.08, 0.33) if blur else rng.uniform(0.03, 0.3)
    width, height = image.size
    is_letterbox = rng.random() < 0.5
    size = (width, round(height / (1 - 2 * part))) if is_letterbox else (round(width / (1 - 2 * part)), height)
    if blur:
        zoom = max(size[0] / width, size[1] / height) * rng.choice([1.0, 1.0, 1.2])
        large = image.resize((round(width * zoom) + 1, round(height * zoom) + 1))
        left, top = (large.width - size[0]) // 2, (large.height - size[1]) // 2
        frame = large.crop((left, top, left + size[0], top + size[1]))
        frame = frame.filter(ImageFilter.GaussianBlur(rng.uniform(0.015, 0.05) * max(size)))
        frame = ImageEnhance.Brightness(frame).enhance(rng.choice([1.0, 0.8, 0.6]))
    else:
        frame = Image.new("RGB", size, (rng.choice([0, 0, 0, 6, 16, 24, 32]),) * 3)
    frame.paste(image, ((size[0] - width) // 2, (size[1] - height) // 2))
    return frame


def near_copy(image: Image.Image, rng: random.Random) -> Image.Image:
    """Recompressed (all are), resized, cropped by up to a tenth, brighter or darker, with other contrast."""
    if rng.random() < 0.4:
        part = rng.uniform(0.9, 0.98)
        width, height = round(image.width * part), round(image.height * part)
        left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        image = image.crop((left, top, left + width, top + height))
    if rng.random() < 0.6:
        factor = rng.uniform(0.35, 1.6)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    if rng.random() < 0.4:
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.85, 1.15))
    return image


def save(image: Image.Image, path: Path, rng: random.Random) -> Path:
    kind, suffix = rng.choice([("JPEG", ".jpg"), ("JPEG", ".jpg"), ("WEBP", ".webp")])
    image.save(path.with_suffix(suffix), kind, quality=rng.choice([50, 70, 85, 95]))
    return path.with_suffix(suffix)


def save_clip(frames: Iterator[Image.Image], path: Path, rng: random.Random, rate: Fraction = FPS) -> Path:
    with av.open(str(path.with_suffix(".mp4")), "w") as container:
        options = {"crf": str(rng.choice([18, 23, 28])), "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        for number, frame in enumerate(frames):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width & ~1, frame.height & ~1, "yuv420p"
            frame = frame.crop((0, 0, stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return path.with_suffix(".mp4")


def rate_of(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        return Fraction(container.streams.video[0].average_rate or FPS).limit_denominator(1001)


def frames_of(path: Path, count: int) -> list[Image.Image]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = [frame.to_image() for frame in islice(container.decode(video=0), count)]
    for frame in frames:
        frame.thumbnail((768, 768))
    return frames


def photograph(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGB")
    image.thumbnail((2048, 2048))
    return image


@dataclass(frozen=True, slots=True)
class Fault:
    """make: (source, other source, target without suffix, rng) -> the faulty file; and what it is compared with."""

    source: str  # "image" or "clip"
    count: int
    make: Callable[[Path, Path, Path, random.Random], Path]


def _image(change: Callable[[Image.Image, random.Random], Image.Image]) -> Fault:
    def make(source: Path, other: Path, target: Path, rng: random.Random) -> Path:
        return save(change(photograph(source), rng), target, rng)

    return Fault("image", FAULTY * 3 // 4, make)


def _clip(change: Callable[[Image.Image, random.Random], Image.Image], frames: int = 30) -> Fault:
    def make(source: Path, other: Path, target: Path, rng: random.Random) -> Path:
        state = rng.getstate()

        def changed() -> Iterator[Image.Image]:
            for frame in frames_of(source, frames):
                rng.setstate(state)  # the same change in each frame
                yield change(frame, rng)

        return save_clip(changed(), target, rng, rate_of(source))

    return Fault("clip", FAULTY // 4, make)


def _with_cut(source: Path, other: Path, target: Path, rng: random.Random) -> Path:
    first, second = frames_of(source, rng.randint(12, 40)), frames_of(other, rng.randint(12, 40))
    second = [frame.resize(first[0].size) for frame in second]
    return save_clip(iter([*first, *second]), target, rng)


def _still(source: Path, other: Path, target: Path, rng: random.Random) -> Path:
    """One picture as a clip, half of them with noise."""
    image = photograph(source)
    image.thumbnail((768, 768))
    noise, levels = rng.choice([0, 0, 2, 5]), np.asarray(image, np.int16)
    grain = np.random.default_rng(rng.getrandbits(32))

    def frames() -> Iterator[Image.Image]:
        for _ in range(rng.randint(24, 72)):
            noisy = levels + (grain.normal(0, noise, levels.shape).astype(np.int16) if noise else 0)
            yield Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))

    return save_clip(frames(), target, rng)


FAULTS: dict[str, list[Fault]] = {
    "blurred": [_image(blurred), _clip(lambda i, r: i.filter(ImageFilter.GaussianBlur(r.uniform(4, 9))))],
    "black_bars": [_image(lambda i, r: barred(i, r, blur=False)), _clip(lambda i, r: barred(i, r, blur=False))],
    "blurred_bars": [_image(lambda i, r: barred(i, r, blur=True)), _clip(lambda i, r: barred(i, r, blur=True))],
    "near_copy": [_image(near_copy), _clip(near_copy, frames=300)],
    "static_clip": [Fault("image", FAULTY, _still)],
    "cut_inside": [Fault("clip", FAULTY, _with_cut)],
}


def recall(sources: dict[str, list[Path]], folder: Path, seed: int) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield (code, faulty files, found, names of what was missed)."""
    for code, faults in FAULTS.items():
        rng = random.Random(f"{seed} {code}")
        made: dict[Path, Path] = {}  # faulty file -> its source
        for fault in faults:
            chosen = iter(rng.sample(sources[fault.source], len(sources[fault.source])))
            while sum(item_of(source).kind == fault.source for source in made.values()) < fault.count:
                source = next(chosen)
                try:
                    made[fault.make(source, next(chosen), folder / f"{code}-{len(made)}-{source.stem[:40]}", rng)] = (
                        source
                    )
                except (av.error.FFmpegError, IndexError, OSError):
                    continue  # a source that is no whole clip
        found = measured([*made, *(made.values() if code == "near_copy" else ())])
        if code == "near_copy":
            hits = [any(near_copies({"a": found[path], "b": found[source]})) for path, source in made.items()]
        else:
            hits = [code in dict(match(found[path], SETTINGS)) for path in made]
        missed = [path.name for path, hit in zip(made, hits, strict=True) if not hit]
        yield code, len(made), sum(hits), missed


def false_findings(paths: list[Path]) -> dict[str, list[str]]:
    """Code -> names of the real files that it is found in."""
    found = measured(paths)
    readable = {str(path): each for path, each in found.items() if not each.error}
    names: dict[str, list[str]] = defaultdict(list)
    for path, each in readable.items():
        for code, _ in match(each, SETTINGS):
            names[code].append(Path(path).name)
    for pair in near_copies(readable):
        names["near_copy"].append(" = ".join(Path(path).name for path in pair))
    names["unreadable"] = [path.name for path, each in found.items() if each.error]
    return names


def whole_command(photographs: Path, clips: Path, thousands: float) -> None:
    """Run the command over copies of the files and print its time and memory. Every copy has other bytes at its end."""
    with tempfile.TemporaryDirectory() as place:
        count, sources = round(1000 * thousands), [*media_in(photographs), *media_in(clips)]
        for number in range(count):
            source = sources[number % len(sources)]
            copy = Path(place, f"{number:06}{source.suffix}")
            shutil.copyfile(source, copy)
        for run in ("first", "second"):
            start = time.monotonic()
            words = [sys.executable, "-m", "gemma_captioner", "check", place, "--media", "--json"]
            subprocess.run(words, stdout=subprocess.DEVNULL, env=os.environ)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
            print(f"{run} run: {count} files, {time.monotonic() - start:.1f} s, {peak} MB in its largest process")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--right", type=Path, help="findings in the real files that are right: code TAB name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--thousands", type=float, help="thousands of files for the time and memory of the command")
    args = parser.parse_args()
    if args.thousands:
        whole_command(args.photographs, args.clips, args.thousands)
        return
    sources = {"image": media_in(args.photographs), "clip": media_in(args.clips)}
    right = set(args.right.read_text(encoding="utf-8").splitlines()) if args.right else set()
    print(
        "| code | photographs | found | false | per 1,000 | clips | found | false |\n|---|---|---|---|---|---|---|---|"
    )
    names = {kind: false_findings(paths) for kind, paths in sources.items()}
    for code in [*FAULTS, "unreadable"]:
        cells = []
        for kind, paths in sources.items():
            false = [name for name in names[kind][code] if f"{code}\t{name}" not in right]
            cells += [str(len(paths)), str(len(names[kind][code])), str(len(false))]
            cells += [f"{1000 * len(false) / len(paths):.1f}"] if kind == "image" else []
            print("".join(f"{code}\t{name}\n" for name in false), file=sys.stderr, end="")
        print(f"| `{code}` | {' | '.join(cells)} |")
    print("\n| code | faulty files | found | recall |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for code, count, hits, missed in recall(sources, Path(place), args.seed):
            print(f"| `{code}` | {count} | {hits} | {hits / count:.2f} |", flush=True)
            print(f"missed: {', '.join(missed)}", file=sys.stderr)


if __name__ == "__main__":
    main()
