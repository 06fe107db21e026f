"""Settings of `export`."""

from pydantic import Field

from ..config.group import LocalPath, StoragePaths
from ..config.selection import CaptionFileSettings, IncludeSettings, SelectionSettings


class ExportSettings(CaptionFileSettings, IncludeSettings):
    """Which files `export` reads, and where their captions and sources are."""

    control: StoragePaths = Field(
        (), description="For edits: also write the paths of the source images, which are in this folder. Repeatable."
    )

    files: LocalPath | None = Field(
        None,
        description="Export only the files that this text file names, one per line, relative to the dataset.",
    )

    @property
    def selection(self) -> SelectionSettings:
        """The same selection, for dataset discovery."""
        return SelectionSettings(recursive=self.recursive, include=self.include, exclude=self.exclude, name=self.name)
