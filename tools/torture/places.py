"""Disks and folders that fail, and files that change while they are read."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from .trial import Trial, TrialTally, case


@contextmanager
def _small_disk(at: Path, kilobytes: int) -> Iterator[bool]:
    """Mount a small file system, which requires root. Yield whether that worked."""
    at.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", at], capture_output=True)
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", at], check=True)


@case("the disk fills")
def full(base: Path, rng: Random, short: bool) -> TrialTally | str:
    """The disk fills at a random write: caption, journal or temporary file. The next run has more space."""
    total = TrialTally()
    for number in range(2 if short else 20):
        at = base / str(number)
        with _small_disk(at, 4096) as is_there:
            if not is_there:
                return "requires a file system of its own: run as root"
            trial = Trial(at, rng, 120, delay_s=0.0)
            free = shutil.disk_usage(at).free - rng.randrange(8, 300) * 1024
            (at / "ballast").write_bytes(b"\0" * free)
            code, _, stderr = trial.run()
            trial.tally.faults += 1
            trial.tally.wrong_exit += code != 1 or "the disk is full" not in stderr or trial.is_complete
            trial.check_captions()
            (at / "ballast").unlink()
            code, summary, _ = trial.run()
            total += trial.evaluate(code, summary)
    return total


@case("a folder that may not be written")
def read_only(base: Path, rng: Random, short: bool) -> TrialTally:
    """The run fails at once and writes nothing. With --output it works."""
    trial = Trial(base, rng, 40)
    before = set(os.listdir(trial.media))
    trial.media.chmod(0o555)
    code, _, stderr = trial.run(as_unprivileged_user=True)
    trial.tally.wrong_exit += code != 1 or "--output" not in stderr
    trial.tally.partial += set(os.listdir(trial.media)) != before
    code, _, _ = trial.run("--output", base / "out", as_unprivileged_user=True)
    captions = {path.name: path.read_text(encoding="utf-8") for path in (base / "out").glob("*.txt")}
    trial.tally.lost += captions != trial.right
    trial.media.chmod(0o755)
    code, summary, _ = trial.run(as_unprivileged_user=True)
    trial.tally.faults = 1
    return trial.evaluate(code, summary)


@case("a folder that loses its permission")
def loses_permission(base: Path, rng: Random, short: bool) -> TrialTally:
    """The media folder or the journal's folder becomes read-only during a run. The next run completes the folder."""
    total = TrialTally()
    for number in range(2 if short else 20):
        trial = Trial(base / str(number), rng, 120)
        trial.media.joinpath(".gemma-captioner", "tmp").mkdir(parents=True)
        victims = [trial.media, trial.media / ".gemma-captioner", trial.media / ".gemma-captioner" / "tmp"]
        victim = rng.choice(victims)
        timer = threading.Timer(rng.uniform(0.5, 2.5), victim.chmod, [0o555])
        timer.start()
        code, summary, _ = trial.run(as_unprivileged_user=True)
        timer.join()
        victim.chmod(0o755)
        trial.tally.faults += 1
        # The run ended earlier, or stopped, or reported each file without a caption.
        uncaptioned = trial.right.keys() - trial.captions().keys()
        trial.tally.wrong_exit += code not in ({1, 3} if uncaptioned else {1, 3, 0})
        if code == 3:
            names = {Path(one["path"]).name for one in summary["failures"]}
            trial.tally.lost += len(uncaptioned - {name.replace(".png", ".txt") for name in names})
        trial.check_captions()
        code, summary, _ = trial.run(as_unprivileged_user=True)
        total += trial.evaluate(code, summary)
    return total


@case("files that vanish, change and grow")
def changing(base: Path, rng: Random, short: bool) -> TrialTally:
    total = TrialTally()
    for number in range(1 if short else 10):
        trial = Trial(base / str(number), rng, 200)
        process = trial.start()
        names = sorted(trial.right)
        while process.poll() is None:
            path = trial.media / rng.choice(names).replace(".txt", ".png")
            match rng.randrange(3):
                case 0:
                    path.unlink(missing_ok=True)
                case 1:
                    path.write_bytes(b"\0" * rng.randrange(2000))
                case _:
                    with path.open("ab") as file:
                        file.write(rng.randbytes(5000))
            trial.tally.faults += 1
            time.sleep(0.02)
        trial.tally.wrong_exit += process.returncode not in (0, 3)
        trial.check_captions()
        present = trial.captions()
        for name in names:  # the next run cannot caption a file that is missing or broken now
            path = trial.media / name.replace(".txt", ".png")
            if name not in present and not path.exists():
                del trial.right[name]
            elif name not in present and not path.read_bytes().startswith(b"\x89PNG"):
                del trial.right[name]
                trial.bad.add(path.name)
        code, summary, _ = trial.run()
        total += trial.evaluate(code, summary)
    return total
