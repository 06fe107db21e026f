"""Concurrent runs, clocks that jump, and damaged journals."""

import json
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Any

from .trial import Trial, TrialTally, case


@case("two runs at once")
def two(base: Path, rng: Random, short: bool) -> TrialTally:
    """The later run reports the other one and stops."""
    total = TrialTally()
    for number in range(1 if short else 15):
        trial = Trial(base / str(number), rng, 100)
        runs = [trial.start()]
        time.sleep(rng.uniform(0, 0.3))
        runs.append(trial.start())
        codes = sorted(run.wait(300) for run in runs)
        trial.tally.wrong_exit += codes not in ([1, 3], [3, 3])  # [3, 3]: the second run found everything done
        trial.tally.faults += 1
        trial.check_captions()
        code, summary, _ = trial.run()
        total += trial.evaluate(code, summary)
    return total


@case("shards side by side, killed")
def shards(base: Path, rng: Random, short: bool) -> TrialTally:
    total = TrialTally()
    for number in range(1 if short else 8):
        trial = Trial(base / str(number), rng, 160)
        while not trial.is_complete:
            runs = [trial.start("--shard", f"{shard}/3") for shard in (1, 2, 3)]
            victim = rng.choice(runs)
            time.sleep(rng.uniform(0.5, 2.5))
            trial.tally.faults += victim.poll() is None
            victim.kill()
            codes = {run: run.wait(300) for run in runs}
            trial.tally.wrong_exit += sum(codes[run] not in (0, 3) for run in runs if run is not victim)
            trial.check_captions()
        code, summary, _ = trial.run()
        total += trial.evaluate(code, summary)
    return total


_CLOCK = """
import datetime, os, time
offset_s, jump_s = map(float, os.environ["TORTURE_CLOCK"].split())
began, real = time.monotonic(), time.time
time.time = lambda: real() + offset_s + (jump_s if time.monotonic() - began > 1.5 else 0)
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Jumping
"""  # becomes sitecustomize.py, which Python imports first
_YEAR_S = 365 * 86400


@case("clocks that jump")
def clocks(base: Path, rng: Random, short: bool) -> TrialTally:
    """Run at different dates. The clock also jumps during each run."""
    trial = Trial(base, rng, 100)
    (base / "sitecustomize.py").write_text(_CLOCK, encoding="utf-8")
    years = iter([(-1, 0.5), (0, -3), (-1, 2), (-2, -2), (-3, 1), (0, 0)])

    def run(*options: object) -> tuple[int | None, dict[str, Any], str]:
        offset, jump = next(years)
        trial.tally.faults += 2
        env = {"PYTHONPATH": str(base), "TORTURE_CLOCK": f"{offset * _YEAR_S} {jump * _YEAR_S}"}
        code, summary, stderr = trial.run(*options, env=env)
        trial.tally.wrong_exit += code != 3
        return code, summary, stderr

    for options in (("--limit", 40), ("--limit", 40), (), ("--existing", "stale")):
        run(*options)
        trial.check_captions()
    # `restore` brings back the captions of the last run, whatever the time on the clock.
    before = trial.captions()
    run("--existing", "overwrite", "--prefix", "New: ")
    newest = max((trial.media / ".gemma-captioner" / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
    undone = subprocess.run([*trial.command()[:3], "restore", newest.stem, str(trial.media)], capture_output=True)
    trial.tally.wrong_exit += undone.returncode != 0
    trial.tally.lost += trial.captions() != before
    trial.uncounted |= {line for line in trial.made() if line[1].startswith(newest.name)}
    code, summary, _ = run()
    return trial.evaluate(code, summary)


@case("journals that are not what they were")
def journals(base: Path, rng: Random, short: bool) -> TrialTally:
    """Corrupt, cut, read-only, unreadable, a folder, or of a later version: captions stay, and the run continues."""
    total = TrialTally()
    newer = {"kind": "caption", "path": 7, "caption_file": [], "digest": None, "recipe": {}, "at": 0, "schema": 9}
    harms = ("locked", "newer", "folder", "garbage", "cut", "unreadable")
    for number, harm in enumerate(harms[:2] if short else harms):
        trial = Trial(base / str(number), rng, 40)
        trial.run("--limit", 15)
        before = trial.captions()
        [run] = (trial.media / ".gemma-captioner" / "runs").iterdir()
        content = run.read_bytes()
        made = list(trial.made())
        match harm:
            case "garbage":
                run.write_bytes(rng.randbytes(3000) + b"\n" + content[:500] + b"\0" * 500)
            case "cut":
                run.write_bytes(content[: rng.randrange(len(content))])
            case "locked":
                run.chmod(0o444)
                run.parent.chmod(0o555)
            case "unreadable":
                run.chmod(0)
            case "folder":
                run.unlink()
                run.mkdir()
            case "newer":
                lines = [newer, {"kind": "sculpture"}, 5, [], {"kind": "failure"}, {"kind": "caption", "schema": 9}]
                run.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
        for options in ((), ("--existing", "stale")) if short else ((), ("--existing", "stale"), ("--only", "flagged")):
            code, _, stderr = trial.run(*options, as_unprivileged_user=True)
            trial.tally.wrong_exit += code not in ((0, 1, 3) if harm == "locked" else (0, 3)) or "Traceback" in stderr
            trial.tally.lost += not before.items() <= trial.captions().items()
        run.parent.chmod(0o755)
        run.chmod(0o755 if harm == "folder" else 0o644)
        code, summary, _ = trial.run("--existing", "stale")
        trial.tally.faults += 1
        trial.uncounted |= set(made)
        total += trial.evaluate(code, summary)
    return total
