"""A folder whose right captions are known beforehand, runs of the real command line over it, and the judge."""

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

TIMEOUT_S = 300.0  # a run that takes longer hangs
_UNPRIVILEGED = "-dac_override,-dac_read_search"
# Root may read and write anything; a run that is to meet permissions does without that.
AS_UNPRIVILEGED_USER = (
    ["setpriv", f"--bounding-set={_UNPRIVILEGED}", f"--inh-caps={_UNPRIVILEGED}"] if os.geteuid() == 0 else []
)


@dataclass
class TrialTally:
    """lost: files without their outcome at the end. duplicated: captions made once more although one was in place.

    partial: captions that were not whole at some look, and files that should not be there. wrong_exit: exit codes, or
    what was said, other than promised; a run that hangs. left: processes that outlived their run.
    """

    items: int = 0
    faults: int = 0
    lost: int = 0
    duplicated: int = 0
    partial: int = 0
    wrong_exit: int = 0
    left: int = 0

    def __iadd__(self, other: "TrialTally") -> "TrialTally":
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.partial or self.wrong_exit or self.left)


class Trial:
    """right: what each `.txt` is to hold at the end. bad: names that are to fail, and have none."""

    def __init__(self, base: Path, rng: Random, files: int, *, bad: float = 0.1, delay_s: float = 0.02) -> None:
        self.media, self._script = base / "media", base / "script.json"
        self.rng, self.tally = rng, TrialTally()
        self.media.mkdir(parents=True)
        self.right: dict[str, str] = {}
        self.bad: set[str] = set()
        self._replies: dict[str, Any] = {}
        for number in range(files):
            name = f"{number:05d}.png"
            self.add(name, bad=rng.random() < bad)
            if name in self.bad and rng.random() < 0.5:
                Image.new("RGB", (8, 8)).save(self.media / name)
                self._replies[name] = {"error": "refused"}
        self._delay_s = delay_s
        self.options = ["--engine", "scripted", "--model", str(self._script)]
        self._void: set[tuple[str, str]] = set()

    def add(self, name: str, *, bad: bool = False) -> Path:
        path = self.media / name
        if bad:
            path.write_bytes(b"no image")
            self.bad.add(name)
        else:
            Image.new("RGB", (8, 8), tuple(self.rng.randbytes(3))).save(path, "PNG")
            self.answers(name, f"A caption of file {len(self.right)}.")
        return path

    def answers(self, name: str, caption: str) -> None:
        self._replies[name] = self.right[caption_name(name)] = caption
        self.tally.items += 1

    # Runs

    def command(self, *options: object) -> list[str]:
        script = {"delay_s": self._delay_s, "batch_size": 4, "size": [8, 8], "replies": self._replies}
        self._script.write_text(json.dumps(script), encoding="utf-8")
        run = [sys.executable, "-m", "gemma_captioner", "caption", str(self.media), *self.options, "--json"]
        return [*run, *map(str, options)]

    def start(self, *options: object, **how: Any) -> subprocess.Popen[bytes]:
        """In a session of its own, as a terminal's job is."""
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | how
        return subprocess.Popen(self.command(*options), start_new_session=True, **how)

    def run(
        self, *options: object, as_unprivileged_user: bool = False, env: Mapping[str, str] | None = None
    ) -> tuple[int | None, dict[str, Any], str]:
        """(exit code, None for a run that hangs; what --json says; stderr)."""
        command = [*AS_UNPRIVILEGED_USER, *self.command(*options)] if as_unprivileged_user else self.command(*options)
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, env={**os.environ, **(env or {})})
        except subprocess.TimeoutExpired:
            return None, {}, ""
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr.decode()

    def ended(self, process: subprocess.Popen[bytes], how: signal.Signals) -> int:
        """Its exit code once it is told to end. A terminal's Ctrl-C reaches all of its processes, `kill` one."""
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

    # The judge

    @property
    def is_complete(self) -> bool:
        return self.right.keys() <= self.captions().keys()

    def captions(self) -> dict[str, str]:
        files = [entry for entry in os.scandir(self.media) if entry.name.endswith(".txt") and entry.is_file()]
        return {file.name: Path(file.path).read_text(encoding="utf-8") for file in files}

    def look(self) -> None:
        """Whether what is there is right and whole. What a kill voided, a line without its `.txt`, is noted."""
        captions = self.captions()
        self.tally.partial += sum(self.right.get(name) != caption for name, caption in captions.items())
        for name, line in self.made():
            if name not in captions:
                self._void.add((name, line))

    def made(self) -> Iterator[tuple[str, str]]:
        """(caption's name, when and by which run) of every caption in the journals."""
        for run in sorted(self.media.glob(".gemma-captioner/runs/*.jsonl")):
            for raw in run.read_bytes().splitlines() if run.is_file() else ():
                with suppress(ValueError):  # torn
                    line = json.loads(raw)
                    if isinstance(line, dict) and line.get("kind") == "caption" and "schema" not in line:
                        yield line["caption_file"], f"{run.name} {line['at']}"

    def evaluate(self, code: int | None, said: dict[str, Any], *, failed: int | None = None) -> TrialTally:
        """After the last run. failed: how many it is to tell of."""
        failed = len(self.bad) if failed is None else failed
        captions, told = self.captions(), {Path(failure["path"]).name for failure in said.get("failures", [])}
        self.tally.lost += len(self.right.keys() - captions.keys()) + len(self.bad - told)
        self.tally.partial += sum(self.right.get(name) != caption for name, caption in captions.items())
        strays = {path.name for path in self.media.iterdir()} - captions.keys() - self._given
        self.tally.partial += len(strays - {".gemma-captioner"})
        counted = Counter(name for name, line in self.made() if (name, line) not in self._void)
        self.tally.duplicated += sum(number - 1 for number in counted.values())
        self.tally.wrong_exit += code != (3 if failed else 0) or said.get("failed") != failed
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
    """A function of (a folder of its own, chance, whether in the short form): figures, or why it was not run."""

    def register(function: Case) -> Case:
        CASES[name] = function
        return function

    return register


@contextmanager
def ground() -> Iterator[Path]:
    with TemporaryDirectory(prefix="torture-") as base:
        try:
            yield Path(base)
        finally:
            for path in Path(base).rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
            shutil.rmtree(base, ignore_errors=True)
