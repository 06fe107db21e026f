"""A folder with known correct captions, runs of the real command line over it, and the evaluation."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from PIL import Image

from tests.support.command import AS_UNPRIVILEGED_USER

TIMEOUT_S = 300.0  # a longer run counts as hanging


@dataclass
class TrialTally:
    items: int = 0
    faults: int = 0
    lost: int = 0  # files without the right outcome at the end
    duplicated: int = 0  # captions that were made again although one existed
    partial: int = 0  # incomplete captions at any check, and unexpected files
    wrong_exit: int = 0  # wrong exit codes or messages, and runs that hang
    left: int = 0  # processes that outlived their run

    def __iadd__(self, other: "TrialTally") -> "TrialTally":
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.partial or self.wrong_exit or self.left)


class Trial:
    """right: the correct content of each `.txt`. bad: the names of files that must fail.

    old: the captions before the first run, if the runs overwrite them.
    """

    def __init__(self, base: Path, rng: Random, files: int, *, bad: float = 0.1, delay_s: float = 0.02) -> None:
        self.media, self._script = base / "media", base / "script.json"
        self.rng, self.tally = rng, TrialTally()
        self.media.mkdir(parents=True)
        self.right: dict[str, str] = {}
        self.bad: set[str] = set()
        self.old: dict[str, str] = {}
        self._replies: dict[str, Any] = {}
        for number in range(files):
            name = f"{number:05d}.png"
            self.add(name, bad=rng.random() < bad)
            if name in self.bad and rng.random() < 0.5:
                Image.new("RGB", (8, 8)).save(self.media / name)
                self._replies[name] = {"error": "refused"}
        self._delay_s = delay_s
        self.options = ["--engine", "scripted", "--model", str(self._script)]
        self.uncounted: set[tuple[str, str]] = set()  # of `made`: captions that may be made again

    def add(self, name: str, *, bad: bool = False) -> Path:
        path = self.media / name
        if bad:
            path.write_bytes(b"no image")
            self.bad.add(name)
        else:
            Image.new("RGB", (8, 8), tuple(self.rng.randbytes(3))).save(path, "PNG")
            self.tally.items += 1
            self.answers(name, f"A caption of file {len(self.right)}.")
        return path

    def answers(self, name: str, caption: str, *replies: str) -> None:
        """replies: the answers to one prompt after the other, if there is more than one."""
        self._replies[name] = list(replies) or caption
        self.right[caption_name(name)] = caption

    # Runs

    def command(self, *options: object) -> list[str]:
        script = {"delay_s": self._delay_s, "batch_size": 4, "size": [8, 8], "max_audio_s": 30.0}
        script["replies"] = self._replies
        self._script.write_text(json.dumps(script), encoding="utf-8")
        run = [sys.executable, "-m", "gemma_captioner", "caption", str(self.media), *self.options, "--json"]
        return [*run, *map(str, options)]

    def start(self, *options: object, **how: Any) -> subprocess.Popen[bytes]:
        """Start a run in a process session of its own, as a terminal does."""
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | how
        return subprocess.Popen(self.command(*options), start_new_session=True, **how)

    def run(
        self, *options: object, as_unprivileged_user: bool = False, env: Mapping[str, str] | None = None
    ) -> tuple[int | None, dict[str, Any], str]:
        """Return (exit code, None for a run that hangs; the object of --json; stderr)."""
        command = [*AS_UNPRIVILEGED_USER, *self.command(*options)] if as_unprivileged_user else self.command(*options)
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, env={**os.environ, **(env or {})})
        except subprocess.TimeoutExpired:
            return None, {}, ""
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr.decode()

    def ended(self, process: subprocess.Popen[bytes], how: signal.Signals) -> int:
        """Send a signal and return the exit code. Ctrl-C reaches all processes of a run, `kill` only one."""
        with suppress(ProcessLookupError):
            (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        code = process.wait(TIMEOUT_S)
        until = time.monotonic() + 20
        while (left := of_session(process.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        self.tally.left += len(left)
        for one in left:
            with suppress(psutil.Error):
                one.kill()
        return code

    # Evaluation

    @property
    def is_complete(self) -> bool:
        return self.right.items() <= self.captions().items()

    def captions(self) -> dict[str, str]:
        files = [entry for entry in os.scandir(self.media) if entry.name.endswith(".txt") and entry.is_file()]
        return {file.name: Path(file.path).read_text(encoding="utf-8") for file in files}

    def check_captions(self) -> None:
        """Check the captions so far. Remember journal lines without a `.txt`: a kill came between the two writes."""
        captions = self.captions()
        known = {name: (caption, self.old.get(name)) for name, caption in self.right.items()}
        self.tally.partial += sum(caption not in known.get(name, ()) for name, caption in captions.items())
        for name, line in self.made():
            if captions.get(name) != self.right.get(name):
                self.uncounted.add((name, line))

    def made(self) -> Iterator[tuple[str, str]]:
        """Yield (caption's name, run and time) of every caption in the journals."""
        for run in sorted(self.media.glob(".gemma-captioner/runs/*.jsonl")):
            for raw in run.read_bytes().splitlines() if run.is_file() else ():
                with suppress(ValueError):  # an incomplete line
                    line = json.loads(raw)
                    if isinstance(line, dict) and line.get("kind") == "caption" and "schema" not in line:
                        yield line["caption_file"], f"{run.name} {line['at']}"

    def evaluate(self, code: int | None, summary: dict[str, Any], *, failed: int | None = None) -> TrialTally:
        """Evaluate the last run. failed: the expected number of failures."""
        failed = len(self.bad) if failed is None else failed
        captions, reported = self.captions(), {Path(failure["path"]).name for failure in summary.get("failures", [])}
        self.tally.lost += len(self.right.keys() - captions.keys()) + len(self.bad - reported)
        self.tally.partial += sum(self.right.get(name) != caption for name, caption in captions.items())
        strays = {path.name for path in self.media.iterdir()} - captions.keys() - self._given
        self.tally.partial += len(strays - {".gemma-captioner"})
        counted = Counter(name for name, line in self.made() if (name, line) not in self.uncounted)
        self.tally.duplicated += sum(number - 1 for number in counted.values())
        self.tally.wrong_exit += code != (3 if failed else 0) or summary.get("failed") != failed
        return self.tally

    @property
    def _given(self) -> set[str]:
        return {path.name for path in self.media.iterdir() if path.suffix != ".txt" and path.name[0] != "."}


def caption_name(name: str) -> str:
    return name.rpartition(".")[0] + ".txt"


def of_session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


Case = Callable[[Path, Random, bool], TrialTally | str]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Register a function of (empty folder, generator, short form). It returns a tally, or why it did not run."""

    def register(function: Case) -> Case:
        CASES[name] = function
        return function

    return register


@contextmanager
def scratch_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="torture-") as base:
        try:
            yield Path(base)
        finally:
            for path in Path(base).rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
            shutil.rmtree(base, ignore_errors=True)
