"""Rules of `check` for single trainers, read in their source code at the commit that the table of targets names."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass

from ..captions.formats import detect
from ..config.targets import all_targets
from ..dataset.discover import EXTENSIONS
from ..text import counted, parse_json
from .listing import Listing, Matches
from .media.rules import MEDIA_RULES
from .pairs import PAIR_RULES
from .rules import GENERAL_RULES, Rule
from .settings import CheckSettings
from .sound import clips_without_sound, low_sample_rates
from .trigger.rules import TRIGGER_RULES

# The media extensions that each trainer reads, and in which case. It skips others without a message.
_ANY, _ONE, _LOWER = "in any case", "all lower or all upper case", "in lower case"
_SUPPORTED_EXTENSIONS: Mapping[str, tuple[Collection[str], str]] = {
    "musubi": ("png jpg jpeg webp bmp avif mp4 webm avi mkv mov m4v mpg mpeg".split(), _ONE),
    "mochi": (["mp4", "mov"], _ONE),
    "ai-toolkit": ("jpg jpeg png webp mp4 avi mov webm mkv wmv m4v flv".split(), _ANY),
    "finetrainers": ("jpg jpeg png mp4 mov".split(), _LOWER),
    "onetrainer": ("bmp jpg jpeg png tif tiff webp avif webm mkv avi mov mp4 mpeg m4v".split(), _ANY),
    "sd-scripts": ("png jpg jpeg webp bmp avif".split(), _ONE),
    "huggingface": ([e for e in EXTENSIONS if e not in ("webm", "m4v", "mpg")], _ANY),
}
_IGNORED_SUFFIXES = (".txt", ".npz", ".json", ".parquet", ".bak", ".db")  # not tried as media by diffusion-pipe
_OVERRIDES_TXT = {
    "diffusion-pipe": r"captions\.json",
    "finetrainers": r"metadata\.(?:jsonl|csv)|.*\.(?:tar|parquet)",
}
_METADATA = {
    "huggingface": ("metadata.csv", "metadata.jsonl", "metadata.parquet"),
    "finetrainers": ("metadata.csv", "metadata.jsonl", "metadata.json"),
}
_SETTINGS_FOR_CLIPS = {
    "diffusion-pipe": "frame_buckets is [1], which keeps images only",
    "ai-toolkit": "num_frames is 1, which lists images only",
}
_TRAINED_ON_SOUND = tuple(dict.fromkeys(target.trainer for target in all_targets() if target.sound))
_SPLIT_NAME = re.compile(
    r"(?:\A|[-._ 0-9/])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)[-._ 0-9/]"
)


def _not_read(listing: Listing, settings: CheckSettings) -> Matches:
    extensions, case = _SUPPORTED_EXTENSIONS[settings.trainer]
    for name in listing.media:
        extension = name.rpartition(".")[2]
        if extension.lower() not in extensions:
            yield name, f"it reads {', '.join(extensions)}"
        elif not (case == _ANY or extension.islower() or (case == _ONE and extension.isupper())):
            yield name, f"it reads extensions {case}"


def _subfolder(listing: Listing, settings: CheckSettings) -> Matches:
    if listing.relative_path and listing.media:
        yield "", counted(len(listing.media), "file")


def _stray_files(listing: Listing, settings: CheckSettings) -> Matches:
    for name in listing.others:
        if os.path.splitext(name)[1] not in _IGNORED_SUFFIXES and name != "captions.json":
            yield name, ""


def _other_source(listing: Listing, settings: CheckSettings) -> Matches:
    for name in listing.others:
        if re.fullmatch(_OVERRIDES_TXT[settings.trainer], name):
            yield name, ""


def _mistaken_for_metadata(listing: Listing, settings: CheckSettings) -> Matches:
    if "metadata.json" in listing.others and not listing.relative_path:
        yield "metadata.json", ""


def _sidecars(listing: Listing, settings: CheckSettings) -> Matches:
    if listing.captions and not listing.relative_path:
        yield "", ""


def _full_names(listing: Listing, settings: CheckSettings) -> Matches:
    if settings.name == "full" and listing.captions:
        yield "", ""


def _extension_to_configure(listing: Listing, settings: CheckSettings) -> Matches:
    is_default = settings.trainer == "sd-scripts" and settings.extension == "caption"
    if listing.captions and not listing.relative_path and not is_default:
        yield "", f'caption_extension = ".{settings.extension}"'


def _clips_skipped_by_default(listing: Listing, settings: CheckSettings) -> Matches:
    if any(EXTENSIONS[name.rpartition(".")[2].lower()] == "clip" for name in listing.media):
        yield "", _SETTINGS_FOR_CLIPS[settings.trainer]


def _hidden_media(listing: Listing, settings: CheckSettings) -> Matches:
    """Report one file per hidden folder."""
    extensions = _SUPPORTED_EXTENSIONS[settings.trainer][0] if settings.trainer in _SUPPORTED_EXTENSIONS else EXTENSIONS
    for hidden in listing.hidden:
        for folder, _, names in os.walk(listing.folder / hidden):
            if found := next((name for name in names if name.rpartition(".")[2].lower() in extensions), None):
                yield os.path.relpath(os.path.join(folder, found), listing.folder), ""
                break


def _named_like_a_split(listing: Listing, settings: CheckSettings) -> Matches:
    for name in listing.media:
        if word := _SPLIT_NAME.search(listing.relative_path + name):
            yield name, f"{word[1]!r}"


def _mixed_metadata(listing: Listing, settings: CheckSettings) -> Matches:
    kinds = [name for name in listing.others if name in _METADATA[settings.trainer]]
    if len(kinds) > 1:
        yield kinds[0], f"and {', '.join(kinds[1:])}"


@dataclass(frozen=True, slots=True)
class TrainerRule(Rule):
    """A rule for some trainers, with one check: of a folder's listing, or of a caption's text (returns the detail)."""

    _: KW_ONLY
    trainers: tuple[str, ...]
    check_folder: Callable[[Listing, CheckSettings], Matches] | None = None
    check_text: Callable[[str], str | None] | None = None


def _search_for(pattern: str, template: str = "{}") -> Callable[[str], str | None]:
    """A check that reports the first match of `pattern`."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda text: template.format(repr(match[0])) if (match := compiled.search(text)) else None


