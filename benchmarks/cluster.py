"""Measures the overhead of Ray: throughput of 1, 2, 4 and 8 actors, and a driver with 100,000 files.

python benchmarks/cluster.py                       # both tables
python benchmarks/cluster.py --only overhead --delay 2 --seconds 40

The engine is scripted: a batch of 8 takes --delay seconds, so that the ideal rate of an actor is 8 / delay. Choose a
delay that keeps the cores mostly idle. Ray counts actors as logical CPUs. The rate counts journal lines, from the
moment when every actor has stored its first caption to the last caption. It excludes the start, which has a column of
its own, and includes the end, when actors run out of work.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from random import Random

from PIL import Image

from gemma_captioner.api import run_for
from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import resolve_roots
from gemma_captioner.executors.ray.driver import BatchQueue
from gemma_captioner.pipeline.planner import Plan

_BATCH = 8


def overhead(actors: int, delay_s: float, seconds: float) -> str:
    ideal = actors * _BATCH / delay_s
    with tempfile.TemporaryDirectory() as base:
        folder = _images(Path(base, "media"), int(ideal * seconds))
        began = time.time()
        with closing(run_for([folder], _settings(Path(base), actors, delay_s))) as run:
            files = sum(1 for _ in run)
        by_actor = [
            [datetime.fromisoformat(line["at"]).timestamp() for line in map(json.loads, path.open()) if "at" in line]
            for path in (folder / ".gemma-captioner" / "runs").glob("*.*.jsonl")
        ]
    ready, ended = max(min(times) for times in by_actor), max(max(times) for times in by_actor)
    rate = sum(ready < at <= ended for times in by_actor for at in times) / (ended - ready)
    return f"| {actors} | {files} | {rate:.2f} | {ideal:.2f} | {rate / ideal:.3f} | {ready - began:.1f} |"


def driver(files: int) -> str:
    """List, plan and submit `files`. Stop at the first outcomes."""
    with tempfile.TemporaryDirectory() as base:
        folder = _images(Path(base, "media"), 4)
        for i in range(files - 4):  # hard links to the same files: only the listing is measured
            os.link(folder / f"{i % 4:06d}.png", folder / f"again-{i:06d}.png")
        settings = _settings(Path(base), 2, 0.05)
        began, packed = time.monotonic(), BatchQueue()
        for item in Plan(resolve_roots([folder], None), settings):
            packed.add(item)
        planned = time.monotonic() - began
        del packed
        began = time.monotonic()
        with closing(run_for([folder], settings)) as run:
            next(iter(run))
            first = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| {files:,} | {planned:.1f} | {first:.1f} | {peak:.0f} |"


def _settings(base: Path, actors: int, delay_s: float) -> Settings:
    script = base / "script.json"
    script.write_text(json.dumps({"delay_s": delay_s, "batch_size": _BATCH}), encoding="utf-8")
    return Settings.from_dict({"engine": "scripted", "model": str(script), "cluster": "local", "actors": actors})


def _images(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = Random(1)
    for i in range(count):
        Image.new("RGB", (64, 64), tuple(rng.randbytes(3))).save(folder / f"{i:06d}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=["overhead", "driver"])
    parser.add_argument("--delay", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--files", type=int, help="with --only driver: measure this row only")
    given = parser.parse_args()
    if given.files:
        print(driver(given.files))
        return
    if given.only != "driver":
        print("| actors | files | files/s | ideal | ratio | s until all actors are ready |\n|---|---|---|---|---|---|")
        for actors in (1, 2, 4, 8):
            print(overhead(actors, given.delay, given.seconds), flush=True)
    if given.only != "overhead":
        print(
            "| files | s to list and plan | s to the first outcome | MB, peak of the driver |\n|---|---|---|---|",
            flush=True,
        )
        for files in (1_000, 100_000):  # a process for each, because peak memory never falls
            subprocess.run([sys.executable, __file__, "--only", "driver", "--files", str(files)], check=True)


if __name__ == "__main__":
    main()
