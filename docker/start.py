"""What the container does: `gemma-captioner ARGUMENTS` where it is given any, else what environment variables say.

CAPTION      what follows `gemma-captioner caption`: "/data --recursive --preset wan"
REVIEW       the folder of the review page. Its address, with a token, is in the log; given both, it outlives the run
PORT         the page's [8080]
ALLOW_HOST   a name that the page is reached by; on RunPod its proxy's is known
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
    """The commands, the page's last."""
    commands = []
    if paths := environment.get("CAPTION"):
        commands.append([PROGRAM, "caption", *shlex.split(paths)])
    if folder := environment.get("REVIEW"):
        port = environment.get("PORT", "8080")
        hosts = [environment["ALLOW_HOST"]] if "ALLOW_HOST" in environment else []
        if "RUNPOD_POD_ID" in environment:
            hosts.append(f"{environment['RUNPOD_POD_ID']}-{port}.proxy.runpod.net")
        named = [word for host in hosts for word in ("--allow-host", host)]
        commands.append([PROGRAM, "review", folder, "--host", "0.0.0.0", "--port", port, "--no-open", *named])
    return commands


def run_together(commands: list[list[str]]) -> int:
    """Until all have ended; each is sent the signals that we are sent. The first exit code that is not 0, as a shell
    tells it.
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
