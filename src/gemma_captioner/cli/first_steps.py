"""The commands for new users: `demo`, `presets`, `doctor`, `--install-completion`."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from ..config.model import ServerAddress
from ..config.option_layout import VALUES
from ..config.precedence import option_name
from ..config.settings import Settings
from ..errors import UsageError
from ..text import printable
from .help import examples
from .options import Option, Options, with_options
from .shell import app, out


@app.command(help_epilogue=examples("demo"), usage="Usage: gemma-captioner demo [FOLDER]")
def demo(
    folder: Annotated[
        Path | None, Parameter(help="Draw the samples into this folder. [default: a new temporary folder]")
    ] = None,
    /,
) -> int:
    """Draw a dozen sample images and clips and caption them with the demo model.

    Needs no download and no GPU. The demo model is tiny: it can describe one colored shape on a plain background,
    and no photographs.
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
    out.print(table, markup=True)
    out.print(f"\nThe files and their captions are in {printable(folder)}")
    out.print("Next, try your own files: gemma-captioner caption FOLDER --limit 5 --show")
    return code


presets_app = App(
    name="presets",
    help="List the presets: prompts and settings for a model to train or a kind of LoRA.",
    help_epilogue=examples("presets"),
    help_flags=app.help_flags,
)
app.command(presets_app)


@presets_app.default
def presets() -> int:
    """List the presets: prompts and settings for a model to train or a kind of LoRA."""
    from ..config.presets import presets as known

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, preset in known().items():
        table.add_row(f"[bold]{name}[/]", escape(preset["description"]))
    out.print(table, markup=True)
    out.print(
        "\nTo edit one: gemma-captioner presets show NAME > mine.toml, then caption with --config mine.toml",
    )
    return 0


@presets_app.command(help_epilogue=examples("presets show"))
def show(name: Annotated[str, Parameter(help="The preset.", completer=lambda _: list(VALUES["preset"]()))], /) -> int:
    """Print a preset as a config file that you can edit."""
    from ..config.presets import preset_text

    out.file.write(preset_text(name))
    return 0


# bash breaks words at colons: this joins `musubi : wan`, and gives back only what follows the last colon.
_BASH_COLONS = r"""
_gemma_captioner_with_colons() {
  local -a joined=()
  local i
  for ((i = 0; i <= COMP_CWORD; i++)); do
    if ((i > 0)) && [[ "${COMP_WORDS[i]}" == : || "${COMP_WORDS[i - 1]}" == : ]]; then
      joined[${#joined[@]}-1]+="${COMP_WORDS[i]}"
    else
      joined+=("${COMP_WORDS[i]}")
    fi
  done
  local -a COMP_WORDS=("${joined[@]}")
  local COMP_CWORD=$((${#joined[@]} - 1))
  local word="${joined[COMP_CWORD]}"
  _gemma_captioner
  if [[ "$word" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
  fi
}
complete -F _gemma_captioner_with_colons gemma-captioner
"""


@app.command(name="--install-completion")  # cyclopts' own loads its generators with every start
def install_completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None, Parameter(help="The shell. [default: the shell that runs this command]")
    ] = None,
    /,
) -> int:
    """Install shell completion for bash, zsh or fish."""
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    try:
        known = shell or detect_shell()
        script = app.install_completion(shell=known)
    except ShellDetectionError as error:
        raise UsageError(
            f"cannot tell which shell this is ({error}): name it, for example --install-completion bash"
        ) from error
    if known == "bash":
        with script.open("a", encoding="utf-8") as file:
            file.write(_BASH_COLONS)
    out.print(
        f"{printable(script)}: completion works in the next shell that you open. In zsh, .zshrc must run compinit.",
    )
    return 0


_BASE_URL = Option(str | None, None, "Check this server instead of this machine, for example http://localhost:8000/v1.")


@app.command(help_epilogue=examples("doctor"))
@with_options(Options(ServerAddress, changed={"base_url": _BASE_URL}))
def doctor(
    *,
    model: Annotated[str | None, Parameter(help="Check that the server has this model.")] = None,
    **flags: Any,
) -> int:
    """Check this machine, or the server at --base-url, and say what to change.

    Reports the GPU, the memory, the installed packages and what they mean for captioning. Exits with 1 if something
    must change.
    """
    from ..doctor.machine import diagnose_machine
    from ..doctor.server import diagnose_server

    server = ServerAddress.from_dict(flags)
    asked = flags | ({} if model is None else {"model": model})
    if server.base_url is None and asked:
        raise UsageError(
            f"{option_name(next(iter(asked)))} requires --base-url: give the address of the server, or omit it"
        )
    code = 0
    for finding in diagnose_machine() if server.base_url is None else diagnose_server(asked):
        mark, style = {"good": ("ok", "green"), "note": ("--", "yellow"), "bad": ("!!", "bold red")}[finding.state]
        out.print(mark, style=style, end=" ")
        out.print(f"{finding.what}: {finding.meaning}")
        code = max(code, int(finding.state == "bad"))
    return code
