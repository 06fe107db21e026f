"""What `--help` shows: the examples, and which options `--help-all` adds. config/option_layout.py has the panels."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from cyclopts.help import DefaultFormatter, HelpEntry
from rich.text import Text

from ..config.option_layout import ADVANCED
from ..config.precedence import option_name

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

RENAMED = {"--facts": "--metadata"}  # old options, still accepted

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("gemma-captioner demo", "Caption sample media with the demo model:"),
        ("gemma-captioner caption photos/ --limit 5 --show", "Caption five files of your own:"),
        ("gemma-captioner check photos/", "Check the captions before training:"),
    ),
    "caption": (
        ("gemma-captioner caption photos/ --limit 5 --show", "Try it on five files:"),
        ("gemma-captioner caption clips/ --for musubi:wan --train-frames 81", "Caption what the trainer reads:"),
        ('gemma-captioner caption dataset/ -r -p "Describe this." --dry-run', "Show what a run would do:"),
    ),
    "check": (
        ("gemma-captioner check dataset/", "List the problems and write a page:"),
        ("gemma-captioner check dataset/ -r --for sd-scripts:sdxl", "Check what one trainer requires:"),
        ("gemma-captioner check dataset/ --fix", "Repair what can be repaired automatically:"),
    ),
    "compare": (
        ("gemma-captioner compare photos/ --preset flux --preset sdxl", "Compare two presets:"),
        ('gemma-captioner compare photos/ -p "Describe this." -p "One sentence."', "Compare two prompts:"),
        ("gemma-captioner compare clips/ --frames 8 --frames 16 --limit 3", "Compare numbers of frames:"),
    ),
    "demo": (
        ("gemma-captioner demo", "Use a new temporary folder:"),
        ("gemma-captioner demo samples/", "Keep the samples in this folder:"),
        ("gemma-captioner review samples/ --model demo", "Review the captions in a browser:"),
    ),
    "doctor": (
        ("gemma-captioner doctor", "Check this machine:"),
        ("gemma-captioner doctor --base-url http://localhost:8000/v1", "Check a server:"),
        ("gemma-captioner doctor --base-url http://localhost:8000/v1 -m gemma", "Check one model of a server:"),
    ),
    "export": (
        ("gemma-captioner export dataset/ --for diffusion-pipe", "Write what the trainer reads:"),
        ("gemma-captioner export dataset/ --for csv -o captions.csv", "Write one table:"),
        ("gemma-captioner export dataset/ --for webdataset -o shards/set.tar -r", "Write tar shards:"),
    ),
    "presets": (
        ("gemma-captioner presets", "List the presets:"),
        ("gemma-captioner presets show wan", "Print one as a config file:"),
        ("gemma-captioner caption clips/ --preset wan", "Caption with one:"),
    ),
    "presets show": (
        ("gemma-captioner presets show wan", "Print a preset:"),
        ("gemma-captioner presets show flux > mine.toml", "Save it to edit it:"),
        ("gemma-captioner caption photos/ --config mine.toml", "Caption with the edited copy:"),
    ),
    "restore": (
        ("gemma-captioner restore RUN", "Restore into the current folder:"),
        ("gemma-captioner restore RUN dataset/", "Restore into this folder:"),
        ("gemma-captioner caption dataset/ --existing overwrite", "A run to restore later:"),
    ),
    "review": (
        ("gemma-captioner review dataset/", "Review on this machine:"),
        ("gemma-captioner review dataset/ -r --preset wan", "Set how the page captions files again:"),
        ("gemma-captioner review dataset/ --host 0.0.0.0 --port 9000", "Open it to other machines, with a token:"),
    ),
    "split": (
        ("gemma-captioner split film.mp4 -o clips/", "Cut one video:"),
        ("gemma-captioner split *.mp4 -o clips/ --min 3s --max 8s", "Set the clips' lengths:"),
        (
            "gemma-captioner split film.mp4 -o clips/ --for musubi:wan --train-frames 81",
            "Cut to what a trainer reads:",
        ),
    ),
    "targets": (
        ("gemma-captioner targets", "List trainers and models:"),
        ("gemma-captioner targets musubi:wan", "Show all that is known of one:"),
        ("gemma-captioner targets wan --json", "Print the rows of a model as JSON:"),
    ),
}

help_all: ContextVar[bool] = ContextVar("help_all", default=False)  # whether advanced options are shown


def examples(command: str) -> str:
    """The end of a command's help."""
    lines = [line for shown, why in EXAMPLES[command] for line in (f"{why}\\", f"`{shown}`\\")]
    return "\n".join(["Examples:\n", *lines]).removesuffix("\\")


class Formatter(DefaultFormatter):
    """Leaves advanced options, and the `--no-` forms of switches that are off, to `--help-all`."""

    _advanced = frozenset(map(option_name, ADVANCED))

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        if panel.format == "parameter" and not help_all.get():
            entries = [
                e if e.default is not None else e.copy(negative_names=())
                for e in panel.entries
                if panel.title in ("Common", "Options") or not self._advanced.intersection(e.positive_names)
            ]
            if panel.title == "Common":
                entries.append(HelpEntry(positive_names=("--help-all",), description=Text("Show every option.")))
            panel = panel.copy(entries=entries)
        super().__call__(console, options, panel)
