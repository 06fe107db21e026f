"""The export of chosen files: a list of their names, and the place of the result."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..dataset.reader import CaptionedItem
from ..errors import StartError
from ..text import path_error
from ..types import Failed, MediaItem
from .formats import ExportFormat

FoundItem = CaptionedItem | MediaItem | Failed


def write_list(names: Iterable[str], path: Path) -> Path:
    """Write the names of files, as `read_list` reads them."""
    path.write_bytes(b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names))
    return path


def read_list(path: Path) -> frozenset[str]:
    """Return the names of a list: one per line, relative to the dataset, or separated by NUL as `find -print0` writes.

    Raises `StartError` if it cannot be read or is empty.
    """
    try:
        content = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise StartError(f"--files {path} cannot be read: {path_error(error)}") from error
    lines = content.split("\0") if "\0" in content else content.splitlines()
    lines[0:1] = [line.removeprefix("\ufeff") for line in lines[0:1]]  # the mark that editors on Windows write
    names = frozenset(name.removeprefix("./") for name in lines if name.strip())
    if not names:
        raise StartError(f"--files {path} is empty: write the names of the files into it, one per line")
    return names


class ListedFiles:
    """Selects the files of a list.

    Attributes:
        missing: The names of the list that no file had so far.
    """

    def __init__(self, names: Iterable[str] | None) -> None:
        """names: None for all files."""
        self._names = None if names is None else frozenset(names)
        self.missing = set(self._names or ())

    def select(self, found: Iterable[FoundItem]) -> Iterator[FoundItem]:
        """Yield what is about these files."""
        for one in found:
            self.missing.discard(_name(one))
            if self._names is None or _name(one) in self._names:
                yield one


def _name(one: FoundItem) -> str:
    return one.name if isinstance(one, MediaItem) else one.item.name


def path_for_selection(form: ExportFormat, folder: Path) -> Path:
    """Where the export of a part of the folder goes, beside that of the whole where the trainer allows it.

    # set, csv -> set-selection.csv      ai-toolkit -> set-selection      diffusion-pipe -> set/captions.json
    """
    path = form.default_path(folder)
    if path is None:
        return folder.with_name(f"{folder.name}-selection")
    if path.is_relative_to(folder):  # the trainer reads this name only
        return path
    return path.with_name(f"{path.stem}-selection{path.suffix}")
