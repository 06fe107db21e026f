"""Settings of `export`."""

from pydantic import Field

from ..config.group import StringTuple
from ..config.selection import CaptionFileSettings, SelectionSettings


class ExportSettings(CaptionFileSettings):
    """Which files `export` reads, and where their captions are."""

    include: StringTuple = Field(
        (), description="Use only files that match this glob, for example `*.png` or `day1/*`. Repeatable."
    )

    @property
    def selection(self) -> SelectionSettings:
        """The same selection, for dataset discovery."""
        return SelectionSettings(recursive=self.recursive, include=self.include, exclude=self.exclude, name=self.name)
