"""The commands for someone who is finding out: `demo`, `presets`, `doctor`."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from ..config.model import ServerAddress
from ..config.settings import Settings
from ..errors import UsageError
from ..text import printable
from .options import Options, with_options
from .shell import app, out


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
    from ..demo.samples import draw_samples
    from ..executors.local import Run
    from ..types import Captioned, Failed

    folder = folder or Path(tempfile.mkdtemp(prefix="gemma-captioner-demo-"))
    truth = draw_samples(folder)
    table = Table(box=None, pad_edge=False)
    for title in ("file", "caption", "right?"):
        table.add_column(title, overflow="fold")
    code = 0
    settings = Settings.from_dict({"model": "demo", "existing": "overwrite", "include": tuple(truth)})
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


presets_app = App(name="presets", help="Prompts for models and kinds of LoRA: `caption --preset NAME`.")
app.command(presets_app)


@presets_app.default
def presets() -> int:
    """List the presets."""
    from ..config.presets import presets as known

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, preset in known().items():
        table.add_row(f"[bold]{name}[/]", escape(preset["description"]))
    out.print(table)
    out.print("\ngemma-captioner presets show NAME > mine.toml, and caption with --config mine.toml", markup=False)
    return 0


@presets_app.command
def show(name: Annotated[str, Parameter(help="Which one.")], /) -> int:
    """Print a preset as a config file, to start from."""
    from ..config.presets import preset_text

    out.file.write(preset_text(name))
    return 0


@app.command(name="--install-completion")  # cyclopts' own loads its generators with every start
def install_completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None, Parameter(help="Which shell. [default: the one that this is typed in]")
    ] = None,
    /,
) -> int:
    """Let the shell complete commands and options: bash, zsh or fish."""
    from cyclopts.completion.detect import ShellDetectionError

    try:
        script = app.install_completion(shell=shell)
    except ShellDetectionError as error:
        raise UsageError(f"which shell this is cannot be told ({error}): name it, bash say") from error
    out.print(f"{printable(script)}: from the next shell on. In zsh, .zshrc must run compinit.", markup=False)
    return 0


@app.command
@with_options(Options(ServerAddress))
def doctor(
    *,
    model: Annotated[str | None, Parameter(help="The model to ask for at --base-url.")] = None,
    **flags: Any,
) -> int:
    """Say what is here, what it means for captioning, and what to do about it; with --base-url, what is there."""
    from ..doctor.machine import diagnose_machine
    from ..doctor.server import diagnose_server

    server = ServerAddress.from_dict(flags)
    asked = flags | ({} if model is None else {"model": model})
    for finding in diagnose_machine() if server.base_url is None else diagnose_server(asked):
        mark, style = {"good": ("ok", "green"), "note": ("--", "yellow"), "bad": ("!!", "bold red")}[finding.state]
        out.print(f"[{style}]{mark}[/] ", end="")
        out.print(f"{finding.what}: {finding.meaning}", markup=False)
    return 0
