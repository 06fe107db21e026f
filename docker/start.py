"""The container runs `gemma-captioner ARGUMENTS`. Without arguments, set environment variables:

CAPTION      the arguments of `gemma-captioner caption`, such as "/data --recursive --preset wan"
REVIEW       the folder for the review page. The log shows its address with a token. With CAPTION too, the page
             keeps running after the captions are finished
PORT         the port of the review page [default: 8080]
ALLOW_HOST   a host name of the review page; RunPod's proxy name is set automatically
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import FrameType

PROGRAM = "gemma-captioner"


def commands_from_environment(environment: Mapping[str, str]) -> list[list[str]]:
    """Return the commands to run. The review page comes last."""
    commands = []
    if paths := environment.get("CAPTION"):
        commands.append([PROGRAM, "caption", *shlex.split(paths)])
    if folder := environment.get("REVIEW"):
        port = environment.get("PORT", "8080")
        hosts = [environment["ALLOW_HOST"]] if "ALLOW_HOST" in environment else []
        if "RUNPOD_POD_ID" in environment:
            hosts.append(f"{environment['RUNPOD_POD_ID']}-{port}.proxy.runpod.net")
        allowed = [word for host in hosts for word in ("--allow-host", host)]
        commands.append([PROGRAM, "review", folder, "--host", "0.0.0.0", "--port", port, "--no-open", *allowed])
    return commands


def run_together(commands: list[list[str]]) -> int:
    """Run the commands until all have exited, and forward signals to them.

    Return the first exit code that is not 0; 128 + N for signal N.
    """
    running = [subprocess.Popen(command) for command in commands]

    def forward_signal(number: int, frame: FrameType | None) -> None:
        for process in running:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, forward_signal)
    signal.signal(signal.SIGINT, forward_signal)
    codes = [process.wait() for process in running]
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


def main() -> int:
    commands = [[PROGRAM, *sys.argv[1:]]] if sys.argv[1:] else commands_from_environment(os.environ)
    if not commands:
        print(__doc__, file=sys.stderr)
        return 2
    if len(commands) == 1:
        os.execvp(PROGRAM, commands[0])
    return run_together(commands)


if __name__ == "__main__":
    sys.exit(main())
