"""A server of our own: started for a run, in its own session of processes, and ended with all of them.

It ends when it is closed: at the end of a run, after an error, Ctrl-C or SIGTERM. Where we die without a word
(`kill -9`), a shell that waits at the other end of a pipe ends its process group. Not ended: processes that made a
session of their own (`setsid`, a container that was started detached).
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from ...errors import ServerError, UsageError, redact_credentials

_POLL_INTERVAL_S = 0.2
_GRACE_PERIOD_S = 10.0  # from being asked to end until it is made to
_LOG_LINES = 20
_LOG_BYTES = 1 << 14
# Reads until we are gone, however that came about.
_WATCHDOG = f'read -r _; kill -TERM "-$1"; sleep {_GRACE_PERIOD_S:g}; kill -KILL "-$1"'


def render_command(command: str, *, model: str, port: int) -> str:
    return command.replace("{model}", shlex.quote(model)).replace("{port}", str(port))


class ServerProcess:
    """A server while this lives. Its output is kept in a file without a name, for when it fails."""

    def __init__(self, command: str) -> None:
        """command: as a shell reads it. Raises `UsageError` on Windows."""
        if os.name == "nt":
            raise UsageError("--serve and --engine vllm want Linux or macOS: start the server, and use --engine server")
        self.display_command = redact_credentials(command)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the server
        self._process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_until_ready(self, is_up: Callable[[], bool], timeout_s: float) -> None:
        """Raises `ServerError` with the end of its log where it ends, or does not answer in time."""
        deadline = time.monotonic() + timeout_s
        while not is_up():
            self.check()
            if time.monotonic() > deadline:
                message = f"does not answer after {timeout_s:g} s (--wait-for-server)"
                raise ServerError(f"{self.display_command} {message}{self._log_tail()}")
            time.sleep(_POLL_INTERVAL_S)

    def check(self) -> None:
        """Raises `ServerError` where it has ended."""
        if (code := self._process.poll()) is not None:
            raise ServerError(f"{self.display_command} ended by itself, exit code {code}{self._log_tail()}")

    def _log_tail(self) -> str:
        if sys.platform == "win32":  # there is none of us
            raise NotImplementedError
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)).decode("utf-8", "replace")
        lines = text.splitlines()[-_LOG_LINES:]
        return ". The end of its log:\n" + redact_credentials("\n".join(lines)) if lines else ", and said nothing"

    def close(self) -> None:
        """End it and all of its processes, kindly first. May be called twice."""
        deadline = time.monotonic() + _GRACE_PERIOD_S
        stop = psutil.Process.terminate
        while processes := self._session_processes():
            for member in processes:
                with suppress(psutil.NoSuchProcess):
                    stop(member)
            while time.monotonic() < deadline and self._session_processes():
                time.sleep(_POLL_INTERVAL_S / 4)
            stop = psutil.Process.kill
        self._process.wait()
        self._watchdog.kill()
        self._watchdog.wait()
        if self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
        self._log.close()

    def _session_processes(self) -> list[psutil.Process]:
        """The processes of its session that live."""
        if sys.platform == "win32":  # there is none of us
            raise NotImplementedError
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self._process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    processes.append(process)
        return processes
