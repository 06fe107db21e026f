"""`gemma-captioner caption`. progress.py prints the run."""

import os
import signal
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from ..config.decoding import FrameSamplingSettings, MediaSettings
from ..config.group import SettingsGroup
from ..config.model import ModelSettings, ServerSettings
from ..config.precedence import option_name
from ..config.prompting import GenerationSettings, PromptSettings
from ..config.quality import QualitySettings
from ..config.run import ClusterSettings, RunOptions
from ..config.selection import SelectionSettings
from ..config.settings import Settings
from ..errors import CaptionerError, StartError
from ..redaction import redact_token
from ..storage.filesystem import parse_path
from ..text import file_error, path_error, printable
from .help import examples
from .options import Options, pop_options, with_options
from .progress import ProgressReporter
from .shell import app, command_line, err, out, print_json
from .targets import warn_if_unlisted

if TYPE_CHECKING:
    from ..executors.local import Run


class Terminated(BaseException):
    """Raised in the main thread on SIGTERM, so that it is handled like Ctrl-C."""


class OutputOptions(SettingsGroup):
    """The options for the output of the command, and for the time before and after the run."""

    config: Path | None = Field(
        None, description="Read options from this TOML file, for example `frames = 8`. Options given here override it."
    )
    dry_run: bool = Field(False, description="Show what a run would do, without loading a model.")
    show: bool = Field(False, description="Print each caption as it is written.")
    json_: bool = Field(False, description="Print one JSON object on stdout at the end.")
    on_finish: str | None = Field(
        None,
        description="Run this shell command after the run, unless the run was interrupted. The environment variable "
        "GEMMA_CAPTIONER_EXIT_CODE holds the run's exit code.",
    )
    debug: bool = Field(False, description="Show Python tracebacks.")


# The settings of a run.
CAPTION_OPTIONS = tuple(
    Options(group)
    for group in (
        SelectionSettings,
        PromptSettings,
        FrameSamplingSettings,
        MediaSettings,
        GenerationSettings,
        QualitySettings,
        ModelSettings,
        ServerSettings,
        RunOptions,
        ClusterSettings,
    )
)


@app.command(help_epilogue=examples("caption"))
@with_options(*CAPTION_OPTIONS, Options(OutputOptions))
def caption(
    paths: Annotated[
        list[str],
        Parameter(help="Folders and files to caption: images, clips or both. `s3://BUCKET/FOLDER` works too."),
    ],
    /,
    **flags: Any,
) -> int:
    """Caption images and clips: write a `.txt` file beside each.

    Files that already have a caption are skipped, so running the same command again resumes an interrupted run.
    """
    output_options = pop_options(OutputOptions, flags)
    settings = Settings.from_dict(read_config_file(output_options.config, flags), flags)
    warn_if_unlisted(settings.sampling.for_)
    return run_caption(list(map(parse_path, paths)), settings, output_options)


def run_caption(paths: list[Path], settings: Settings, output_options: OutputOptions) -> int:
    """Run the `caption` command with these settings. The one-shot scripts call it too. Returns the exit code."""
    if output_options.dry_run:
        return _dry_run(paths, settings, output_options)
    from ..api import run_for

    reporter = ProgressReporter(err, show=output_options.show, capture=not output_options.debug)
    run: Run | None = None
    message = ""
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with reporter:
            run = run_for(paths, settings, log=reporter.log)
            reporter.watch(run)
            try:
                for outcome in run:
                    reporter.update(outcome, run.total, run.utilization)
            finally:
                for stored in run.close():
                    reporter.update(stored, run.total, run.utilization)
        code = _exit_code(run, reporter)
    except (KeyboardInterrupt, Terminated) as interruption:
        code = 143 if isinstance(interruption, Terminated) else 130
        reporter.log("interrupted: everything finished is kept. Run the same command again to resume", "yellow")
    except CaptionerError as error:
        code, message = error.exit_code, str(error)
        reporter.log(f"error: {message}", "bold red")
        _print_traceback(output_options, settings)
    except Exception as error:  # a defect: finished work is kept, and the message says how to see where it was
        code, message = 1, f"the run stopped on an unexpected error ({type(error).__name__}: {error})"
        reporter.log(f"error: {message}; everything finished is kept", "bold red")
        reporter.log("Run the same command again to resume; add --debug to show where it stopped.")
        _print_traceback(output_options, settings)
    finally:
        signal.signal(signal.SIGTERM, previous)
    load_seconds = run.load_seconds if run else 0.0
    if run and _found_media(run, reporter):
        from .summary import print_summary

        print_summary(reporter, run, None if message else command_line.get())
    if output_options.json_:
        reason = message or ("interrupted" if code in (130, 143) else "")
        print_json(reporter.stats.as_json(reporter.seconds, load_seconds) | ({"error": reason} if reason else {}))
    if output_options.on_finish and code not in (130, 143):
        environment = os.environ | {"GEMMA_CAPTIONER_EXIT_CODE": str(code)}
        subprocess.run(output_options.on_finish, shell=True, env=environment, stdout=sys.stderr, check=False)
    return code


def _exit_code(run: "Run", reporter: ProgressReporter) -> int:
    stats = reporter.stats
    if run.stopped_by_deadline:
        reporter.log(
            "--stop-after has passed: no new files were started. Run the same command again to resume", "yellow"
        )
    elif not _found_media(run, reporter):
        where = ", ".join(printable(root.folder) for root in run.roots)
        raise StartError(f"no images or clips in {where} {run.plan.why_empty}")
    return 3 if stats.failed else 0


def _found_media(run: "Run", reporter: ProgressReporter) -> bool:
    stats, plan = reporter.stats, run.plan
    return bool(stats.done or stats.skipped or plan.num_in_other_shards or plan.num_beyond_limit)


def terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second signal ends the process at once
    raise Terminated


def _print_traceback(output_options: OutputOptions, settings: Settings) -> None:
    if output_options.debug:
        err.print(redact_token(traceback.format_exc(), settings.model.hf_token), soft_wrap=True)


def read_config_file(path: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Read a config file. Raises `StartError` if it is wrong, and the flags do not add what it lacks."""
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise StartError(f"--config {path} is not valid TOML: {file_error(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"--config {path} cannot be read: {path_error(error)}") from error
    for name in values:
        if option_name(name) in map(option_name, OutputOptions.model_fields):
            raise StartError(f"--config {path}: {name} is for the command line only: give {option_name(name)}")
    try:
        Settings.from_dict(values)
    except CaptionerError as error:
        try:  # `captions_to = "parquet"` requires --output
            Settings.from_dict(flags, values)
        except CaptionerError:
            Settings.from_dict(flags)  # raises if the flags are wrong
            raise StartError(f"--config {path}: {error}") from error
    return values


def _dry_run(paths: list[Path], settings: Settings, output_options: OutputOptions) -> int:
    from ..pipeline.dry_run import dry_run

    found = dry_run(paths, settings)
    if output_options.json_:
        print_json(found.as_json())
    else:
        out.print(found.as_text())
    return found.exit_code
