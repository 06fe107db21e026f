"""argv -> Settings -> run -> exit code. The only place that prints; what it prints of a run is laid out in report.py.

Exit codes: 0 everything captioned or skipped; 1 the run could not start, or died; 2 usage; 3 finished, some items
failed; 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import settings as knobs
from .errors import CaptionerError, ItemError, StartError, UsageError, without_token
from .pipeline import Run
from .report import Report, Tally, printable
from .settings import Settings, explain
from .store.journal import run_file

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def _shown(default: Any) -> str | None:
    """A default as `--help` shows it: nothing for a switch that is off, an empty text or list."""
    return None if default is None or default is False or default in ("", ()) else str(default)


app = App(
    name="gemma-captioner",
    help="Captions fit to train on, by Gemma 3, beside every image and clip of a folder.",
    help_epilogue="Start with `gemma-captioner demo`, then `gemma-captioner caption FOLDER --limit 5 --show`.",
    version=lambda: version("gemma-captioner"),
    error_console=err,
    default_parameter=Parameter(negative_iterable=(), negative_none=(), show_default=_shown),
)


class Terminated(BaseException):
    """SIGTERM, raised where the main thread is: it leaves by the same doors as Ctrl-C."""


class Conversation(knobs.Group):
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


_PANELS = (
    "Which files",
    "The prompt and the caption",
    "Clips",
    "Reading files",
    "The answer",
    "What is fit",
    "The model",
    "The server",
    "The run",
)


def _stage(title: str) -> Parameter:
    return Parameter(name="*", group=Group(title, sort_key=_PANELS.index(title)))


@app.command
def caption(
    paths: Annotated[list[Path], Parameter(help="Folders and files, images and clips mixed.")],
    /,
    *,
    selection: Annotated[knobs.Selection, _stage("Which files")] = knobs.Selection(),
    prompting: Annotated[knobs.Prompting, _stage("The prompt and the caption")] = knobs.Prompting(),
    sampling: Annotated[knobs.Sampling, _stage("Clips")] = knobs.Sampling(),
    reading: Annotated[knobs.Reading, _stage("Reading files")] = knobs.Reading(),
    generation: Annotated[knobs.Generation, _stage("The answer")] = knobs.Generation(),
    judging: Annotated[knobs.Judging, _stage("What is fit")] = knobs.Judging(),
    model: Annotated[knobs.Model, _stage("The model")] = knobs.Model(),
    server: Annotated[knobs.Server, _stage("The server")] = knobs.Server(),
    conduct: Annotated[knobs.Conduct, _stage("The run")] = knobs.Conduct(),
    talk: Annotated[Conversation, _stage("The run")] = Conversation(),
) -> int:
    """Caption images and clips: a `.txt` beside each.

    What has a caption is left alone, so an interrupted run goes on where it was when it is started again.
    """
    flags: dict[str, Any] = {}
    for group in (selection, prompting, sampling, reading, generation, judging, model, server, conduct):
        flags |= group.model_dump(exclude_unset=True)
    return run_caption(paths, Settings.of(_read_config(talk.config), flags), talk)


def run_caption(paths: list[Path], settings: Settings, talk: Conversation) -> int:
    """The `caption` command from its settings on: also what the one-shot scripts call. Returns the exit code."""
    if talk.dry_run:
        return _dry_run(paths, settings, talk)
    report = Report(err, show=talk.show)
    run: Run | None = None
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        with report:
            run = Run(paths, settings, tell=report.say)
            with closing(run):
                for outcome in run:
                    report.tell(outcome, run.total)
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
        journals = [run_file(store, run.run_id) for store in run.stores]
        report.summary(
            load_seconds=load_seconds,
            ignored=run.plan.ignored,
            journals=[path for path in journals if path.exists()],
        )
    if talk.json_:
        _print_json(report.tally.as_json(report.seconds, load_seconds))
    if talk.on_finish and code not in (130, 143):
        environment = os.environ | {"GEMMA_CAPTIONER_EXIT_CODE": str(code)}
        subprocess.run(talk.on_finish, shell=True, env=environment, stdout=sys.stderr, check=False)
    return code


_json_printed: list[bool] = []


def _print_json(value: dict[str, Any]) -> None:
    _json_printed.append(True)
    out.file.write(json.dumps(value, indent=2) + "\n")


def _verdict(run: Run, report: Report) -> int:
    tally = report.tally
    if run.left_by_deadline:
        report.say("--stop-after is up: no new files were taken; the same command goes on from here", "yellow")
    elif not tally.done and not tally.skipped and run.settings.selection.limit != 0:
        where = ", ".join(printable(root.folder) for root in run.roots)
        raise StartError(
            f"no images or clips in {where} ({run.plan.ignored} other files): check the folder, "
            "--recursive for subfolders, and --include and --exclude"
        )
    return 3 if tally.failed else 0


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    raise Terminated


def _trace(talk: Conversation, settings: Settings) -> None:
    if talk.debug:
        err.print(without_token(traceback.format_exc(), settings.model.hf_token), markup=False, soft_wrap=True)


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        Settings.of(values)
    except (OSError, ValueError, CaptionerError) as error:
        raise StartError(f"--config {path}: {error}") from error
    return values


def _dry_run(paths: list[Path], settings: Settings, talk: Conversation) -> int:
    from .dry_run import survey

    found = survey(paths, settings)
    if talk.json_:
        _print_json(found.as_json())
    else:
        out.print(found.as_text(), markup=False)
    return found.exit_code


presets_app = App(name="presets", help="Prompts for models and kinds of LoRA: `caption --preset NAME`.")
app.command(presets_app)


@presets_app.default
def presets() -> int:
    """List the presets."""
    from .prompts import presets as known

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, preset in known().items():
        table.add_row(f"[bold]{name}[/]", escape(preset["description"]))
    out.print(table)
    out.print("\ngemma-captioner presets show NAME > mine.toml, and caption with --config mine.toml", markup=False)
    return 0


@presets_app.command
def show(name: Annotated[str, Parameter(help="Which one.")], /) -> int:
    """Print a preset as a config file, to start from."""
    from .prompts import preset_text

    out.file.write(preset_text(name))
    return 0


@app.command
def demo(
    folder: Annotated[
        Path | None, Parameter(help="Where to draw the samples. [default: a new temporary folder]")
    ] = None,
    /,
) -> int:
    """Draw a dozen images and clips, caption them with the embedded model, and show what it says.

    The embedded model is real, and tiny: it knows one coloured shape on a plain background, and nothing else.
    """
    from .demo.samples import draw_samples
    from .records import Captioned, Failed

    folder = folder or Path(tempfile.mkdtemp(prefix="gemma-captioner-demo-"))
    truth = draw_samples(folder)
    table = Table(box=None, pad_edge=False)
    for title in ("file", "caption", "right?"):
        table.add_column(title, overflow="fold")
    code = 0
    settings = Settings.of({"model": "demo", "existing": "overwrite", "include": tuple(truth)})
    with closing(Run([folder], settings)) as run:
        for outcome in run:
            name = outcome.item.path.name
            if isinstance(outcome, Captioned):
                right = outcome.caption == truth[name]
                table.add_row(name, outcome.caption, "[green]yes[/]" if right else f"[red]no:[/] {truth[name]}")
            elif isinstance(outcome, Failed):
                code = 3
                table.add_row(name, f"[red]{outcome.error}[/]", "[red]no[/]")
    out.print(table)
    out.print(f"\nThe files and their captions are in {printable(folder)}", markup=False)
    out.print("Now with your own:  gemma-captioner caption FOLDER --limit 5 --show", markup=False)
    return code


@app.command
def split(
    videos: Annotated[list[Path], Parameter(help="Long videos.")],
    /,
    *,
    output: Annotated[Path, Parameter(help="The folder for the clips: what `caption` reads next.")],
    cutting: Annotated[knobs.Splitting, Parameter(name="*")] = knobs.Splitting(),
) -> int:
    """Cut long videos into clips at scene cuts.

    A clip that begins and ends at keyframes is copied, any other encoded anew, visually lossless; sound is left out.
    The cuts and a contact sheet are put under `.gemma-captioner/split/` in the output folder. Goes on where it was
    interrupted.
    """
    from .media.scenes import split as cut

    twice = [stem for stem, times in Counter(video.stem for video in videos).items() if times > 1]
    if twice:
        raise UsageError(f"several videos are called {twice[0]!r}, so their clips would mix: split them one by one")
    failed = 0
    for video in videos:
        count = 0
        try:
            for clip in cut(video, output, cutting):
                count += 1
                err.print(printable(clip), markup=False, soft_wrap=True)
        except ItemError as error:
            failed += 1
            err.print(f"failed: {printable(video)}: {error}", markup=False, style="red", soft_wrap=True)
        else:
            out.print(f"{printable(video)}: {count} clips", markup=False)
    return 3 if failed else 0


@app.command
def restore(
    run: Annotated[str, Parameter(help="The run, as `.gemma-captioner/runs/` and a run's summary call it.")],
    folder: Annotated[Path, Parameter(help="The folder that was captioned, or --output.")] = Path("."),
    /,
) -> int:
    """Bring back the captions that a run overwrote. Those edited since stay as they are."""
    from .store.journal import restore as restored

    counts = {True: 0, False: 0}
    for path, done in restored(folder.absolute(), run):
        counts[done] += 1
        if not done:
            err.print(f"left alone, edited since: {printable(path)}", markup=False)
    out.print(f"{counts[True]} captions brought back, {counts[False]} left alone")
    return 0


@app.command
def doctor(
    *,
    model: Annotated[str | None, Parameter(help="The model to ask for at --base-url.")] = None,
    server: Annotated[knobs.ServerAddress, Parameter(name="*")] = knobs.ServerAddress(),
) -> int:
    """Say what is here, what it means for captioning, and what to do about it; with --base-url, what is there."""
    from .doctor import examine
    from .server_doctor import examine_server

    asked = server.model_dump(exclude_unset=True) | ({} if model is None else {"model": model})
    for finding in examine() if server.base_url is None else examine_server(asked):
        mark, style = {"good": ("ok", "green"), "note": ("--", "yellow"), "bad": ("!!", "bold red")}[finding.state]
        out.print(f"[{style}]{mark}[/] ", end="")
        out.print(f"{finding.what}: {finding.meaning}", markup=False)
    return 0


def main(argv: list[str] | None = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")
    sys.exit(_main(sys.argv[1:] if argv is None else argv))


def _main(argv: list[str]) -> int:
    code = _answer(argv)
    if "--json" in argv and not _json_printed:  # it ended before there was a run to tell of
        _print_json(Tally().as_json(0.0, 0.0))
    return code


def _answer(argv: list[str]) -> int:
    try:
        result = app(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        cause = error.__cause__
        message = explain(cause) if isinstance(cause, ValidationError) else str(error)
        err.print(f"error: {message}", markup=False, style="bold red", soft_wrap=True)
        err.print("`gemma-captioner --help` and `gemma-captioner COMMAND --help` list what there is")
        return 2
    except CaptionerError as error:
        err.print(f"error: {error}", markup=False, style="bold red", soft_wrap=True)
        return error.exit_code
    except OSError as error:
        err.print(f"error: {error}: mend it and run again", markup=False, style="bold red", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0
