"""Which files are captioned or read, and where their captions lie."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from .group import LocalPath, SettingsGroup, StoragePath, StringTuple

Existing = Literal["skip", "overwrite", "stale"]

SHARD = r"^\d+/\d+$"
ONLY = r"^(failed|flagged(:(?P<flag>\w+))?)$"


class DiscoverySettings(SettingsGroup):
    """Which folders and files, and what their captions are called."""

    recursive: bool = Field(False, description="Walk into subfolders as well.")
    exclude: StringTuple = Field((), description="No files that match this glob. Repeatable.")
    name: Literal["stem", "full"] = Field("stem", description="Caption `a.png` in `a.txt`, or in `a.png.txt`.")


class SelectionSettings(DiscoverySettings):
    """Which files, and where their captions go."""

    include: StringTuple = Field((), description="Only files that match this glob, `*.png` or `day1/*`. Repeatable.")
    output: StoragePath | None = Field(
        None, description="Write the captions here, folders mirrored, instead of beside the media."
    )
    captions_to: Literal["txt", "parquet"] = Field(
        "txt",
        description="txt: a file each. parquet: rows of a few files in --output, where a million small ones would "
        "hurt; what has a row is done.",
    )
    existing: Existing = Field(
        "skip",
        description="What has a caption: skip it, overwrite it (`restore` brings it back), or redo what is stale: "
        "captioned by us with other settings or from other media since, and not edited by a person.",
    )
    only: str | None = Field(
        None,
        pattern=ONLY,
        description="failed: what failed before and has no caption still. flagged, flagged:NAME: caption those anew "
        "whose caption is ours and was flagged (`restore` brings it back).",
    )
    limit: int | None = Field(None, ge=0, description="Stop after this many files that need a caption.")
    shard: str | None = Field(
        None,
        pattern=SHARD,
        description="I/N, 1/8 to 8/8: one of N runs that share a folder, on as many machines. A file's name decides "
        "whose it is.",
    )

    @model_validator(mode="after")
    def _check_parquet_options(self) -> Self:
        if self.captions_to == "parquet":
            if self.output is None:
                raise ValueError("--captions-to parquet wants --output, where its files go")
            if self.existing != "skip" or self.only not in (None, "failed"):
                raise ValueError(
                    "--captions-to parquet captions what has no row: to caption files again, give another --output"
                )
        return self

    @field_validator("shard")
    @classmethod
    def _check_shard(cls, value: str | None) -> str | None:
        if value is not None:
            index, count = map(int, value.split("/"))
            if not 1 <= index <= count:
                raise ValueError(f"must be 1/{count} to {count}/{count}" if count else "wants N above 0")
        return value


class CaptionFileSettings(DiscoverySettings):
    """Which captions of a dataset are read."""

    captions: LocalPath | None = Field(None, description="The captions lie here, as `caption --output` wrote them.")
