"""Measures throughput: ours, (a) the original script, (b) plain transformers in batches, and the limit.

python benchmarks/throughput.py                        # draws its files first; prints a Markdown table
python benchmarks/throughput.py --only gpu --json gpu.json --chart gpu.png

host: reads files to frames of 896 x 896, per second of processor time. Ours produces bytes, which the device
normalizes; (a) produces the tensor. Limit: decode and resize every frame. Ours can exceed it, because it skips frames
that it does not need. OpenCV's frames are not checked for being the right ones.
demo: whole processes with the demo model, on all cores, with the same prompts and frames.
scripted-896: whole processes without a model, with frames of 896 x 896.
gpu: Gemma 3 in real sizes with random weights on decoded frames (gpu.py). Limit: the measured rates of the device.

A rate excludes loading the model, which is listed beside it. It includes imports, as for a user.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import baselines
import cv2
import torch
from baselines import FRAMES, SIZE
from material import fill, long_clip
from PIL import Image, ImageDraw, ImageFont

from gemma_captioner.media.images import decode_image
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip

BASELINES = Path(__file__).with_name("baselines.py")
PHOTOS, CLIPS = 8, 2  # files per run of host

Run = dict[str, float]  # `rate` in items/s or frames/s, and other measurements by name


@dataclass(frozen=True, slots=True)
class Row:
    case: str
    method: str
    unit: str
    runs: list[Run]
    ratio: float
    ratio_to: str  # "a"; "b" if (a) did not run; else the first method

    @property
    def rates(self) -> tuple[float, float, float]:
        """Minimum, median, maximum."""
        found = [run["rate"] for run in self.runs]
        return min(found), statistics.median(found), max(found)

    @property
    def others(self) -> str:
        medians = {name: statistics.median(run[name] for run in self.runs) for name in self.runs[0] if name != "rate"}
        return ", ".join(f"{name} {median:.3g}" for name, median in medians.items())


def rows(case: str, unit: str, found: dict[str, list[Run]]) -> list[Row]:
    medians = {method: statistics.median(run["rate"] for run in runs) for method, runs in found.items()}
    base = next((method for method in ("a", "b") if method in found), next(iter(found)))
    return [Row(case, method, unit, runs, medians[method] / medians[base], base) for method, runs in found.items()]


def interleave(methods: dict[str, Callable[[], Run]], runs: int) -> dict[str, list[Run]]:
    """Run the methods in turn, so that a change of the machine's speed affects all."""
    found: dict[str, list[Run]] = {method: [] for method in methods}
    for number in range(runs):
        for method, run in methods.items():
            found[method].append(run())
            print(f"  {number + 1}/{runs} {method}: {found[method][-1]['rate']:.3g}", file=sys.stderr)
    return found


