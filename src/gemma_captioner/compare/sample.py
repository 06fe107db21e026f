"""Which files a comparison is made on: spread over all there are, and the same each time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..config.selection import SelectionSettings
from ..dataset.discover import Discovery, Root
from ..errors import StartError
from ..text import printable
from ..types import Failed, Folder, MediaItem


def evenly_spaced(total: int, count: int) -> list[int]:
    """Places of `count` among `total`, each the middle of an equal span.

    # 60, 6 -> [5, 15, 25, 35, 45, 55]      4, 6 -> [0, 1, 2, 3]
    """
    count = min(total, count)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def select_sample(
    roots: list[Root], selection: SelectionSettings, count: int, log: Callable[[str], None]
) -> tuple[list[MediaItem], int]:
    """At most `count` files in their order, and how many there are. Captioned ones take part, as do those that would
    share a caption: nothing is written beside them.

    log: is given a line for each folder that cannot be listed. Raises `StartError` where there is no file at all.
    """
    total = sum(1 for _ in _items(roots, selection, log))
    if not total:
        where = ", ".join(str(root.folder) for root in roots)
        raise StartError(f"no images or clips in {where}: check the folder, --recursive, --include and --exclude")
    wanted = set(evenly_spaced(total, count))
    # Walked once more and not kept: a folder may hold a hundred thousand.
    return [item for i, item in enumerate(_items(roots, selection, lambda _: None)) if i in wanted], total


def names_of(items: Sequence[MediaItem]) -> list[str]:
    """Their names within the folders that were given; whole paths where two of those would be the same."""
    names = [item.name for item in items]
    return names if len(set(names)) == len(names) else [str(item.path) for item in items]


def _items(roots: list[Root], selection: SelectionSettings, log: Callable[[str], None]) -> Iterator[MediaItem]:
    for found in Discovery(roots, selection):
        if not isinstance(found.item, Folder):
            yield found.item
        elif isinstance(found, Failed):
            log(f"left out: {printable(found.item.path)}: {found.error}")


def page_path(roots: list[Root], run_id: str) -> Path:
    """Where a comparison's page goes unless told otherwise."""
    return roots[0].folder / ".gemma-captioner" / "compare" / f"{run_id}.html"
