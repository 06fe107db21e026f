"""What a caption format does: reads an answer, gives its prose to the rules, and writes the caption."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Content = TypeVar("Content")


class FormatError(Exception):
    """An answer that does not fit the format. The message tells the model, and the user, why."""


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """How an answer is read.

    Attributes:
        ascii_punctuation: Replace typographic punctuation.
        begin: The first words of the answer (--begin), which stay.
        duration_s: The duration of the clip, 0 for an image, None if unknown.
        keep_prose: Change no prose, because a person may have written it.
    """

    ascii_punctuation: bool = True
    begin: str = ""
    duration_s: float | None = None
    keep_prose: bool = False


DEFAULT_OPTIONS = ParseOptions()


class CaptionFormat(ABC, Generic[Content]):
    """Content: what is read from an answer, such as a text or an object.

    Attributes:
        is_one_line: Whether captions are one line. Trainers that read each line as a caption destroy others.
        keeps_partial: Whether a truncated answer still gives a caption.
    """

    name: str
    is_one_line = True
    keeps_partial = True

    @abstractmethod
    def parse(self, answer: str, options: ParseOptions = DEFAULT_OPTIONS) -> Content:
        """Read an answer, and repair it. Text that is quoted, spoken or shown on screen is kept as it is.

        Raises:
            FormatError: The answer does not fit.
        """

    def text_outside(self, text: str) -> str:
        """Return the text around the structured caption; "" if there is none."""
        return ""

    @abstractmethod
    def texts(self, content: Content) -> list[str]:
        """Return the prose of the caption, which the rules for prose judge."""

    @abstractmethod
    def add_affixes(self, content: Content, *, trigger: str = "", prefix: str = "", suffix: str = "") -> Content:
        """Add trigger, prefix and suffix to the text that the format names."""

    @abstractmethod
    def render(self, content: Content) -> str:
        """Return the caption as trainers read it."""

    def drop_unfinished_end(self, content: Content) -> Content:
        """Remove the unfinished end of a truncated answer."""
        return content

    def shorter_versions(self, content: Content) -> Iterator[Content]:
        """Yield shorter and shorter versions of the content, each without one more optional part."""
        yield from ()
