"""Measures folders of up to a million files: to list and plan them, to find them done, to caption the last thousand.

python benchmarks/scale.py [--files 10000,100000,1000000]

Each command runs in a process of its own, with the scripted engine. The lower bound is os.scandir over the same folders
with a stat of each caption. The files are in folders of 10,000, and once all in one folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_FILES_PER_FOLDER = 10_000
_REMAINING = 1000
_RUNS = 3


@dataclass(frozen=True)
class Usage:
    seconds: float
    cpu_s: float  # user and system time of all its processes
    megabytes: float  # peak memory of the command's main process


def run_measured(command: list[str], expected: int) -> Usage:
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    stderr = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    assert code == expected, stderr[-2000:]
    return Usage(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def scandir_floor(root: Path) -> float:
    began = time.monotonic()
    folders = [os.fspath(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.endswith(".txt"):
                    entry.stat()
    return time.monotonic() - began


def write(root: Path, files: range, files_per_folder: int, suffix: str, content: bytes) -> None:
    """Write files without a list in memory: peak memory of a parent process counts for its children."""
    for number in files:
        folder = f"{root}/{number // files_per_folder:04d}"
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/{number:07d}{suffix}", "wb") as file:
            file.write(content)


def measured(base: Path, files: int, files_per_folder: int, image: bytes) -> dict[str, object]:
    root = base / f"{files}-{files_per_folder}"
    script = base / "script.json"
    script.write_text('{"batch_size": 64, "size": [8, 8]}', encoding="utf-8")
    write(root, range(files), files_per_folder, ".png", image)
    run = [sys.executable, "-m", "gemma_captioner"]
    engine = [str(root), "--recursive", "--engine", "scripted", "--model", str(script)]
    planned = [run_measured([*run, "caption", "--dry-run", *engine], 0) for _ in range(_RUNS)]
    write(root, range(files - _REMAINING), files_per_folder, ".txt", b"A square.")
    last = run_measured([*run, "caption", *engine], 0)
    finished = [run_measured([*run, "caption", *engine], 0) for _ in range(_RUNS)]
    floor = statistics.median(scandir_floor(root) for _ in range(_RUNS))
    subprocess.run(["rm", "-rf", root], check=True)
    of = {"list and plan, none done": planned, "the last 1,000": [last], "all done": finished}
    return {
        "files": files,
        "per folder": files_per_folder,
        "scandir, seconds": round(floor, 2),
        **{
            name: {
                "seconds": round(statistics.median(one.seconds for one in runs), 2),
                "cpu, seconds": round(statistics.median(one.cpu_s for one in runs), 2),
                "megabytes": round(statistics.median(one.megabytes for one in runs)),
            }
            for name, runs in of.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", default="10000,100000,1000000")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        drawn = Path(base, "drawn.png")
        Image.new("RGB", (8, 8)).save(drawn)
        sizes = [int(one) for one in given.files.split(",")]
        for files, files_per_folder in [*((files, _FILES_PER_FOLDER) for files in sizes), (max(sizes), max(sizes))]:
            print(json.dumps(measured(Path(base), files, files_per_folder, drawn.read_bytes())), flush=True)


if __name__ == "__main__":
    main()
