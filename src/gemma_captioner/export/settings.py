"""What `export` is told: which files, and where their captions lie."""

from pydantic import Field

from ..config.group import Texts
from ..config.selection import Captions, Selection


class Exporting(Captions):
    """What is to be exported."""

    include: Texts = Field((), description="Only files that match this glob, `*.png` or `day1/*`. Repeatable.")

    @property
    def selection(self) -> Selection:
        """As whatever walks a dataset takes it."""
        return Selection(recursive=self.recursive, include=self.include, exclude=self.exclude, name=self.name)
