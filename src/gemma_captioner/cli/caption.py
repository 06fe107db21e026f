"""`gemma-captioner caption`; what it prints of a run is laid out in progress.py."""

import os
import signal
import subprocess
import sys
import tomllib
import traceback
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..config.decoding import FrameSamplingSettings, MediaSettings
from ..config.group import SettingsGroup
from ..config.model import ModelSettings, ServerSettings
from ..config.prompting import GenerationSettings, PromptSettings
from ..config.quality import QualitySettings
from ..config.run import ClusterSettings, RunOptions
from ..config.selection import SelectionSettings
from ..config.settings import Settings
from ..errors import CaptionerError, StartError, redact_token
from ..storage.filesystem import parse_path
from ..text import printable
from .options import Options, group_options, with_options
from .progress import ProgressReporter
from .shell import app, err, out, print_json

if TYPE_CHECKING:
    from ..executors.local import Run


class Terminated(BaseException):
    """SIGTERM, raised where the main thread is: it leaves by the same doors as Ctrl-C."""


class OutputOptions(SettingsGroup):
    """How the command talks, and what it does around the run."""

    config: Annotated[Path | None, Parameter(help="Options from a TOML file: `frames = 8`. Flags beat it.")] = None
    dry_run: Annotated[bool, Parameter(help="Load no model; say what there is to do.", negative=())] = False
    show: Annotated[bool, Parameter(help="Print captions as they come.", negative=())] = False
    json_: Annotated[
        bool, Parameter(name="--json", help="Print one JSON object on stdout at the end.", negative=())
    ] = False
    on_finish: Annotated[
        str | None,
        Parameter(
            help="Run this command when the run has ended, interruptions aside. It finds the exit code in "
            "GEMMA_CAPTIONER_EXIT_CODE."
        ),
    ] = None
    debug: Annotated[bool, Parameter(help="Show tracebacks.", negative=())] = False


# The stages of a run, as `--help` shows them.
CAPTION_OPTIONS = (
    Options(SelectionSettings, "Which files"),
    Options(PromptSettings, "The prompt and the caption"),
    Options(FrameSamplingSettings, "Clips"),
    Options(MediaSettings, "Reading files"),
    Options(GenerationSettings, "The answer"),
    Options(QualitySettings, "What is fit"),
    Options(ModelSettings, "The model"),
    Options(ServerSettings, "The server"),
    Options(RunOptions, "The run"),
    Options(ClusterSettings, "Past one machine"),
)


@app.command
@with_options(*CAPTION_OPTIONS, before="output_options")
def caption(
    paths: Annotated[
        list[str], Parameter(help="Folders and files, images and clips mixed; `s3://BUCKET/FOLDER` as well.")
    ],
    /,
    *,
    output_options: Annotated[OutputOptions, group_options("The run")] = OutputOptions(),
    **flags: Any,
) -> int:
    """Caption images and clips: a `.txt` beside each.

    What has a caption is left alone, so an interrupted run goes on where it was when it is started again.
    """
    return run_caption(
        list(map(parse_path, paths)), Settings.from_dict(read_config(output_options.config), flags), output_options
    )


def run_caption(paths: list[Path], settings: Settings, output_options: OutputOptions) -> int:
    """The `caption` command from its settings on: also what the one-shot scripts call. Returns the exit code."""
    if output_options.dry_run:
        return _dry_run(paths, settings, output_options)
    from ..api import run_for

    report = ProgressReporter(err, show=output_options.show)
    run: Run | None = None
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with report:
            run = run_for(paths, settings, log=report.log)
            with closing(run):
                for outcome in run:
                    report.update(outcome, run.total, run.utilization)
        code = _exit_code(run, report)
    except (KeyboardInterrupt, Terminated) as interruption:
        code = 143 if isinstance(interruption, Terminated) else 130
        report.log("interrupted: everything finished is kept; the same command goes on from here", "yellow")
    except CaptionerError as error:
        code = error.exit_code
        report.log(f"error: {error}", "bold red")
        _print_traceback(output_options, settings)
    except Exception as error:
        code = 1
        report.log(f"error: the run died ({type(error).__name__}: {error}); everything finished is kept", "bold red")
        report.log("The same command goes on from here; --debug shows where it died.")
        _print_traceback(output_options, settings)
    finally:
        signal.signal(signal.SIGTERM, previous)
    load_seconds = run.load_seconds if run else 0.0
    if run and (report.stats.done or report.stats.skipped):
        report.summary(
            load_seconds=load_seconds, ignored=run.plan.ignored, journals=run.journals, utilization=run.utilization
        )
    if output_options.json_:
        print_json(report.stats.as_json(report.seconds, load_seconds))
    if output_options.on_finish and code not in (130, 143):
        environment = os.environ | {"GEMMA_CAPTIONER_EXIT_CODE": str(code)}
        subprocess.run(output_options.on_finish, shell=True, env=environment, stdout=sys.stderr, check=False)
    return code


def _exit_code(run: "Run", report: ProgressReporter) -> int:
    stats = report.stats
    if run.stopped_by_deadline:
        report.log("--stop-after is up: no new files were taken; the same command goes on from here", "yellow")
    elif not (stats.done or stats.skipped or run.plan.num_in_other_shards or run.settings.selection.limit == 0):
        where = ", ".join(printable(root.folder) for root in run.roots)
        raise StartError(
            f"no images or clips in {where} ({run.plan.ignored} other files): check the folder, "
            "--recursive for subfolders, and --include and --exclude"
        )
    return 3 if stats.failed else 0


def terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    raise Terminated


def _print_traceback(output_options: OutputOptions, settings: Settings) -> None:
    if output_options.debug:
        err.print(redact_token(traceback.format_exc(), settings.model.hf_token), markup=False, soft_wrap=True)


def read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        Settings.from_dict(values)
    except (OSError, ValueError, CaptionerError) as error:
        raise StartError(f"--config {path}: {error}") from error
    return values


def _dry_run(paths: list[Path], settings: Settings, output_options: OutputOptions) -> int:
    from ..pipeline.dry_run import dry_run

    found = dry_run(paths, settings)
    if output_options.json_:
        print_json(found.as_json())
    else:
        out.print(found.as_text(), markup=False)
    return found.exit_code
