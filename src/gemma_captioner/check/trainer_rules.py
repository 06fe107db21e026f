"""What one trainer trips over and another does not: a row for each trap, read from the trainers' own sources."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from ..dataset.discover import EXTENSIONS
from .listing import Listing
from .rules import GENERAL_RULES, Rule
from .settings import CheckSettings

# Where the rows of each trainer were read.
SOURCES: Mapping[str, str] = {
    "musubi": "kohya-ss/musubi-tuner 30c658c, dataset/datasources.py",
    "diffusion-pipe": "tdrussell/diffusion-pipe 8f83dbf, utils/dataset.py",
    "ltx": "Lightricks/LTX-2 400fd31, scripts/process_captions.py",
    "mochi": "genmoai/mochi 0c86aeb, demos/fine_tuner",
    "ai-toolkit": "ostris/ai-toolkit 27a03a9, toolkit/dataloader_mixins.py",
    "simpletuner": "bghira/SimpleTuner bc8e6ab, helpers/prompts.py, data_backend/local.py",
    "finetrainers": "a-r-r-o-w/finetrainers f476c37, data/dataset.py",
    "onetrainer": "Nerogar/OneTrainer 23df383, mgds 3a6994a",
    "sd-scripts": "kohya-ss/sd-scripts 48d368f, library/train_util.py",
    "huggingface": "huggingface/datasets b7cb10b, folder_based_builder, data_files.py",
}

# Extensions that are read of those that we caption, and how they may be written; others are left out in silence.
_ANY, _ONE, _LOWER = "in any case", "all lower or all upper case", "in lower case"
_SUPPORTED_EXTENSIONS: Mapping[str, tuple[Collection[str], str]] = {
    "musubi": ("png jpg jpeg webp bmp avif mp4 webm avi mkv mov m4v mpg mpeg".split(), _ONE),
    "mochi": (["mp4", "mov"], _ONE),
    "ai-toolkit": ("jpg jpeg png webp mp4 avi mov webm mkv m4v".split(), _ANY),
    "finetrainers": ("jpg jpeg png mp4 mov".split(), _LOWER),
    "onetrainer": ("bmp jpg jpeg png tif tiff webp avif webm mkv avi mov mp4 mpeg m4v".split(), _ANY),
    "sd-scripts": ("png jpg jpeg webp bmp avif".split(), _ONE),
    "huggingface": ([e for e in EXTENSIONS if e not in ("webm", "m4v", "mpg")], _ANY),
}
_IGNORED_SUFFIXES = (".txt", ".npz", ".json", ".parquet", ".bak", ".db")  # by diffusion-pipe, as media
_OVERRIDES_TXT = {
    "diffusion-pipe": r"captions\.json",
    "finetrainers": r"metadata\.(?:jsonl|csv)|.*\.(?:tar|parquet)",
}
_METADATA = {
    "huggingface": ("metadata.csv", "metadata.jsonl", "metadata.parquet"),
    "finetrainers": ("metadata.csv", "metadata.jsonl", "metadata.json"),
}
_SPLIT_NAME = re.compile(
    r"(?:\A|[-._ 0-9/])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)[-._ 0-9/]"
)

Matches = Iterator[tuple[str, str]]  # (name in the folder, what of it)


def _not_read(listing: Listing, checking: CheckSettings) -> Matches:
    extensions, case = _SUPPORTED_EXTENSIONS[checking.trainer]
    for name in listing.media:
        extension = name.rpartition(".")[2]
        if extension.lower() not in extensions:
            yield name, f"it reads {', '.join(extensions)}"
        elif not (case == _ANY or extension.islower() or (case == _ONE and extension.isupper())):
            yield name, f"it reads extensions {case}"


def _subfolder(listing: Listing, checking: CheckSettings) -> Matches:
    if listing.relative_path and listing.media:
        yield "", f"{len(listing.media)} images and clips"


def _stray_files(listing: Listing, checking: CheckSettings) -> Matches:
    for name in listing.others:
        if os.path.splitext(name)[1] not in _IGNORED_SUFFIXES and name != "captions.json":
            yield name, ""


def _other_source(listing: Listing, checking: CheckSettings) -> Matches:
    for name in listing.others:
        if re.fullmatch(_OVERRIDES_TXT[checking.trainer], name):
            yield name, ""


def _mistaken_for_metadata(listing: Listing, checking: CheckSettings) -> Matches:
    if "metadata.json" in listing.others and not listing.relative_path:
        yield "metadata.json", ""


def _sidecars(listing: Listing, checking: CheckSettings) -> Matches:
    if listing.captions and not listing.relative_path:
        yield "", ""


def _full_names(listing: Listing, checking: CheckSettings) -> Matches:
    if checking.name == "full" and listing.captions:
        yield "", ""


def _extension_to_configure(listing: Listing, checking: CheckSettings) -> Matches:
    if (
        listing.captions
        and not listing.relative_path
        and not (checking.trainer == "sd-scripts" and checking.extension == "caption")
    ):
        yield "", f'caption_extension = ".{checking.extension}"'


def _hidden_media(listing: Listing, checking: CheckSettings) -> Matches:
    """One of each hidden folder tells enough."""
    extensions = _SUPPORTED_EXTENSIONS[checking.trainer][0] if checking.trainer in _SUPPORTED_EXTENSIONS else EXTENSIONS
    for hidden in listing.hidden:
        for folder, _, names in os.walk(listing.folder / hidden):
            if found := next((name for name in names if name.rpartition(".")[2].lower() in extensions), None):
                yield os.path.relpath(os.path.join(folder, found), listing.folder), ""
                break


def _named_like_a_split(listing: Listing, checking: CheckSettings) -> Matches:
    for name in listing.media:
        if word := _SPLIT_NAME.search(listing.relative_path + name):
            yield name, f"{word[1]!r}"


def _mixed_metadata(listing: Listing, checking: CheckSettings) -> Matches:
    kinds = [name for name in listing.others if name in _METADATA[checking.trainer]]
    if len(kinds) > 1:
        yield kinds[0], f"and {', '.join(kinds[1:])}"


@dataclass(frozen=True, slots=True)
class TrainerRule(Rule):
    """trainers: whose. One of the two looks: into a folder's listing, or at a caption's text for what to say of it."""

    trainers: tuple[str, ...] = ()
    check_folder: Callable[[Listing, CheckSettings], Matches] | None = None
    check_text: Callable[[str], str | None] | None = None


def _search_for(pattern: str, template: str = "{}") -> Callable[[str], str | None]:
    """What to say of the first match, None where there is none."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda text: template.format(repr(match[0])) if (match := compiled.search(text)) else None


