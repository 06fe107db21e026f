"""Captions the same images and clips repeatedly for half an hour and plots resource usage.

python tools/soak.py [--minutes 30] [--plot docs/soak.png]

One process captions real files with the demo checkpoint. Each pass overwrites the captions of the previous one. The
tool samples every two seconds: memory of the command and of all its processes, threads, open files, number of
captions.
"""

import argparse
import csv
import io
import itertools
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from gemma_captioner.demo.samples import draw_samples

_SAMPLE_INTERVAL_S = 2.0
_DRAWN, _FILES = 400, 4000  # one pass takes minutes
_PASSES = """
import sys, time
from gemma_captioner import caption
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    for outcome in caption(sys.argv[1], model="demo", existing="overwrite"):
        print(type(outcome).__name__, flush=True)
        if time.monotonic() > until:
            break
"""
COLUMNS = ("seconds", "captions", "failed", "memory_mb", "own_memory_mb", "threads", "files", "processes")


def soak(base: Path, minutes: float, rows: "csv._writer") -> None:
    media = base / "media"
    draw_samples(media, images=_DRAWN * 3 // 4, clips=_DRAWN // 4, seed=9)
    for number, drawn in enumerate(itertools.islice(itertools.cycle(sorted(media.iterdir())), _FILES - _DRAWN)):
        os.link(drawn, drawn.with_stem(f"{drawn.stem}-{number}"))
    with (base / "output").open("w+", encoding="utf-8") as output:
        command = [sys.executable, "-c", _PASSES, str(media), str(minutes * 60)]
        run = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        began, process = time.monotonic(), psutil.Process(run.pid)
        rows.writerow(COLUMNS)
        while run.poll() is None:
            time.sleep(_SAMPLE_INTERVAL_S)
            with suppress(psutil.NoSuchProcess):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                rows.writerow(_row(time.monotonic() - began, (base / "output").read_text(encoding="utf-8"), process))
        if run.returncode:
            raise SystemExit(f"the run failed with exit code {run.returncode}")


def _row(seconds: float, output: str, process: psutil.Process) -> list[float]:
    family = [process, *process.children(recursive=True)]
    memory = [one.memory_info().rss / 1e6 for one in family]
    captions, failed = output.count("Captioned"), output.count("Failed")
    threads, files = sum(one.num_threads() for one in family), sum(one.num_fds() for one in family)
    return [round(seconds, 1), captions, failed, round(sum(memory)), round(memory[0]), threads, files, len(family)]


def plot(table: str, to: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    rows = [dict(zip(COLUMNS, map(float, row), strict=True)) for row in list(csv.reader(io.StringIO(table)))[1:]]
    minutes = [row["seconds"] / 60 for row in rows]
    window = 30  # rows in one minute
    rate = [
        (rows[i]["captions"] - rows[i - window]["captions"]) / (rows[i]["seconds"] - rows[i - window]["seconds"])
        for i in range(window, len(rows))
    ]
    panels = [
        ("memory, all processes (MB)", minutes, [row["memory_mb"] for row in rows]),
        ("memory, the command (MB)", minutes, [row["own_memory_mb"] for row in rows]),
        ("threads", minutes, [row["threads"] for row in rows]),
        ("open files", minutes, [row["files"] for row in rows]),
        ("captions per second, over one minute", minutes[window:], rate),
    ]
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(8, 9), sharex=True, layout="constrained")
    for axis, (title, x, y) in zip(axes, panels, strict=True):
        axis.plot(x, y, linewidth=1)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylim(0, max(y) * 1.15)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.savefig(to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--table", type=Path, default=Path("build/soak.csv"))
    given = parser.parse_args()
    given.table.parent.mkdir(parents=True, exist_ok=True)
    table = given.table.open("w", newline="", buffering=1, encoding="utf-8")
    with tempfile.TemporaryDirectory() as base, table as file:
        soak(Path(base), given.minutes, csv.writer(file))
    rows = given.table.read_text(encoding="utf-8").splitlines()
    for row in itertools.chain(rows[:1], rows[len(rows) // 10 :: max(1, len(rows) // 10)], rows[-1:]):
        print(row)
    if given.plot:
        plot(given.table.read_text(encoding="utf-8"), given.plot)


if __name__ == "__main__":
    main()
