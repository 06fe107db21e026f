"""Files and frames a second: ours, (a) the original's way, (b) plain transformers in batches, and the limit.

python benchmarks/throughput.py                        # draws its files first; prints a Markdown table
python benchmarks/throughput.py --only gpu --json gpu.json --chart gpu.png

host: a file to frames of 896 x 896, for each second that a core works: ours to bytes, which the device normalises, (a)
to the tensor. Limit: bare decode and resize of every frame; ours may pass it where it leaves frames undecoded.
demo: whole processes with the demo model, all cores. Everyone is asked the same about the same frames.
scripted-896: whole processes without a model, frames of 896 x 896.
gpu: Gemma 3 of real size with random weights, frames handed over decoded (gpu.py). Limit: the device's own rates.

Loading the model is left out of a rate and told beside it; importing libraries counts, as it does for a user.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import baselines
import cv2
import torch
from baselines import FRAMES, SIZE
from material import fill
from PIL import Image, ImageDraw, ImageFont

from gemma_captioner.media.images import decode_image
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip

BASELINES = Path(__file__).with_name("baselines.py")
PHOTOS, CLIPS = 8, 2  # that host reads in one run
GPU_SECONDS = 150  # a model: with what is made and loaded besides, both are done within ten minutes

Run = dict[str, float]  # `rate` in items or frames a second, and what else there is to say, by what it is


@dataclass(frozen=True, slots=True)
class Row:
    case: str
    way: str
    unit: str
    runs: list[Run]
    ratio: float
    ratio_to: str  # (b) where (a) was not run

    @property
    def rates(self) -> tuple[float, float, float]:
        """Least, median, most."""
        found = [run["rate"] for run in self.runs]
        return min(found), statistics.median(found), max(found)

    @property
    def besides(self) -> str:
        medians = {name: statistics.median(run[name] for run in self.runs) for name in self.runs[0] if name != "rate"}
        return ", ".join(f"{name} {median:.3g}" for name, median in medians.items())


def rows(case: str, unit: str, found: dict[str, list[Run]]) -> list[Row]:
    medians = {way: statistics.median(run["rate"] for run in runs) for way, runs in found.items()}
    base = "a" if "a" in found else "b"
    return [Row(case, way, unit, runs, medians[way] / medians[base], base) for way, runs in found.items()]


def interleave(ways: dict[str, Callable[[], Run]], runs: int, within_s: float = math.inf) -> dict[str, list[Run]]:
    """So that a drift of the machine's speed hits all alike. within_s: no more than can be done in so many seconds."""
    found: dict[str, list[Run]] = {way: [] for way in ways}
    since = time.perf_counter()
    for number in range(runs):
        if number and (time.perf_counter() - since) * (number + 1) / number > within_s:
            break
        for way, run in ways.items():
            found[way].append(run())
            print(f"  {number + 1}/{runs} {way}: {found[way][-1]['rate']:.3g}", file=sys.stderr)
    return found