def host(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    stock, settings = baselines.stock_image_processor(), DecodeSettings(frames=FRAMES, sampling="index")
    methods: dict[str, Callable[[Path], Any]] = {
        "ours": lambda path: (decode_clip if path.suffix == ".mp4" else decode_image)(path, SIZE, settings),
        "a": lambda path: stock(baselines.decode_by_seeking(path), return_tensors="pt"),
        "limit": baselines.decode_and_resize,
    }

    def reading(read: Callable[[Path], Any], paths: list[Path], frames: int) -> Run:
        # Processor time, because OpenCV decodes on several threads.
        since, spent = time.perf_counter(), time.process_time()
        for path in paths:
            read(path)
        worked, took = time.process_time() - spent, time.perf_counter() - since
        return {"rate": len(paths) * frames / worked, "frames/s elapsed": len(paths) * frames / took}

    hevc = fill(args.material / "hevc", clips=CLIPS, codec="libx265")
    for name, paths, frames in (
        ("12 MP JPEG", sorted(media.glob("*.jpg"))[:PHOTOS], 1),
        ("1080p H.264", sorted(media.glob("*.mp4"))[:CLIPS], FRAMES),
        ("4K HEVC", sorted(hevc.glob("*.mp4"))[:CLIPS], FRAMES),
        ("60 s, 720p", [long_clip(args.material, 60, 1280, 720)], FRAMES),
        ("30 min, 360p", [] if args.quick else [long_clip(args.material, 1800, 640, 360)], FRAMES),
    ):
        if paths:
            these = {method: lambda r=read, p=paths, n=frames: reading(r, p, n) for method, read in methods.items()}
            yield from rows(f"host, {name}", "frames/s per core", interleave(these, args.runs))


def demo(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    methods = {
        "ours": lambda: ours(media, "--model", "demo"),
        "a": lambda: whole_process(BASELINES, "original", media, "OUTPUT"),
        "b": lambda: whole_process(BASELINES, "batched", media, "OUTPUT", "--batch", "8"),
    }
    yield from rows("demo", "items/s", interleave(methods, args.runs))


def scripted(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    script = args.material / "script.json"
    script.write_text(json.dumps({"size": SIZE, "default": "No model was used for {name}."}), encoding="utf-8")
    methods = {
        "ours": lambda: ours(media, "--engine", "scripted", "--model", script),
        "a": lambda: whole_process(BASELINES, "original", media, "OUTPUT", "--no-model"),
    }
    yield from rows("scripted-896", "items/s", interleave(methods, args.runs))


def ours(media: Path, *flags: object) -> Run:
    as_original = ("--order", "text-first", "--sampling", "index")
    command = ("-m", "gemma_captioner", "caption", media, "--output", "OUTPUT", "--json")
    return whole_process(*command, *as_original, *flags)


def whole_process(*arguments: object) -> Run:
    """Run Python with these arguments. A new folder replaces `OUTPUT`."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, *(output if part == "OUTPUT" else str(part) for part in arguments)]
        since = time.perf_counter()
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=os.environ | {"HF_HUB_OFFLINE": "1"})
        whole = time.perf_counter() - since
    if done.returncode not in (0, 3):  # 3: some captions were rejected, which costs the same time
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    summary = json.loads(done.stdout)
    rate = (summary["captioned"] + summary["failed"]) / (whole - summary["load_seconds"])
    return {"rate": rate, "whole process s": whole, "loading s": summary["load_seconds"], "failed": summary["failed"]}


def gpu(args: argparse.Namespace, media: Path) -> Iterator[Row]:
    """Also prints and saves the rows of gpu.py as they come."""
    from gpu import GPU, MINUTES, SMOKE, Report, measure

    report = Report(args.json and args.json.with_suffix(".jsonl"), MINUTES)
    measure(SMOKE if args.gpu_smoke else GPU, report)
    found: dict[str, dict[str, list[Run]]] = {}
    for name, row in report.rows:
        if "rate" in row:
            model, kind, method = name.split(", ")
            numbers = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
            *batch, kind = kind.split()
            found.setdefault(f"gpu, {model}, {kind}", {})[" ".join([*batch, method])] = [numbers]
    for case, methods in found.items():
        yield from rows(case, "items/s", methods)


CASES = {"host": host, "demo": demo, "scripted-896": scripted, "gpu": gpu}
COLORS = {"ours": "#1a6fb4", "a": "#b5b5b5", "b": "#8c8c8c", "limit": "#e0d6b0"}
LABELS = {"ours": "ours", "a": "a: the original script", "b": "b: plain, in batches", "limit": "limit"}


def table(found: list[Row]) -> str:
    lines = ["| case | method | unit | median | runs | min to max | ratio to (a) | other medians |", "|---" * 8 + "|"]
    for row in found:
        least, median, most = (f"{rate:.3g}" for rate in row.rates)
        ratio = f"{row.ratio:.2f}" + ("" if row.ratio_to == "a" else f" to ({row.ratio_to})")
        cells = [row.case, row.method, row.unit, median, str(len(row.runs)), f"{least} to {most}", ratio, row.others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def chart(found: list[Row], path: Path) -> None:
    """Draw a panel per case. Bars show medians; a thin line goes from the minimum to the maximum."""
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
            draw.text((left - 10, middle), LABELS.get(row.method, row.method), "black", small, anchor="rm")
            draw.rectangle((left, y + 4, median, y + line - 4), COLORS.get(row.method, COLORS["ours"]))
            draw.line((least, middle, most, middle), "black", 2)
            label = f"{row.rates[1]:.3g}  ({row.ratio:.2f} times {row.ratio_to})"
            draw.text((most + 10, middle), label, "black", small, anchor="lm")
            y += line
    image.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3, help="runs of each method; fewer on a slow GPU")
    parser.add_argument("--material", type=Path, default=Path(tempfile.gettempdir()) / "gemma-captioner-throughput")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--quick", action="store_true", help="a smoke test: 8 photos, 2 clips, one run")
    parser.add_argument("--gpu-smoke", action="store_true", help="a smoke test of gpu: on a CPU with a tiny model")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    parser.add_argument("--chart", type=Path, help="draw the table to this PNG")
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
        about += " The case gpu did NOT run: torch finds no CUDA device."
    print(f"{table(found)}\n\n{about}")
    if args.json:
        shown = [asdict(row) | {"median": row.rates[1]} for row in found]
        args.json.write_text(json.dumps({"about": about, "rows": shown}, indent=2), encoding="utf-8")
    if args.chart and found:
        chart(found, args.chart)


if __name__ == "__main__":
    main()
