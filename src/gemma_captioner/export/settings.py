"""Settings of `export`."""

from ..config.selection import CaptionFileSettings, IncludeSettings, SelectionSettings


class ExportSettings(CaptionFileSettings, IncludeSettings):
    """Which files `export` reads, and where their captions are."""

    @property
    def selection(self) -> SelectionSettings:
        """The same selection, for dataset discovery."""
        return SelectionSettings(recursive=self.recursive, include=self.include, exclude=self.exclude, name=self.name)
