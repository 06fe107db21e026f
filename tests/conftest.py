"""Real media drawn into a folder, and the command line run as a user runs it."""

import json
import os

# Before torch is imported, here and in the commands that are run: it is the tests that run side by side.
os.environ["OMP_NUM_THREADS"] = "1"

# isort: split

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gemma_captioner.demo.samples import draw_samples


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def command() -> Callable[..., Finished]:
    """Run `gemma-captioner ARGS...` in a process of its own."""

    def run(*args: object, env: dict[str, str] | None = None, timeout: float = 120) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "gemma_captioner", *map(str, args)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})},
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


def captions(folder: Path) -> dict[str, str]:
    """Every `.txt` below `folder`, by its path within: what stands in it."""
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.txt"))}


def journal(folder: Path) -> list[dict[str, Any]]:
    """All lines of a folder's journal."""
    runs = sorted((folder / ".gemma-captioner" / "runs").glob("*.jsonl"))
    return [json.loads(line) for run in runs for line in run.read_text().splitlines()]
