"""Runs `gemma-captioner` for tests: in this process, in a fork of a warm process, or in a new process.

This process is fastest: modules are imported, and the fork server of the decode workers is warm. A test of signals,
locks or crashes needs a fork. A test of environment variables that imports read needs a new process.
"""

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from gemma_captioner.cli import main

_OUTPUTS = count()

# Root ignores permissions. A test of permissions drops these capabilities.
_CAPABILITIES = "-dac_override,-dac_read_search"
AS_UNPRIVILEGED_USER = (
    ["setpriv", f"--bounding-set={_CAPABILITIES}", f"--inh-caps={_CAPABILITIES}"]
    if os.name != "nt" and not os.geteuid()
    else []
)


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


def execute(words: list[str]) -> int:
    """Run `gemma-captioner WORDS...`, or `python WORDS...` for a script or `-c`, here. Return the exit code."""
    try:
        if words[:1] == ["-c"]:
            exec(words[1], {"__name__": "__main__"})
        elif words and words[0].endswith(".py"):
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
        else:
            sys.argv = ["gemma-captioner", *words]
            main(words)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run_in_process(words: list[str], folder: Path, cwd: Path) -> CommandResult:
    """Run in this process and restore its state. folder: receives the output."""
    outputs = _outputs(folder)
    streams, argv, path, before = (sys.stdout, sys.stderr), sys.argv, sys.path[:], dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _redirected(1, outputs[0]), _redirected(2, outputs[1]), contextlib.chdir(cwd):
        sys.stdout, sys.stderr = _OUT, _ERR
        _redirect_loggers(_ERR)
        try:
            with _default_warnings():
                code = execute(words)
        finally:
            _OUT.flush()
            _ERR.flush()
            os.environ.clear()
            os.environ.update(before)
            (sys.stdout, sys.stderr), sys.argv, sys.path[:] = streams, argv, path
            _redirect_loggers(sys.stderr)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return CommandResult(code, *(p.read_text(encoding="utf-8") for p in outputs))


def _outputs(folder: Path) -> tuple[Path, Path]:
    number = next(_OUTPUTS)
    out, err = (folder / f"{os.getpid()}-{number}-{stream}" for stream in ("out", "err"))
    out.touch()
    err.touch()
    return out, err


# Libraries keep the stream that they find when they are imported, so these streams are never closed. Redirecting their
# file descriptors redirects the output of each command.
_OUT, _ERR = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))


@contextlib.contextmanager
def _redirected(number: int, path: Path) -> Iterator[None]:
    kept = os.dup(number)
    to = os.open(path, os.O_WRONLY)
    os.dup2(to, number)
    os.close(to)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def _default_warnings() -> Iterator[None]:
    """Use a command's default warning filters. In tests every warning is an error."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield


def _redirect_loggers(stream: TextIO) -> None:
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        if type(handler := reference()) is logging.StreamHandler:
            handler.setStream(stream)


class ForkedProcess:
    """A command that runs in a forked process, with an interface like `subprocess.Popen`."""

    def __init__(self, fork_server: "ForkServer", pid: int, outputs: tuple[Path, Path]) -> None:
        self.pid, self.outputs, self._fork_server = pid, outputs, fork_server
        self.returncode: int | None = None

    @property
    def err(self) -> str:
        """The error output so far."""
        return self.outputs[1].read_text(encoding="utf-8")

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._fork_server._ask(poll=self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 60) -> CommandResult:
        """Wait for the exit. On a timeout, kill the process and raise `TimeoutError`."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"still running after {timeout:g} s:\n{self.err}")
            time.sleep(0.01)
        return CommandResult(code, *(path.read_text(encoding="utf-8") for path in self.outputs))

    def __enter__(self) -> "ForkedProcess":
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self.wait()


def _environment(more: dict[str, str]) -> dict[str, str]:
    """Return the environment of a new process, without PYTEST_*, which changes NiceGUI's behavior."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | more


class SpawnedProcess(ForkedProcess):
    """The same in a new Python process."""

    def __init__(self, words: list[str], folder: Path, env: dict[str, str]) -> None:
        out, err = self.outputs = _outputs(folder)
        command = [sys.executable, "-m", "gemma_captioner", *words]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self._process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=_environment(env))
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()


class ForkServer:
    """A process that imports modules once and forks for each command.

    folder: receives the output of commands. env: additional environment variables during the imports.
    """

    def __init__(self, folder: Path, *modules: str, env: dict[str, str] | None = None) -> None:
        self._folder = folder
        self._modules = modules
        self._env = _environment(env or {})

    @cached_property
    def _process(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=self._env,
        )

    def start(self, words: list[str], cwd: Path, variables: dict[str, str] | None = None) -> ForkedProcess:
        outputs = _outputs(self._folder)
        request = {"words": words, "cwd": str(cwd), "variables": variables or {}, "outputs": list(map(str, outputs))}
        return ForkedProcess(self, self._ask(start=request), outputs)

    def _ask(self, **what: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        if "_process" in vars(self):
            self._process.communicate(timeout=60)


Command = Callable[..., CommandResult]


def run_in_subprocess(words: list[str], cwd: Path, env: dict[str, str], timeout: float = 210) -> CommandResult:
    """Run in a new Python process with additional environment variables."""
    done = subprocess.run(
        [sys.executable, *(words if words[0].endswith(".py") else ["-m", "gemma_captioner", *words])],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env=_environment(env),
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


# Runs in the fork server


def _serve() -> dict[str, Any]:
    """Serve requests. Return only in a forked child, with the command to run."""
    for line in sys.stdin:
        asked = json.loads(line)
        if (pid := asked.get("poll")) is not None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if ended else None), flush=True)
        elif pid := os.fork():
            print(json.dumps(pid), flush=True)
        else:
            return dict(asked["start"])
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore SIGINT for background jobs
    gc.set_threshold(100_000, 20, 20)  # as `gemma_captioner.__main__` does
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()
    asked = _serve()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(asked["outputs"], 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(asked["cwd"])
    os.environ.update(asked["variables"])
    code = execute(asked["words"])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a normal interpreter exit takes a second
