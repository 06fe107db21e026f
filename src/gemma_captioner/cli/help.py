"""What `--help` shows: the panels, the common and the advanced options, the examples, the values for completion.

Everything here is data by field name (`for_` is `--for`). options.py reads it while it builds the commands.
"""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from cyclopts.help import DefaultFormatter, HelpEntry
from rich.text import Text

from ..config.formats import FORMATS
from ..config.languages import LANGUAGES
from ..config.precedence import option_name
from ..config.presets import presets
from ..config.selection import FLAGS
from ..config.targets import all_targets, models, trainers

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

# Task -> its options, in the order of the panels and of the options within each.
PANELS: Mapping[str, tuple[str, ...]] = {
    title: tuple(names.split())
    for title, names in {
        "Which files": "recursive include exclude limit existing only name shard captions extension",
        "Prompt and caption text": "prompt prompt_file preset metadata transcripts examples control system begin "
        "trigger prefix suffix order punctuation format",
        "Images and clips": "frames span for_ train_frames train_mode audio fps timestamps sampling animated "
        "background image_tokens exact_pixels decode_timeout decode_memory",
        "Quality": "look media resolution max_new_tokens temperature seed language target tokenizer retries",
        "Model": "model adapter engine quantize batch_size hf_token dtype device",
        "Servers": "base_url api_key_env serve wait_for_server concurrency shrink image_size image_format "
        "jpeg_quality request_timeout item_timeout",
        "Clusters": "cluster actors gpus_per_actor cpus_per_actor attempts",
        "Page": "host port allow_host open_ html",
        "Run": "output captions_to config dry_run show json_ fix stop_after on_finish workers debug",
    }.items()
}

# The first panel of a command: at most 13 options, and `--help-all`. A command that is not named here has so few
# options that all of them are in one panel.
COMMON: Mapping[str, tuple[str, ...]] = {
    command: tuple(names.split())
    for command, names in {
        "caption": "prompt preset model trigger for_ recursive frames max_new_tokens output existing limit dry_run "
        "config",
        "compare": "model prompt preset frames prompt_file recursive limit max_new_tokens html config",
        "review": "host port open_ recursive output model prompt preset trigger for_ config",
        "check": "for_ fix media recursive trigger look target html json_",
    }.items()
}

# Shown by `--help-all` only: their defaults suit nearly everyone.
ADVANCED = frozenset(
    "punctuation order sampling animated background image_tokens exact_pixels decode_timeout decode_memory seed "
    "tokenizer retries dtype device image_size image_format jpeg_quality request_timeout item_timeout actors "
    "gpus_per_actor cpus_per_actor attempts workers debug extension allow_host resolution".split()
)

SHORT = {"recursive": "-r", "output": "-o", "model": "-m", "prompt": "-p"}
NO_NEGATIVE = frozenset(("dry_run", "show", "json_", "media", "debug"))  # no config file sets them: no `--no-dry-run`
RENAMED = {"--facts": "--metadata"}  # old options, still accepted

METAVARS = {
    name: metavar
    for metavar, names in {
        "TEXT": "prompt system begin prefix suffix",
        "WORD": "trigger",
        "NAME|FILE": "format",
        "NAME": "preset language model adapter tokenizer target api_key_env",
        "GLOB": "include exclude",
        "FOLDER|FILE|auto": "transcripts",
        "FILE": "prompt_file metadata config html",
        "FOLDER": "output captions control",
        "PATH": "examples",
        "TRAINER[:MODEL]": "for_",
        "DURATION": "stop_after wait_for_server min max",
        "N[,N]": "train_frames",
        "MODE": "train_mode",
        "N": "limit frames max_new_tokens seed retries actors attempts workers image_tokens jpeg_quality",
        "N|auto": "batch_size concurrency",
        "PX": "image_size resolution",
        "PORT": "port",
        "HOST": "host allow_host",
        "SECONDS": "decode_timeout request_timeout item_timeout",
        "GIB": "decode_memory",
        "URL": "base_url",
        "COMMAND": "serve on_finish",
        "TOKEN": "hf_token",
        "COLOR": "background",
        "I/N": "shard",
        "SPAN": "span",
        "WHICH": "only",
        "WHERE": "cluster",
        "EXT": "extension",
    }.items()
    for name in names.split()
}

# What the shell completes where the type does not say it. Asked for at each TAB, so it is always this version's.
VALUES: Mapping[str, Callable[[], Iterable[str]]] = {
    "preset": presets,
    "for_": lambda: [*trainers(), *(target.name for target in all_targets() if target.model)],
    "only": lambda: ["failed", "flagged", *(f"flagged:{flag}" for flag in FLAGS)],
    "language": lambda: LANGUAGES,
    "target": models,
    "train_mode": lambda: dict.fromkeys(mode for target in all_targets() for mode in target.modes),
    "batch_size": lambda: ["auto"],
    "concurrency": lambda: ["auto"],
    "cluster": lambda: ["local", "auto", "ray://"],
    "format": lambda: FORMATS,
    "transcripts": lambda: ["auto"],
    "span": lambda: ["whole", "head:", "middle:"],
}

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("gemma-captioner demo", "Caption sample media with the embedded model:"),
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
        ("gemma-captioner export dataset/ --for webdataset -o shards/ -r", "Write tar shards:"),
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


def panel_of(command: str, field: str) -> tuple[str, int, int]:
    """The panel of an option, the panel's place among the panels, and the option's place in it."""
    common = COMMON.get(command)
    if common is None:
        return "Options", 0, 0
    if field in common:
        return "Common", 0, common.index(field)
    place, title = next((i, t) for i, (t, names) in enumerate(PANELS.items(), 1) if field in names)
    return title, place, PANELS[title].index(field)


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
