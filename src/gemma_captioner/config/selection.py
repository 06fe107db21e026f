"""Settings that select files and place their captions."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from ..storage.filesystem import expand_home
from ..text import suggest
from .group import LocalPath, SettingsGroup, StoragePath, StringTuple

Existing = Literal["skip", "overwrite", "stale"]

SHARD = r"^\d+/\d+$"
# The flags that a stored caption can carry, and what each means.
FLAGS: Mapping[str, str] = {
    "truncated": "the answer reached `--max-new-tokens`; the caption ends at the last complete sentence",
    "lost_characters": "U+FFFD stands in place of characters that the tokenizer or the server lost",
    "not_in_language": "the caption, or half of it, is not in `--language`",
    "absent_things": "the caption mentions absent things, which a text encoder treats as present",
    "too_short": "fewer than three words, or than three characters in a script without spaces",
    "too_long": "more tokens than the text encoder of `--target` reads",
    "shortened": "optional parts of a structured caption were left out, so that the text encoder reads the rest",
    "fewer_frames": "the server refused the clip as too large and received fewer frames (`--shrink`)",
    "partial_video": "the file is truncated; at least half of the wanted frames were readable",
    "too_short_for_trainer": "the clip has fewer frames than the trainer of `--for` keeps (`--train-frames`)",
    "partial_image": "the file is truncated; at least half of the rows were readable",
    "broken_metadata": "EXIF, an ICC profile or other metadata was unreadable and was ignored",
    "no_audio": "the run sends sound, but the clip has no audio track, or one that cannot be decoded",
    "silent": "the run sends sound, but that of the clip stays below -60 dBFS",
    "partial_audio": "the audio track is damaged or too short, or longer than the model hears",
    "sound_missing": "the model heard the clip, but the caption mentions no sound",
    "sound_invented": "the caption mentions sound, but the clip has no audio track or a silent one",
    "speech_mismatch": "the caption quotes words that are not in the transcript (`--transcripts`)",
}
ONLY = r"^(failed|flagged(:(?P<flag>\w+))?)$"


class DiscoverySettings(SettingsGroup):
    """Which folders and files, and what their captions are called."""

    recursive: bool = Field(False, description="Include subfolders.")
    exclude: StringTuple = Field(
        (), description="Skip files that match this glob, for example `*-mask.png`. Repeatable."
    )
    name: Literal["stem", "full"] = Field(
        "stem", description="stem: the caption of `a.png` is `a.txt`. full: it is `a.png.txt`."
    )


class IncludeSettings(DiscoverySettings):
    """Which of the files are used, too."""

    include: StringTuple = Field(
        (), description="Use only files that match this glob, for example `*.png` or `day1/*`. Repeatable."
    )

    @field_validator("include")
    @classmethod
    def _check_include(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for glob in value:
            if not re.search(r"[^.].*\.|[*?\[]", glob):  # a media file's name has a dot
                name = glob.strip("./")
                raise ValueError(f"no file matches {glob}: give *.{name} for the type, or {name}/* for the folder")
        return value


class SelectionSettings(IncludeSettings):
    """Which files, and where their captions go."""

    output: StoragePath | None = Field(
        None, description="Write the captions into this folder, with the same subfolders. [default: beside the media]"
    )
    captions_to: Literal["txt", "parquet"] = Field(
        "txt",
        description="txt: write one file per caption. parquet: write captions as rows of Parquet files "
        "into --output, for millions of files.",
    )
    existing: Existing = Field(
        "skip",
        description="What to do with files that have a caption. overwrite: replace it; `restore` undoes this. "
        "stale: replace it if the settings or the media changed since and nobody edited it.",
    )
    only: str | None = Field(
        None,
        pattern=ONLY,
        description="failed: files that failed in an earlier run. flagged: files whose caption has a flag, or with "
        "flagged:NAME this flag, such as flagged:too_long; replaces their captions, and `restore` undoes it.",
    )
    limit: int | None = Field(
        None, ge=0, description="Stop after this many files. Files that have a caption already do not count."
    )
    shard: str | None = Field(
        None,
        pattern=SHARD,
        description="Caption only part I of N of the files, for example 1/8, so that N machines can share a folder.",
    )

    @model_validator(mode="after")
    def _check_parquet_options(self) -> Self:
        if self.captions_to == "parquet":
            if self.output is None:
                raise ValueError("--captions-to parquet requires --output: give the folder for its files")
            if self.existing != "skip" or self.only not in (None, "failed"):
                raise ValueError(
                    "--captions-to parquet cannot replace captions: leave out --existing and --only, or choose another "
                    "--output"
                )
        return self

    @field_validator("only")
    @classmethod
    def _check_flag(cls, value: str | None) -> str | None:
        flag = (value or "").partition(":")[2]
        if flag and flag not in FLAGS:
            raise ValueError(f"unknown flag. {suggest(flag, FLAGS)}")
        return value

    @field_validator("shard")
    @classmethod
    def _check_shard(cls, value: str | None) -> str | None:
        if value is not None:
            index, count = map(int, value.split("/"))
            if not 1 <= index <= count:
                raise ValueError(
                    f"give 1/{count} to {count}/{count}" if count else "give a number above 0 after the slash"
                )
        return value


class CaptionFileSettings(DiscoverySettings):
    """Which captions of a dataset are read."""

    captions: LocalPath | None = Field(
        None,
        description="Read the captions from this folder, where `caption --output` wrote them. [default: beside "
        "the media]",
    )

    @field_validator("captions")
    @classmethod
    def _check_captions(cls, value: Path | None) -> Path | None:
        if value is not None and not expand_home(value).is_dir():
            raise ValueError("there is no such folder: caption first, or give the one that `caption --output` wrote")
        return value
