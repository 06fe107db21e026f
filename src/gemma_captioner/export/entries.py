"""What trainers require of a dataset's entries, each found before a file that breaks it gets its name."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ..dataset.reader import CaptionedItem
from ..errors import StartError


def path_inside(entry: CaptionedItem, folder: Path) -> str:
    """Its media's path within `folder`. Raises `StartError` where it lies elsewhere."""
    try:
        return entry.item.path.relative_to(folder.absolute()).as_posix()
    except ValueError:
        raise StartError(
            f"{entry.item.path} is not inside {folder}, which this trainer asks for: move --output"
        ) from None


def require_one_kind(entries: Iterator[CaptionedItem]) -> Iterator[CaptionedItem]:
    first = next(entries, None)
    if first is None:
        return
    for entry in chain([first], entries):
        if entry.item.kind != first.item.kind:
            raise StartError("images and clips are mixed, and this trainer takes one kind: --include '*.mp4', say")
        yield entry


def distinct(entries: Iterator[CaptionedItem], key: Callable[[CaptionedItem], Any]) -> Iterator[CaptionedItem]:
    """Raises `StartError` for two files of one key: this trainer would take them for one."""
    info: dict[Any, Path] = {}
    for entry in entries:
        other = info.setdefault(key(entry), entry.item.path)
        if other != entry.item.path:
            raise StartError(f"{other} and {entry.item.path} would be taken for one by this trainer: rename one")
        yield entry


def without_suffix(entry: CaptionedItem) -> Path:
    """What tells a file from others to a trainer that puts an ending of its own there."""
    return entry.item.path.with_suffix("")


def beside_media(entries: Iterator[CaptionedItem], trainer: str) -> Iterator[CaptionedItem]:
    """Raises `StartError` for a caption that is not where a trainer looks that reads `.txt`."""
    for entry in entries:
        at, wanted = entry.item.caption_path, entry.item.path.with_suffix(".txt")
        if at != wanted:
            raise StartError(f"{trainer} looks for {wanted}, not {at}: give --output FOLDER, where both will be")
        yield entry
