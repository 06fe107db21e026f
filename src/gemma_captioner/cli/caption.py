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

from ..config.decoding import Reading, Sampling
from ..config.group import Group
from ..config.model import Model, Server
from ..config.prompting import Generation, Prompting
from ..config.quality import Judging
from ..config.run import Cluster, Conduct
from ..config.selection import Selection
from ..config.settings import Settings
from ..errors import CaptionerError, StartError, without_token
from ..storage.places import place
from ..text import printable
from .options import Options, stage, with_options
from .progress import Report
from .shell import app, err, out, print_json

if TYPE_CHECKING:
    from ..executors.local import Run


class Terminated(BaseException):
    """SIGTERM, raised where the main thread is: it leaves by the same doors as Ctrl-C."""


class Conversation(Group):
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
STAGES = (
    Options(Selection, "Which files"),
    Options(Prompting, "The prompt and the caption"),
    Options(Sampling, "Clips"),
    Options(Reading, "Reading files"),
    Options(Generation, "The answer"),
    Options(Judging, "What is fit"),
    Options(Model, "The model"),
    Options(Server, "The server"),
    Options(Conduct, "The run"),
    Options(Cluster, "Past one machine"),
)


@app.command
@with_options(*STAGES, before="talk")
def caption(
    paths: Annotated[
        list[str], Parameter(help="Folders and files, images and clips mixed; `s3://BUCKET/FOLDER` as well.")
    ],
    /,
    *,
    talk: Annotated[Conversation, stage("The run")] = Conversation(),
    **flags: Any,
) -> int:
    """Caption images and clips: a `.txt` beside each.

    What has a caption is left alone, so an interrupted run goes on where it was when it is started again.
    """
    return run_caption(list(map(place, paths)), Settings.of(read_config(talk.config), flags), talk)


def run_caption(paths: list[Path], settings: Settings, talk: Conversation) -> int:
    """The `caption` command from its settings on: also what the one-shot scripts call. Returns the exit code."""
    if talk.dry_run:
        return _dry_run(paths, settings, talk)
    from ..api import run_for

    report = Report(err, show=talk.show)
    run: Run | None = None
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with report:
            run = run_for(paths, settings, tell=report.say)
            with closing(run):
                for outcome in run:
                    report.tell(outcome, run.total, run.busy)
        code = _verdict(run, report)
    except (KeyboardInterrupt, Terminated) as interruption:
        code = 143 if isinstance(interruption, Terminated) else 130
        report.say("interrupted: everything finished is kept; the same command goes on from here", "yellow")
    except CaptionerError as error:
        code = error.exit_code
        report.say(f"error: {error}", "bold red")
        _trace(talk, settings)
    except Exception as error:
        code = 1
        report.say(f"error: the run died ({type(error).__name__}: {error}); everything finished is kept", "bold red")
        report.say("The same command goes on from here; --debug shows where it died.")
        _trace(talk, settings)
    finally:
        signal.signal(signal.SIGTERM, previous)
    load_seconds = run.load_seconds if run else 0.0
    if run and (report.tally.done or report.tally.skipped):
        report.summary(load_seconds=load_seconds, ignored=run.plan.ignored, journals=run.journals, busy=run.busy)
    if talk.json_:
        print_json(report.tally.as_json(report.seconds, load_seconds))
    if talk.on_finish and code not in (130, 143):
        environment = os.environ | {"GEMMA_CAPTIONER_EXIT_CODE": str(code)}
        subprocess.run(talk.on_finish, shell=True, env=environment, stdout=sys.stderr, check=False)
    return code


def _verdict(run: "Run", report: Report) -> int:
    tally = report.tally
    if run.left_by_deadline:
        report.say("--stop-after is up: no new files were taken; the same command goes on from here", "yellow")
    elif not (tally.done or tally.skipped or run.plan.of_other_shards or run.settings.selection.limit == 0):
        where = ", ".join(printable(root.folder) for root in run.roots)
        raise StartError(
            f"no images or clips in {where} ({run.plan.ignored} other files): check the folder, "
            "--recursive for subfolders, and --include and --exclude"
        )
    return 3 if tally.failed else 0


def terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    raise Terminated


def _trace(talk: Conversation, settings: Settings) -> None:
    if talk.debug:
        err.print(without_token(traceback.format_exc(), settings.model.hf_token), markup=False, soft_wrap=True)


def read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        Settings.of(values)
    except (OSError, ValueError, CaptionerError) as error:
        raise StartError(f"--config {path}: {error}") from error
    return values


def _dry_run(paths: list[Path], settings: Settings, talk: Conversation) -> int:
    from ..pipeline.dry_run import survey

    found = survey(paths, settings)
    if talk.json_:
        print_json(found.as_json())
    else:
        out.print(found.as_text(), markup=False)
    return found.exit_code
