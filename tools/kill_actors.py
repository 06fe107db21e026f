"""Kill the actors of a cluster run at random, and its driver, and count what comes of it.

python tools/kill_actors.py                     # 2,000 files, an actor every 4 s, the driver three times
python tools/kill_actors.py --files 60 --driver-kills 1 --seconds 2

The engine is the scripted one. Two files in a hundred cannot be read, one is refused by the engine, one more kills the
process that it is captioned in.
"""

import argparse
import json
import signal
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

_ENDINGS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)  # of drivers, in turn
_EXIT_S = 60.0  # until all have followed a driver that was killed; an idle worker of Ray's takes half of it
_RAYS_OWN = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # which take a minute or two to notice


@dataclass
class ChaosResult:
    """lost: files without an outcome. wrong: files with another outcome than the script's, or more than one.

    repeated: captions in the journal beyond one a file: what an actor was storing when it was killed. left: processes
    that outlived their driver. endings: exit codes of drivers that were ended early. told: what the last run said with
    --json.
    """

    files: int
    lost: int = 0
    wrong: int = 0
    repeated: int = 0
    left: int = 0
    actors_killed: int = 0
    endings: list[int] = field(default_factory=list)
    seconds: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)
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
        ended, began = ChaosResult(files), time.monotonic()
        while ended.exit_code is None:
            dies = len(ended.endings) < driver_kills
            share = (len(ended.endings) + 1) / (driver_kills + 1) * rng.uniform(0.7, 1.0)
            _run(command, folder, ended, rng, every_s, until=int(files * share) if dies else None)
        ended.seconds = time.monotonic() - began
        _evaluate(ended, folder, set(names), set(marked))
        return ended


def _make_files(folder: Path, files: int, rng: Random) -> list[str]:
    folder.mkdir()
    names = [f"{i:05d}.png" for i in range(files)]
    for name in names:
        Image.new("RGB", (64, 64), tuple(rng.randbytes(3))).save(folder / name)
    return names


def _run(command: list[str], folder: Path, ended: ChaosResult, rng: Random, every_s: float, until: int | None) -> None:
    """One driver, to its end or its death after `until` captions; meanwhile its actors die."""
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
    assert driver.stdout is not None
    process, next_kill = psutil.Process(driver.pid), None
    family: dict[int, psutil.Process] = {}
    while driver.poll() is None:
        children = process.children(recursive=True) if process.is_running() else []
        family |= {child.pid: child for child in children}
        if until is not None and sum(1 for _ in folder.glob("*.txt")) >= until:
            time.sleep(rng.uniform(0.2, 8))  # Ray takes some to start; a Python of 0.1 s has no Ctrl-C of its own yet
            driver.send_signal(_ENDINGS[len(ended.endings) % len(_ENDINGS)])
            ended.endings.append(driver.wait())
            break
        workers = [child for child in children if title(child).startswith("ray::MapWorker")]
        next_kill = next_kill or (time.monotonic() + rng.uniform(0.3, 1) * every_s if workers else None)
        if next_kill and time.monotonic() > next_kill and workers:
            with suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
                ended.actors_killed += 1
            next_kill = None
        time.sleep(0.1)
    else:
        ended.told, ended.exit_code = json.loads(driver.stdout.read()), driver.returncode
    driver.stdout.close()
    ours = [one for one in family.values() if not title(one).startswith(_RAYS_OWN)]
    ended.left += len(psutil.wait_procs(ours, timeout=_EXIT_S)[1])
    for one in family.values():
        with suppress(psutil.NoSuchProcess):
            one.kill()


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _evaluate(ended: ChaosResult, folder: Path, names: set[str], marked: set[str]) -> None:
    captioned = {path.stem + ".png" for path in folder.glob("*.txt")}
    failed = Counter(Path(failure["path"]).name for failure in ended.told["failures"])
    ended.lost = len(names - captioned - failed.keys())
    ended.wrong = len((captioned ^ (names - marked)) | (failed.keys() ^ marked)) + sum(n > 1 for n in failed.values())
    counted = ended.told["captioned"] + ended.told["skipped"] + ended.told["failed"]
    ended.wrong += abs(counted - len(names))
    made: Counter[str] = Counter()
    for run in (folder / ".gemma-captioner" / "runs").glob("*.jsonl"):
        for raw in run.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # torn by a kill
                if (line := json.loads(raw))["kind"] == "caption":
                    made[line["path"]] += 1
    ended.repeated = sum(n - 1 for n in made.values() if n > 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="between two deaths of actors, at the most")
    parser.add_argument("--driver-kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(
        run_chaos(
            files=given.files,
            actors=given.actors,
            every_s=given.seconds,
            driver_kills=given.driver_kills,
            seed=given.seed,
        )
    )


if __name__ == "__main__":
    main()