def host(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    stock, settings = baselines.stock_image_processor(), DecodeSettings(frames=FRAMES, sampling="index")
    ways: dict[str, Callable[[Path], Any]] = {
        "ours": lambda path: (decode_clip if path.suffix == ".mp4" else decode_image)(path, SIZE, settings),
        "a": lambda path: stock(baselines.decode_by_seeking(path), return_tensors="pt"),
        "limit": baselines.decode_and_resize,
    }

    def reading(read: Callable[[Path], Any], paths: list[Path], frames: int) -> Run:
        since, spent = time.perf_counter(), time.process_time()  # processor time: OpenCV decodes on several threads
        for path in paths:
            read(path)
        worked, took = time.process_time() - spent, time.perf_counter() - since
        return {"rate": len(paths) * frames / worked, "frames/s by the clock": len(paths) * frames / took}

    hevc = fill(args.material / "hevc", clips=CLIPS, codec="libx265")
    for name, paths, frames in (
        ("12 MP JPEG", sorted(media.glob("*.jpg"))[:PHOTOS], 1),
        ("1080p H.264", sorted(media.glob("*.mp4"))[:CLIPS], FRAMES),
        ("4K HEVC", sorted(hevc.glob("*.mp4"))[:CLIPS], FRAMES),
    ):
        these = {way: lambda r=read, p=paths, n=frames: reading(r, p, n) for way, read in ways.items()}
        yield from rows(f"host, {name}", "frames/s a core", interleave(these, args.runs))


def demo(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    ways = {
        "ours": lambda: ours(media, "--model", "demo"),
        "a": lambda: whole_process(BASELINES, "original", media, "OUTPUT"),
        "b": lambda: whole_process(BASELINES, "batched", media, "OUTPUT", "--batch", "8"),
    }
    yield from rows("demo", "items/s", interleave(ways, args.runs))


def scripted(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    script = args.material / "script.json"
    script.write_text(json.dumps({"size": SIZE, "default": "No model was asked about {name}."}), encoding="utf-8")
    ways = {
        "ours": lambda: ours(media, "--engine", "scripted", "--model", script),
        "a": lambda: whole_process(BASELINES, "original", media, "OUTPUT", "--no-model"),
    }
    yield from rows("scripted-896", "items/s", interleave(ways, args.runs))


def ours(media: Path, *flags: object) -> Run:
    asked_alike = ("--order", "text-first", "--sampling", "index")  # as the original asks, and its frames
    command = ("-m", "gemma_captioner", "caption", media, "--output", "OUTPUT", "--json")
    return whole_process(*command, *asked_alike, *flags)


def whole_process(*arguments: object) -> Run:
    """Runs Python with them, a fresh folder in place of `OUTPUT`."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, *(output if part == "OUTPUT" else str(part) for part in arguments)]
        since = time.perf_counter()
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=os.environ | {"HF_HUB_OFFLINE": "1"})
        whole = time.perf_counter() - since
    if done.returncode not in (0, 3):  # 3: some answers were no fit captions, which costs as much
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    said = json.loads(done.stdout)
    rate = (said["captioned"] + said["failed"]) / (whole - said["load_seconds"])
    return {"rate": rate, "whole process s": whole, "loading s": said["load_seconds"], "failed": said["failed"]}


def gpu(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    from gpu import GPU, SMOKE, measure

    limited = partial(interleave, runs=args.runs, within_s=GPU_SECONDS)
    for model, found in measure(SMOKE if args.gpu_smoke else GPU, limited):
        yield from rows(f"gpu, {model}", "items/s", found)


CASES = {"host": host, "demo": demo, "scripted-896": scripted, "gpu": gpu}
COLORS = {"ours": "#1a6fb4", "a": "#b5b5b5", "b": "#8c8c8c", "limit": "#e0d6b0"}
LABELS = {"ours": "ours", "a": "a: the original's way", "b": "b: plain, in batches", "limit": "limit"}


def table(found: list[Row]) -> str:
    lines = ["| case | way | unit | median | runs | least to most | to (a) | besides, medians |", "|---" * 8 + "|"]
    for row in found:
        least, median, most = (f"{rate:.3g}" for rate in row.rates)
        ratio = f"{row.ratio:.2f}" + ("" if row.ratio_to == "a" else f" to ({row.ratio_to})")
        cells = [row.case, row.way, row.unit, median, str(len(row.runs)), f"{least} to {most}", ratio, row.besides]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def chart(found: list[Row], path: Path) -> None:
    """A panel for each case; bars are medians, the thin line across a bar's end goes from the least to the most."""
    cases = list(dict.fromkeys(row.case for row in found))
    left, bar, line, title = 210, 460, 32, 60  # pixels
    image = Image.new("RGB", (960, 20 + len(cases) * title + len(found) * line), "white")
    draw, large, small = ImageDraw.Draw(image), ImageFont.load_default(20), ImageFont.load_default(16)
    y = 0
    for case in cases:
        panel = [row for row in found if row.case == case]
        scale = bar / max(row.rates[2] for row in panel)
        draw.text((20, y + 26), f"{case}: {panel[0].unit}", "black", large)
        y += title
        for row in panel:
            least, median, most = (left + rate * scale for rate in row.rates)
            middle = y + line // 2
            draw.text((left - 10, middle), LABELS[row.way], "black", small, anchor="rm")
            draw.rectangle((left, y + 4, median, y + line - 4), COLORS[row.way])
            draw.line((least, middle, most, middle), "black", 2)
            said = f"{row.rates[1]:.3g}  ({row.ratio:.2f} times {row.ratio_to})"
            draw.text((most + 10, middle), said, "black", small, anchor="lm")
            y += line
    image.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3, help="of each way; fewer on a GPU that takes long")
    parser.add_argument("--material", type=Path, default=Path(tempfile.gettempdir()) / "gemma-captioner-throughput")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--quick", action="store_true", help="8 photos, 2 clips, one run: whether it works")
    parser.add_argument("--gpu-smoke", action="store_true", help="gpu on a CPU, a model of nothing: whether it works")
    parser.add_argument("--json", type=Path, help="write every run there")
    parser.add_argument("--chart", type=Path, help="draw the table there, a PNG")
    args = parser.parse_args()
    if args.quick:
        args.photos, args.clips, args.runs = 8, 2, 1
    cases = ["gpu"] if args.gpu_smoke else args.only
    not_run = "gpu" in cases and not args.gpu_smoke and not torch.cuda.is_available()
    cases = [case for case in cases if not (case == "gpu" and not_run)]

    media = args.material / f"photos-{args.photos}-clips-{args.clips}"
    if any(case != "gpu" for case in cases):
        fill(media, photos=args.photos, clips=args.clips)
    found: list[Row] = []
    for case in cases:
        print(case, file=sys.stderr)
        found += CASES[case](args, media)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    about = f"{platform.machine()}, {os.cpu_count()} cores, {device}, torch {torch.__version__}; "
    about += f"{args.photos} photos and {args.clips} clips of {FRAMES} frames."
    if not_run:
        about += " The case gpu was NOT run: torch sees no CUDA device."
    print(f"{table(found)}\n\n{about}")
    if args.json:
        shown = [asdict(row) | {"median": row.rates[1]} for row in found]
        args.json.write_text(json.dumps({"about": about, "rows": shown}, indent=2), encoding="utf-8")
    if args.chart and found:
        chart(found, args.chart)


if __name__ == "__main__":
    main()