def _beyond_first_line(text: str) -> str | None:
    first = text.split("\n")[0].strip()
    if first == text.strip():
        return None
    return f"the first line is {first[:40]!r}" if first else "the first line is blank, so nothing is read"


def _several_captions(text: str) -> str | None:
    count = sum(bool(line.strip()) for line in text.splitlines())
    return f"{count} captions" if count > 1 else None


def _several_lines_of_structure(text: str) -> str | None:
    caption_format = detect(text)
    return caption_format.name if caption_format.name != "prose" and "\n" in text.strip() else None


def _not_json(text: str) -> str | None:
    try:
        parse_json(text)
    except ValueError:
        return repr(text.strip()[:40])
    return None


# fmt: off
TRAINER_RULES: Mapping[str, TrainerRule] = {
    "first_line_only": TrainerRule(
        "error", "only the first line is read",
        "join the lines, unless enable_wildcard is on, which reads them as alternatives",
        fixed=True, trainers=("sd-scripts",), check_text=_beyond_first_line),
    "structure_lost": TrainerRule(
        "error", "a structured caption on several lines, of which the trainer reads one at a time",
        "SimpleTuner: set disable_multiline_split, or use `gemma-captioner export`. Others: write JSON on one line "
        "(--fix), or use a trainer that reads whole files",
        trainers=("onetrainer", "simpletuner", "sd-scripts"), check_text=_several_lines_of_structure),
    "not_json": TrainerRule(
        "error", "not JSON, which ends the run", "caption the file again with --format fibo",
        trainers=("fibo",), check_text=_not_json),
    "several_lines": TrainerRule(
        "note", "each line is a separate caption; training picks one at a time", "join them, unless that is intended",
        trainers=("onetrainer", "simpletuner"), check_text=_several_captions),
    "blank_line": TrainerRule(
        "error", "a line of spaces counts as a caption", "remove it",
        fixed=True, trainers=("simpletuner",), check_text=_search_for(r"^[^\S\n]+$", "")),
    "final_newline": TrainerRule(
        "note", "ends with a line break, which stays in the prompt", "remove it",
        fixed=True, trainers=("ai-toolkit",), check_text=_search_for(r"\n\Z", "")),
    "not_ascii": TrainerRule(
        "note", "non-ASCII characters are read in the system encoding", "set PYTHONUTF8=1 for training",
        trainers=("diffusion-pipe", "finetrainers", "mochi"), check_text=_search_for(r"[^\x00-\x7f]")),
    "wildcard": TrainerRule(
        "note", "with enable_wildcard, braces list alternatives",
        "write literal braces as {{ and }}; for JSON, leave enable_wildcard off",
        trainers=("sd-scripts",), check_text=_search_for(r"(?<!\{)\{(?!\{)[^{}\n]*\}?")),
    "placeholder": TrainerRule(
        "note", "the placeholder is replaced by trigger_word, or removed if none is set",
        "set trigger_word, or write the word itself",
        trainers=("ai-toolkit",), check_text=_search_for(r"\[(?:trigger|name)\]")),
    "comma_in_number": TrainerRule(
        "note", "captions are split at commas and rejoined with spaces", "write the number without a comma",
        trainers=("ai-toolkit",), check_text=_search_for(r"\d+,\d+")),
    "media_not_read": TrainerRule(
        "note", "the trainer skips this image or clip", "convert or rename it",
        trainers=tuple(_SUPPORTED_EXTENSIONS), check_folder=_not_read),
    "subfolder_not_read": TrainerRule(
        "note", "subfolders are not read", "list each subfolder in the trainer's configuration",
        trainers=("diffusion-pipe", "musubi", "sd-scripts", "finetrainers"), check_folder=_subfolder),
    "stray_file": TrainerRule(
        "note", "is read as an image or clip: skipped with a warning, but with control_path the run fails",
        "move it out of the folder", trainers=("diffusion-pipe",), check_folder=_stray_files),
    "other_source": TrainerRule(
        "note", "captions are read from this file, and all .txt files are ignored",
        "write it again with `gemma-captioner export`, or remove it",
        trainers=tuple(_OVERRIDES_TXT), check_folder=_other_source),
    "metadata_json": TrainerRule(
        "error", "replaces all .txt files as the source of captions, but is never read",
        "remove it, or write metadata.jsonl with `gemma-captioner export`",
        trainers=("finetrainers",), check_folder=_mistaken_for_metadata),
    "sidecars_not_read": TrainerRule(
        "note", "caption files beside the media are not read", "use `gemma-captioner export`",
        trainers=("ltx", "diffsynth", "fibo", "huggingface"), check_folder=_sidecars),
    "full_names": TrainerRule(
        "error", "the trainer reads a.txt, never a.png.txt",
        "caption without --name full, or use `gemma-captioner export`",
        trainers=tuple("musubi diffusion-pipe mochi ai-toolkit simpletuner finetrainers onetrainer sd-scripts".split()),
        check_folder=_full_names),
    "extension_to_say": TrainerRule(
        "note", "the trainer's default caption extension differs", "set it in the trainer's configuration",
        trainers=("musubi", "sd-scripts"), check_folder=_extension_to_configure),
    "clips_not_read": TrainerRule(
        "note", "clips are skipped by default", "set the option named, in the trainer's configuration",
        trainers=tuple(_SETTINGS_FOR_CLIPS), check_folder=_clips_skipped_by_default),
    "hidden_media": TrainerRule(
        "error", "hidden folders are read too, so this file becomes a sample", "move it out of the dataset",
        trainers=("simpletuner", "mochi"), check_folder=_hidden_media),
    "named_like_a_split": TrainerRule(
        "error", "the name looks like a split (train, test, ...), so files with other names are dropped",
        'rename it, or load with data_files={"train": "DIR/**"} (not in FIBO)',
        trainers=("huggingface", "fibo"), check_folder=_named_like_a_split),
    "no_sound_track": TrainerRule(
        "note", "a clip without sound, for a model that is trained on sound",
        "leave it out, or train on it without sound; its caption must not mention sound",
        trainers=_TRAINED_ON_SOUND, check_folder=clips_without_sound),
    "low_sample_rate": TrainerRule(
        "note", "sound with fewer samples per second than the model is trained on: high tones are missing",
        "use the original recording, if it has more",
        trainers=_TRAINED_ON_SOUND, check_folder=low_sample_rates),
    "mixed_metadata": TrainerRule(
        "error", "metadata in several formats fails to load", "keep one",
        trainers=tuple(_METADATA), check_folder=_mixed_metadata),
}
# fmt: on


def match_folder(listing: Listing, settings: CheckSettings) -> Iterator[tuple[str, str, str]]:
    """Yield (code, name in the folder, detail) for each violation of a folder rule."""
    for code, rule in TRAINER_RULES.items():
        if rule.check_folder is not None and settings.trainer in rule.trainers:
            yield from ((code, name, detail) for name, detail in rule.check_folder(listing, settings))


def match_text(text: str, trainer: str) -> Iterator[tuple[str, str]]:
    """Yield (code, detail) for each violation of a text rule."""
    for code, rule in TRAINER_RULES.items():
        if rule.check_text is not None and trainer in rule.trainers and (detail := rule.check_text(text)) is not None:
            yield code, detail


ALL_RULES: Mapping[str, Rule] = {**GENERAL_RULES, **PAIR_RULES, **TRIGGER_RULES, **MEDIA_RULES, **TRAINER_RULES}
