"""Real media drawn into a folder, and the command line run as a user runs it."""

import json
import os

# Before torch is imported, here and in the commands that are run: it is the tests that run side by side.
os.environ["OMP_NUM_THREADS"] = "1"

# isort: split

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines.checkpoint import DEMO
from gemma_captioner.engines.server.client import Address, Client
from gemma_captioner.engines.server.serving import Served
from gemma_captioner.settings import Server, Settings

# In the background of a shell it is ignored, by heirs too: no command could be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


class Zygote:
    """See zygote.py."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"HF_HUB_OFFLINE": "1", **os.environ},
        )

    def run(self, args: list[str], cwd: Path, variables: dict[str, str]) -> Finished:
        to = [self._folder / f"{next(self._numbers)}-{stream}" for stream in ("out", "err")]
        assert self._process.stdin and self._process.stdout
        asked = {"args": args, "cwd": str(cwd), "variables": variables, "to": [str(path) for path in to]}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Finished(code, *(path.read_text(encoding="utf-8") for path in to))

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory) -> Iterator[Zygote]:
    with closing(Zygote(tmp_path_factory.mktemp("zygote"))) as zygote:
        yield zygote


@pytest.fixture
def command(request, tmp_path) -> Callable[..., Finished]:
    """Run `gemma-captioner ARGS...`, or `python SCRIPT.py ARGS...`, in a process of its own.

    env: of the environment, for a process that Python starts anew.
    variables: of the environment, which what is imported already need not see.
    """

    def run(
        *args: object,
        cwd: Path = tmp_path,
        env: dict[str, str] | None = None,
        variables: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> Finished:
        words = list(map(str, args))
        if env is None and sys.platform == "linux":  # elsewhere a process with threads cannot be forked, or none
            return request.getfixturevalue("zygote").run(words, cwd, variables or {})
        done = subprocess.run(
            [sys.executable, *(words if words[0].endswith(".py") else ["-m", "gemma_captioner", *words])],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env={"HF_HUB_OFFLINE": "1", **os.environ, **(env or {})},
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder of five drawn images and three drawn clips."""
    folder = tmp_path / "media"
    draw_samples(folder, images=5, clips=3, seed=7)
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Write a script for the scripted engine: its path."""

    def write(**values: Any) -> Path:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(values))
        return path

    return write


@pytest.fixture(scope="session")
def transformers_serve(tmp_path_factory) -> Iterator[str]:
    """The demo checkpoint behind `transformers serve`: its URL. A server for each of the tests' processes."""
    address = Address.of(Server(serve="any"))
    transformers = Path(sys.executable).with_name("transformers")
    served = Served(f"HF_HUB_OFFLINE=1 {transformers} serve {DEMO} --host 127.0.0.1 --port {address.port} --device cpu")
    try:
        served.wait_until(Client(address).is_up, 120)
        yield address.url
    finally:
        served.close()


def served_demo(url: str, **more: Any) -> Settings:
    """Settings for the demo checkpoint behind a server: as exact as it can be sent."""
    asked = {"engine": "server", "base_url": url, "model": str(DEMO), "image_size": 64, "image_format": "png"}
    return Settings.of(asked, more)


def captions(folder: Path) -> dict[str, str]:
    """Every `.txt` below `folder`, by its path within: what stands in it."""
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.txt"))}


def journal(folder: Path) -> list[dict[str, Any]]:
    """All lines of a folder's journal."""
    runs = sorted((folder / ".gemma-captioner" / "runs").glob("*.jsonl"))
    return [json.loads(line) for run in runs for line in run.read_text().splitlines()]
