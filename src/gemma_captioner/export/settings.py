"""What `export` is told: which files, and where their captions lie."""

from pydantic import Field

from ..config.group import StringTuple
from ..config.selection import CaptionFileSettings, SelectionSettings


class ExportSettings(CaptionFileSettings):
    """What is to be exported."""

    include: StringTuple = Field(
        (), description="Use only files that match this glob, for example `*.png` or `day1/*`. Repeatable."
    )

    @property
    def selection(self) -> SelectionSettings:
        """As whatever walks a dataset takes it."""
        return SelectionSettings(recursive=self.recursive, include=self.include, exclude=self.exclude, name=self.name)
