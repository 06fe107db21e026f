"""The application, its two consoles, and the one place where an error becomes a message and an exit code."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    RepeatArgumentError,
    UnknownCommandError,
    UnusedCliTokensError,
)
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from ..config.precedence import format_validation_error
from ..errors import CaptionerError, StartError
from ..executors.stats import RunStats
from ..imports import claim_process
from ..redaction import redact_token
from ..text import escape_controls, file_error, printable, suggest
from .help import RENAMED, Formatter, examples, help_all


class _SafeConsole(Console):
    """A console whose terminal obeys nothing that a server, a file name or a caption contains."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_controls(text), **options)


out = _SafeConsole(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = _SafeConsole(stderr=True, highlight=False, markup=False, emoji=False)


def _format_default(default: Any) -> str | None:
    """The default as `--help` shows it. None for a switch that is off, an empty text and an empty list."""
    if default is None or default is False or default in ("", ()):
        return None
    return "on" if default is True else str(default)


app = App(
    name="gemma-captioner",
    help="Caption folders of images and clips with Gemma, in training-ready `.txt` files.",
    help_epilogue=examples(""),
    help_flags=["--help", "-h", "--help-all"],
    group_parameters=Group("Options", sort_key=0),
    help_formatter=Formatter(),
    version=lambda: version("gemma-captioner"),
    error_console=err,
    default_parameter=Parameter(negative_iterable=(), negative_none=(), show_default=_format_default),
)


# What `--json` prints, beside "error", of a command that ended before it had a result; the others print a run's.
_EMPTY_RESULTS: dict[str, dict[str, Any]] = {
    "check": {
        **{"files": 0, "captions": 0, "errors": 0, "notes": 0, "formats": {}, "fixed": []},
        **{"run": None, "report": None, "seconds": 0.0, "findings": []},
    },
    "compare": {"files": 0, "html": None, "seconds": 0.0, "variants": []},
    "targets": {"targets": []},
}

# The words of the command that is running; None for a script. The summary shows commands that follow from them.
command_line: ContextVar[list[str] | None] = ContextVar("command_line", default=None)
_json_printed: ContextVar[bool] = ContextVar("json_printed", default=False)  # by the command that is running


def print_json(value: dict[str, Any]) -> None:
    _json_printed.set(True)
    out.file.write(json.dumps(value, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")
    if argv is None:
        claim_process()
    argv = sys.argv[1:] if argv is None else argv
    before = command_line.set(argv)
    try:
        code = _main(argv)
    finally:
        command_line.reset(before)
    sys.exit(code)


_FIRST_STEPS = """\
gemma-captioner captions folders of images and clips with Gemma, for training. What to do next:
  gemma-captioner demo                               caption sample files: no download, no GPU
  gemma-captioner doctor                             see which models fit this machine
  gemma-captioner caption photos/ --limit 5 --show   caption five files of your own
  gemma-captioner --help                             see all commands"""
_NO_PATH = """\
give the folder to caption, for example:
  gemma-captioner caption photos/ --limit 5 --show   try it on five files
  gemma-captioner caption photos/ --dry-run          see what a run would do
  gemma-captioner caption photos/                    caption all of them"""


def _main(argv: list[str]) -> int:
    _json_printed.set(False)
    if not argv:
        out.print(_FIRST_STEPS)
        return 0
    help_all.set("--help-all" in argv)
    code, message, hint = 0, "", False
    try:
        _require_current_folder()
        result = app(map(_renamed, argv), exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        code, message, hint = 2, _usage_message(error), True
    except CaptionerError as error:
        code, message, hint = error.exit_code, str(error), isinstance(error.__cause__, ValidationError)
    except OSError as error:
        where = "" if error.filename is None else f"{printable(str(error.filename))}: "
        code, message = 1, f"{where}{file_error(error)}. Fix this and run the command again"
    except UnicodeEncodeError as error:  # undecodable bytes of a file name
        around = error.object[max(0, error.start - 60) : error.end + 40]
        code, message = 1, f"{printable(around)} is not valid UTF-8: rename the file or folder"
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except Exception as error:  # a fault of this program: one line without secrets; --debug shows the traceback
        if "--debug" in argv:
            raise
        code, message = 1, redact_token(f"unexpected error ({type(error).__name__}: {error}): please report it")
    err.print(f"error: {message}", style="bold red", soft_wrap=True)
    if hint:
        command = f"{argv[0]} " if argv and argv[0] in app else ""
        err.print(f"`gemma-captioner {command}--help` shows the options")
    if "--json" in argv and not _json_printed.get():
        print_json((_EMPTY_RESULTS.get(argv[0]) or RunStats().as_json(0.0, 0.0)) | {"error": message})
    return code


def _require_current_folder() -> None:
    """Relative paths and worker processes need it."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise StartError("the current folder was deleted: change to another one with `cd` and run again") from error


def _renamed(word: str) -> str:
    """# --facts=a.csv -> --metadata=a.csv"""
    name, equals, value = word.partition("=")
    return RENAMED.get(name, name) + equals + value


def _usage_message(error: CycloptsError) -> str:
    """Return the error message for a wrong command line, in place of those of pydantic and cyclopts."""
    argument, cause = error.argument, error.__cause__
    name = argument.name if argument and not argument.children else None
    if isinstance(cause, ValidationError):
        return format_validation_error(cause, name)
    if isinstance(cause, CaptionerError):
        return str(cause)
    match error:
        case UnknownCommandError(unused_tokens=[word, *_]) if Path(word).exists():
            return f"{printable(word)} is not a command: caption it with `gemma-captioner caption {shlex.quote(word)}`"
        case UnknownCommandError(unused_tokens=[word, *_]):
            known = sorted(name for name in app if not name.startswith("-"))
            return f"unknown command {printable(word)}. {suggest(word, known)}"
        case MissingArgumentError(command_chain=("caption",)) if name == "PATHS":
            return _NO_PATH
        case MissingArgumentError() if argument and not argument.has_tokens:
            what = "is required" if argument.required else "requires a value"
            return f"{name} {what}. {(argument.parameter.help or '').replace('`', '')}"
        case RepeatArgumentError(token=token):
            return f"{token.keyword} is given more than once: give it once"
        case UnusedCliTokensError(unused_tokens=[*words]):
            return f"unexpected argument {shlex.join(words)}: quote a value that contains spaces"
        case CoercionError(token=token) if token and argument and (choices := argument.get_choices(force=True)):
            return f"{name} {token.value}: give one of {', '.join(choices)}"
        case CoercionError(token=token) if token:
            return f"{name} {token.value}: give no value, or true or false"
    return str(error)
