"""The application that the commands join, what it prints on, and the one place where an error becomes an exit code."""

import json
import sys
from collections.abc import Callable
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError
from rich.console import Console

from ..config.precedence import format_validation_error
from ..errors import CaptionerError
from ..executors.stats import RunStats

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def _format_default(default: Any) -> str | None:
    """A default as `--help` shows it: nothing for a switch that is off, an empty text or list."""
    return None if default is None or default is False or default in ("", ()) else str(default)


app = App(
    name="gemma-captioner",
    help="Captions fit to train on, by Gemma 3, beside every image and clip of a folder.",
    help_epilogue="Start with: `gemma-captioner demo`\n\nThen: `gemma-captioner caption FOLDER --limit 5 --show`",
    version=lambda: version("gemma-captioner"),
    error_console=err,
    default_parameter=Parameter(negative_iterable=(), negative_none=(), show_default=_format_default),
)


# What --json prints where it ended before there was anything to tell of, if it is another than `caption`'s.
_EMPTY_RESULTS: dict[str, dict[str, Any]] = {
    "check": {
        **{"files": 0, "captions": 0, "errors": 0, "notes": 0, "fixed": [], "run": None, "report": None},
        **{"seconds": 0.0, "findings": []},
    },
    "compare": {"files": 0, "html": None, "seconds": 0.0, "variants": []},
}


_HINT = "`gemma-captioner --help` and `gemma-captioner COMMAND --help` list what there is"

_json_printed: ContextVar[bool] = ContextVar("json_printed", default=False)  # by the command that is running


def print_json(value: dict[str, Any]) -> None:
    _json_printed.set(True)
    out.file.write(json.dumps(value, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")
    sys.exit(_main(sys.argv[1:] if argv is None else argv))


def _main(argv: list[str]) -> int:
    _json_printed.set(False)
    try:
        result = app(argv, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        message, cause, argument = str(error), error.__cause__, error.argument
        if isinstance(cause, ValidationError):
            message = format_validation_error(cause, argument.name if argument and not argument.children else None)
        err.print(f"error: {message}", markup=False, style="bold red", soft_wrap=True)
        err.print(_HINT)
        code = 2
    except CaptionerError as error:
        err.print(f"error: {error}", markup=False, style="bold red", soft_wrap=True)
        if isinstance(error.__cause__, ValidationError):
            err.print(_HINT)
        code = error.exit_code
    except OSError as error:
        err.print(f"error: {error}: mend it and run again", markup=False, style="bold red", soft_wrap=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    if "--json" in argv and not _json_printed.get():
        print_json(_EMPTY_RESULTS.get(argv[0]) or RunStats().as_json(0.0, 0.0))
    return code
