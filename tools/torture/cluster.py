"""Cluster runs whose actors and driver are killed at random moments.

The engine is scripted. 2% of the files are bad: the engine refuses one, one kills the process that captions it, and the
others cannot be read.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
from PIL import Image

from .endings import EXIT_CODES
from .trial import TrialTally, case

_EXIT_S = 60.0  # until all processes have followed a killed driver; an idle Ray worker takes half of it
_RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # they take a minute or two to exit


@dataclass
class ChaosResult:
    files: int
    lost: int = 0  # files without an outcome
    wrong: int = 0  # files with a wrong outcome, or with more than one
    repeated: int = 0  # captions that the journal has twice: an actor was killed while it stored one
    left: int = 0  # processes that outlived their driver
    actors_killed: int = 0
    endings: list[int] = field(default_factory=list)  # exit codes of drivers that were ended early
    summary: dict[str, Any] = field(default_factory=dict)  # the last run's output of --json
    exit_code: int | None = None


def run_chaos(*, files: int, actors: int, every_s: float, driver_kills: int, seed: int) -> ChaosResult:
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base, "media")
        names = _make_files(folder, files, rng)
        marked = rng.sample(names, max(4, files // 100 * 2))
        poison, refused, unreadable = marked[:1], marked[1:2], marked[2:]
        for name in unreadable:
            (folder / name).write_bytes(b"no image")
        script = Path(base, "script.json")
        replies = {name: {"kills": True} for name in poison} | {name: {"error": "refused"} for name in refused}
        script.write_text(json.dumps({"delay_s": 0.05, "replies": replies}), encoding="utf-8")
        command = [sys.executable, "-m", "gemma_captioner", "caption", str(folder), "--engine", "scripted"]
        command += ["--model", str(script), "--cluster", "local", "--actors", str(actors), "--json"]
        result = ChaosResult(files)
        while result.exit_code is None:
            dies = len(result.endings) < driver_kills
            share = (len(result.endings) + 1) / (driver_kills + 1) * rng.uniform(0.7, 1.0)
            _run(command, folder, result, rng, every_s, until=int(files * share) if dies else None)
        _evaluate(result, folder, set(names), set(marked))
        return result


def _make_files(folder: Path, files: int, rng: Random) -> list[str]:
    folder.mkdir()
    names = [f"{i:05d}.png" for i in range(files)]
    for name in names:
        Image.new("RGB", (64, 64), tuple(rng.randbytes(3))).save(folder / name)
    return names


def _run(command: list[str], folder: Path, result: ChaosResult, rng: Random, every_s: float, until: int | None) -> None:
    """Run one driver until it ends, or end it after `until` captions. Kill its actors meanwhile.

    An actor dies only after new captions since the last kill: on a busy machine none would ever finish its start.
    """
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
    assert driver.stdout is not None
    process, next_kill, signals = psutil.Process(driver.pid), None, list(EXIT_CODES)
    family: dict[int, psutil.Process] = {}
    done = done_at_kill = 0
    while driver.poll() is None:
        children = process.children(recursive=True) if process.is_running() else []
        family |= {child.pid: child for child in children}
        done = sum(1 for _ in folder.glob("*.txt"))
        if until is not None and done >= until:
            time.sleep(rng.uniform(0.2, 8))  # may hit the start of Ray, not Python's, which cannot handle Ctrl-C yet
            driver.send_signal(signals[len(result.endings) % len(signals)])
            result.endings.append(driver.wait())
            break
        workers = [child for child in children if title(child).startswith("ray::MapWorker")]
        next_kill = next_kill or (time.monotonic() + rng.uniform(0.3, 1) * every_s if workers else None)
        if next_kill and time.monotonic() > next_kill and workers and done > done_at_kill:
            with suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
                result.actors_killed += 1
            next_kill, done_at_kill = None, done
        time.sleep(0.1)
    else:
        result.summary, result.exit_code = json.loads(driver.stdout.read()), driver.returncode
    driver.stdout.close()
    processes = [process for process in family.values() if not title(process).startswith(_RAY_AGENTS)]
    result.left += len(psutil.wait_procs(processes, timeout=_EXIT_S)[1])
    for process in family.values():
        with suppress(psutil.NoSuchProcess):
            process.kill()


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _evaluate(result: ChaosResult, folder: Path, names: set[str], marked: set[str]) -> None:
    captioned = {path.stem + ".png" for path in folder.glob("*.txt")}
    failed = Counter(Path(failure["path"]).name for failure in result.summary["failures"])
    result.lost = len(names - captioned - failed.keys())
    result.wrong = len((captioned ^ (names - marked)) | (failed.keys() ^ marked)) + sum(n > 1 for n in failed.values())
    counted = result.summary["captioned"] + result.summary["skipped"] + result.summary["failed"]
    result.wrong += abs(counted - len(names))
    made: Counter[str] = Counter()
    for run in (folder / ".gemma-captioner" / "runs").glob("*.jsonl"):
        for raw in run.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # a kill left an incomplete line
                if (line := json.loads(raw))["kind"] == "caption":
                    made[line["path"]] += 1
    result.repeated = sum(n - 1 for n in made.values() if n > 1)


@case("ended at random, cluster")
def cluster(base: Path, rng: Random, short: bool) -> TrialTally:
    """End drivers with each signal in turn, and kill one actor after the other."""
    files, drivers = (60, 1) if short else (1000, 20)
    result = run_chaos(files=files, actors=2, every_s=10, driver_kills=drivers, seed=rng.randrange(1000))
    faults = result.actors_killed + len(result.endings)
    # An actor that dies while it stores a caption makes it again, which is within the guarantee.
    beyond = max(0, result.repeated - result.actors_killed - 2 * drivers)
    wrong = sum(code not in set().union(*EXIT_CODES.values()) for code in result.endings) + (result.exit_code != 3)
    if wrong:
        print(f"  exit codes {result.endings}, {result.exit_code} at the end")
    return TrialTally(files, faults, result.lost, beyond, result.wrong, wrong, result.left)
