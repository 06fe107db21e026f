"""How the options are laid out: the panels, the common and the advanced options, the values to choose from.

Everything here is data by field name (`for_` is `--for`). `--help` and the review page are built from it.
"""

from collections.abc import Callable, Iterable, Mapping

from .formats import FORMATS
from .languages import LANGUAGES
from .presets import presets
from .selection import FLAGS
from .targets import all_targets, models, trainers

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

METAVARS = {
    name: metavar
    for metavar, names in {
        "TEXT": "prompt system begin prefix suffix",
        "WORD": "trigger",
        "NAME|FILE": "format",
        "NAME": "preset language model adapter tokenizer target api_key_env",
        "GLOB": "include exclude",
        "FOLDER|FILE|auto": "transcripts",
        "FILE": "prompt_file metadata config html files",
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

# The values that the shell completes, for options whose type does not list them. They are computed at each TAB.
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


def panel_of(command: str, field: str) -> tuple[str, int, int]:
    """The panel of an option, the panel's place among the panels, and the option's place in it."""
    common = COMMON.get(command)
    if common is None:
        return "Options", 0, 0
    if field in common:
        return "Common", 0, common.index(field)
    place, title = next((i, t) for i, (t, names) in enumerate(PANELS.items(), 1) if field in names)
    return title, place, PANELS[title].index(field)
