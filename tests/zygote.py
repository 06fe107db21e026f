"""`gemma-captioner` without the seconds that Python takes to import it: a process that has, and forks for each command.

A line of JSON in for each command (its arguments, a script first or none, folder and variables, where its output goes),
a line with its exit code out.
"""

import atexit
import json
import os
import runpy
import sys
import traceback

from transformers import AutoModelForImageTextToText

from gemma_captioner.cli import main
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines.local import LocalEngine
from gemma_captioner.settings import Settings


def serve() -> list[str]:
    """In the child that is to run a command: its arguments."""
    for line in sys.stdin:
        asked = json.loads(line)
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(os.open(asked["to"][stream - 1], os.O_WRONLY | os.O_CREAT), stream)
        os.chdir(asked["cwd"])
        os.environ.update(asked["variables"])
        return asked["args"]
    os._exit(0)


if __name__ == "__main__":
    assert draw_samples and AutoModelForImageTextToText
    _ = LocalEngine(Settings.of({"model": "demo"})).spec  # what is imported at its first use
    arguments = serve()
    script = next((argument for argument in arguments[:1] if argument.endswith(".py")), None)
    sys.argv = arguments if script else ["gemma-captioner", *arguments]
    code: object = 1
    try:
        if script:
            runpy.run_path(script, run_name="__main__")
        else:
            main(arguments)
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)  # taking the interpreter down costs a second