def _beyond_first_line(text: str) -> str | None:
    first = text.split("\n")[0].strip()
    if first == text.strip():
        return None
    return f"the first is {first[:40]!r}" if first else "the first is blank, so that nothing is read"


def _several_captions(text: str) -> str | None:
    count = sum(bool(line.strip()) for line in text.splitlines())
    return f"{count} captions" if count > 1 else None


# fmt: off
TRAINER_RULES: Mapping[str, TrainerRule] = {
    "first_line_only": TrainerRule(
        "error", "the first line alone is read",
        "join the lines, unless enable_wildcard is on: they are alternatives then",
        True, ("sd-scripts",), check_text=_beyond_first_line),
    "several_lines": TrainerRule(
        "note", "each line is taken for a caption of its own, one of them each time", "join them, if that is not meant",
        False, ("onetrainer", "simpletuner"), check_text=_several_captions),
    "blank_line": TrainerRule(
        "error", "a line of spaces is taken for a caption", "take it out",
        True, ("simpletuner",), check_text=_search_for(r"^[^\S\n]+$", "")),
    "final_newline": TrainerRule(
        "note", "ends with a line break, which stays in the prompt", "take it off",
        True, ("ai-toolkit",), check_text=_search_for(r"\n\Z", "")),
    "not_ascii": TrainerRule(
        "note", "letters beyond ASCII are read in the machine's own encoding", "train with PYTHONUTF8=1 set",
        False, ("diffusion-pipe", "finetrainers", "mochi"), check_text=_search_for(r"[^\x00-\x7f]")),
    "wildcard": TrainerRule(
        "note", "with enable_wildcard, braces are chosen from", "double them, {{ and }}, if they are meant",
        False, ("sd-scripts",), check_text=_search_for(r"(?<!\{)\{(?!\{)[^{}\n]*\}?")),
    "placeholder": TrainerRule(
        "note", "is replaced by trigger_word, and by nothing where there is none",
        "set trigger_word, or write the word itself",
        False, ("ai-toolkit",), check_text=_search_for(r"\[(?:trigger|name)\]")),
    "comma_in_number": TrainerRule(
        "note", "captions are taken apart at commas, and put together with spaces", "write the number without",
        False, ("ai-toolkit",), check_text=_search_for(r"\d+,\d+")),
    "media_not_read": TrainerRule(
        "note", "an image or clip that it does not read, and leaves out", "convert or rename it",
        False, tuple(_SUPPORTED_EXTENSIONS), _not_read),
    "subfolder_not_read": TrainerRule(
        "note", "subfolders are not read", "name each in the trainer's configuration",
        False, ("diffusion-pipe", "musubi", "sd-scripts", "finetrainers"), _subfolder),
    "stray_file": TrainerRule(
        "note", "is tried as an image or clip: skipped with a warning, or the end of a run with control_path",
        "move it out of the folder", False, ("diffusion-pipe",), _stray_files),
    "other_source": TrainerRule(
        "note", "captions are read from here, and every .txt is ignored",
        "write it anew with `gemma-captioner export`, or remove it",
        False, tuple(_OVERRIDES_TXT), _other_source),
    "metadata_json": TrainerRule(
        "error", "is taken for where the captions are, and not read: every .txt is ignored",
        "remove it, or `gemma-captioner export` to metadata.jsonl",
        False, ("finetrainers",), _mistaken_for_metadata),
    "sidecars_not_read": TrainerRule(
        "note", "captions in files beside the media are not read", "`gemma-captioner export` writes what is",
        False, ("ltx", "huggingface"), _sidecars),
    "full_names": TrainerRule(
        "error", "captions are looked for as a.txt, never a.png.txt",
        "caption without --name full, or `gemma-captioner export`",
        False, tuple(t for t in SOURCES if t not in ("ltx", "huggingface")), _full_names),
    "extension_to_say": TrainerRule(
        "note", "the captions' extension is another by default", "say it in the trainer's configuration",
        False, ("musubi", "sd-scripts"), _extension_to_configure),
    "hidden_media": TrainerRule(
        "error", "hidden folders are walked as well, and this is taken for a sample", "move it out of the dataset",
        False, ("simpletuner", "mochi"), _hidden_media),
    "named_like_a_split": TrainerRule(
        "error", "a name that reads as a split (train, test, ...): files of other names are dropped",
        'rename it, or load with data_files={"train": "DIR/**"}', False, ("huggingface",), _named_like_a_split),
    "mixed_metadata": TrainerRule(
        "error", "metadata in several formats raises", "leave one of them", False, tuple(_METADATA), _mixed_metadata),
}
# fmt: on


def match_folder(listing: Listing, checking: CheckSettings) -> Iterator[tuple[str, str, str]]:
    """(code, name in the folder, what)."""
    for code, trap in TRAINER_RULES.items():
        if trap.check_folder is not None and checking.trainer in trap.trainers:
            yield from ((code, name, what) for name, what in trap.check_folder(listing, checking))


def match_text(text: str, trainer: str) -> Iterator[tuple[str, str]]:
    """(code, what)."""
    for code, trap in TRAINER_RULES.items():
        if trap.check_text is not None and trainer in trap.trainers and (what := trap.check_text(text)) is not None:
            yield code, what


RULES: Mapping[str, Rule] = {**GENERAL_RULES, **TRAINER_RULES}
