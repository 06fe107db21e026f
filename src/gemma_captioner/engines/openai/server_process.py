"""Starts a server for a run and stops it with all of its processes.

The server runs in its own process session. `close` stops it at the end of a run, after an error, Ctrl-C or SIGTERM. If
this process is killed (`kill -9`), a watchdog shell sees its pipe close and stops the server's process group. Processes
that start a session of their own (`setsid`, a detached container) keep running.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from ...errors import ServerError, UsageError
from ...redaction import known_secrets, redact_credentials

_POLL_INTERVAL_S = 0.2
_GRACE_PERIOD_S = 10.0  # between SIGTERM and SIGKILL
_LOG_BYTES = 1 << 18
_MAX_ERROR_LINES, _LAST_LINES = 12, 5
_ERROR_LINES = (  # what went wrong, then what may be related to it
    re.compile(r"[A-Za-z]\w*(Error|Exception): \S|(?i:\b(error|fatal)\b *[:\]])|(?<=\d) E \w"),  # E: of llama.cpp
    re.compile(
        r"\b(error|exception|fail(ed|ure|s)?|fatal|cannot|could ?n[o']t|unable to|not found|no such|denied|killed)\b",
        re.IGNORECASE,
    ),
)
# Blocks until this process has ended, however it ended.
_WATCHDOG = f'read -r _; kill -TERM "-$1"; sleep {_GRACE_PERIOD_S:g}; kill -KILL "-$1"'


def summarize_log(lines: Sequence[str]) -> list[str]:
    """Return the lines with errors, in order, and the last lines; "..." marks lines that are left out.

    A server may log hundreds of lines after its error, and log the error several times: equal lines are shown once.
    """
    shown: set[int] = set()
    texts: set[str] = set()
    for pattern in _ERROR_LINES:
        for number in range(len(lines) - 1, -1, -1):
            if len(shown) < _MAX_ERROR_LINES and (error := pattern.search(lines[number])) is not None:
                text = lines[number][error.start() :]  # without the process, the time and the place in the code
                if text not in texts:
                    texts.add(text)
                    shown.add(number)
    shown.update(range(max(0, len(lines) - _LAST_LINES), len(lines)))
    summary, previous = [], -1
    for number in sorted(shown):
        summary += ["..."] * (number > previous + 1) + [lines[number]]
        previous = number
    return summary


def render_command(command: str, *, model: str, port: int) -> str:
    return command.replace("{model}", shlex.quote(model)).replace("{port}", str(port))


class ServerProcess:
    """A running server. An unnamed temporary file keeps its output for error messages."""

    def __init__(
        self, command: str, *, secrets: Sequence[str] = (), log: Callable[[str], None] = lambda line: None
    ) -> None:
        """Start a shell command. Raises `UsageError` on Windows.

        Args:
            secrets: Not to show in messages, besides those that the command and its environment name.
            log: Receives a line for the user if a process cannot be stopped.
        """
        if os.name == "nt":
            raise UsageError(
                "--serve and --engine vllm require Linux or macOS: start the server yourself, and use --engine server"
            )
        self._log = log
        self._secrets = [*known_secrets(command, os.environ), *secrets]
        self.display_command = redact_credentials(command, self._secrets)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the server runs
        self._process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
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
        """Wait for the server. Raises `ServerError` with the end of its log if it exits or the timeout passes."""
        deadline = time.monotonic() + timeout_s
        while not is_up():
            self.check()
            if time.monotonic() > deadline:
                message = f"does not answer after {timeout_s:g} s: raise --wait-for-server, or correct the command"
                raise ServerError(f"{self.display_command} {message}{self._log_tail()}")
            time.sleep(_POLL_INTERVAL_S)

    def check(self) -> None:
        """Raise `ServerError` if the server has exited."""
        if (code := self._process.poll()) is not None:
            raise ServerError(
                f"{self.display_command} exited with code {code}: check the command and its log{self._log_tail()}"
            )

    def _log_tail(self) -> str:
        if sys.platform == "win32":  # __init__ refuses Windows; this is for mypy
            raise NotImplementedError
        size = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)).decode("utf-8", "replace")
        if not (lines := summarize_log(text.splitlines())):
            return ". Its log is empty"
        return ". From its log:\n" + redact_credentials("\n".join(lines), self._secrets)

    def close(self) -> None:
        """Stop all of its processes, first with SIGTERM, then with SIGKILL. It is safe to call this twice.

        A process that neither ends, such as one that waits for a network drive, is reported and left.
        """
        if self._output.closed:
            return
        remaining = self._stop(psutil.Process.terminate) and self._stop(psutil.Process.kill)
        if remaining:
            ids = ", ".join(str(process.pid) for process in remaining)
            self._log(f"the server does not end, even by SIGKILL: check its processes ({ids})")
        else:
            self._process.wait()
        self._watchdog.kill()
        self._watchdog.wait()
        if self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
        self._output.close()

    def _stop(self, signal: Callable[[psutil.Process], None]) -> list[psutil.Process]:
        """Send the signal to its processes, new ones too. Return those that run after the grace period."""
        deadline = time.monotonic() + _GRACE_PERIOD_S
        signaled: set[psutil.Process] = set()
        while (processes := self._session_processes()) and time.monotonic() < deadline:
            for process in set(processes) - signaled:
                with suppress(psutil.Error):  # it has ended, or belongs to another user
                    signal(process)
            signaled.update(processes)
            time.sleep(_POLL_INTERVAL_S / 4)
        return processes

    def _session_processes(self) -> list[psutil.Process]:
        """Return the running processes of its session."""
        if sys.platform == "win32":  # __init__ refuses Windows; this is for mypy
            raise NotImplementedError
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self._process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    processes.append(process)
        return processes
