"""Selects the files of a comparison: evenly spread over the folder, and the same in each run."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..config.selection import SelectionSettings
from ..dataset.discover import Discovery, Root
from ..errors import StartError
from ..text import printable
from ..types import Failed, Folder, MediaItem


def evenly_spaced(total: int, count: int) -> list[int]:
    """Return `count` indices below `total`, each in the middle of an equal span.

    # 60, 6 -> [5, 15, 25, 35, 45, 55]      4, 6 -> [0, 1, 2, 3]
    """
    count = min(total, count)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def select_sample(
    roots: list[Root], selection: SelectionSettings, count: int, log: Callable[[str], None]
) -> tuple[list[MediaItem], int]:
    """Return at most `count` files, in order, and the total number of files. Raises `StartError` if there are none.

    Captioned files and files that would share a caption are included, because nothing is written beside them.
    log: receives a message for each folder that cannot be listed.
    """
    total = sum(1 for _ in _items(roots, selection, log))
    if not total:
        where = ", ".join(str(root.folder) for root in roots)
        raise StartError(f"no images or clips in {where}: check the folder, --recursive, --include and --exclude")
    indices = set(evenly_spaced(total, count))
    # A second walk instead of a list: a folder may hold 100,000 files.
    return [item for i, item in enumerate(_items(roots, selection, lambda _: None)) if i in indices], total


def names_of(items: Sequence[MediaItem]) -> list[str]:
    """Return the names relative to the given folders, or whole paths if two names are the same."""
    names = [item.name for item in items]
    return names if len(set(names)) == len(names) else [str(item.path) for item in items]


def _items(roots: list[Root], selection: SelectionSettings, log: Callable[[str], None]) -> Iterator[MediaItem]:
    for found in Discovery(roots, selection):
        if not isinstance(found.item, Folder):
            yield found.item
        elif isinstance(found, Failed):
            log(f"skipped {printable(found.item.path)}: {found.error}")


def page_path(roots: list[Root], run_id: str) -> Path:
    """The default path of the HTML page."""
    return roots[0].folder / ".gemma-captioner" / "compare" / f"{run_id}.html"
