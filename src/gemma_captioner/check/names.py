"""Which captions have which of the names that --examples introduces."""

import re
from collections.abc import Sequence
from pathlib import Path

from ..captions.clean import whole_word
from ..errors import UsageError
from ..prompts.examples import read_examples


class NameOccurrences:
    """Counts captions by name. captions: name -> the paths of the captions that have it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises `UsageError` as `read_examples` does, and if the paths have no names."""
        names = read_examples(paths).names
        if paths and not names:
            raise UsageError(
                "--examples: no names to look for: give a folder of images without captions, named after whom or what "
                "they show"
            )
        self.captions: dict[str, list[str]] = {name: [] for name in names}
        self._patterns = {name: re.compile(whole_word(name), re.IGNORECASE) for name in names}

    def add(self, path: str, text: str) -> None:
        for name, pattern in self._patterns.items():
            if pattern.search(text):
                self.captions[name].append(path)

    @property
    def unused(self) -> list[str]:
        return [name for name, paths in self.captions.items() if not paths]
