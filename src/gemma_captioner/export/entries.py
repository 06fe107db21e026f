"""Checks that trainers require of entries. A failed check stops the export before a file gets its final name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..dataset.reader import CaptionedItem
from ..errors import ItemError, StartError
from ..storage.filesystem import NO_REGULAR_FILE, is_device, is_local
from ..text import encodable, parse_json, printable


def require_usable(entry: CaptionedItem, *, names_are_text: bool) -> None:
    """Check the files of one entry. Raises `ItemError` if the trainer could not read one.

    names_are_text: Whether the export writes the name into a file, which holds only UTF-8.
    """
    for path in (entry.item.path, *(source.path for source in entry.sources)):
        if is_local(path) and (is_device(path) or not path.exists()):
            why = NO_REGULAR_FILE if path.exists() else "it is a link to a file that does not exist: remove it"
            raise ItemError(why if path == entry.item.path else f"its source {printable(path)}: {why}")
    names = (entry.item.name, *(str(source.path) for source in entry.sources))
    if names_are_text and any(encodable(name) != name for name in names):
        which = "its name" if encodable(names[0]) != names[0] else "the name of its source"
        raise ItemError(f"{which} is not valid UTF-8, so the trainer could not read it in a file: rename it")


def path_inside(path: Path, folder: Path, remedy: str = "choose another --output") -> str:
    """Path of a media file within `folder`. Raises `StartError` if it is outside."""
    try:
        return path.relative_to(folder.absolute()).as_posix()
    except ValueError:
        raise StartError(f"{path} is not inside {folder}, as this trainer requires: {remedy}") from None


def require_one_kind(entries: Iterator[CaptionedItem]) -> Iterator[CaptionedItem]:
    kind = None
    for entry in entries:
        kind = kind or entry.item.kind
        if entry.item.kind != kind:
            raise StartError("images and clips are mixed, but this trainer reads one kind: select one with --include")
        yield entry


def distinct(entries: Iterator[CaptionedItem], key: Callable[[CaptionedItem], Any]) -> Iterator[CaptionedItem]:
    """Yield the entries. Raises `StartError` if two files have the same key, because the trainer would confuse them."""
    seen: dict[Any, Path] = {}
    for entry in entries:
        other = seen.setdefault(key(entry), entry.item.path)
        if other != entry.item.path:
            raise StartError(f"this trainer cannot tell {other} and {entry.item.path} apart: rename one")
        yield entry


def without_suffix(entry: CaptionedItem) -> Path:
    """Key of a file for trainers that replace its extension."""
    return entry.item.path.with_suffix("")


def require_one_line(entries: Iterator[CaptionedItem]) -> Iterator[CaptionedItem]:
    """Yield the entries. Raises `StartError` for a caption of several lines, of which the trainer reads only one."""
    for entry in entries:
        if any("\n" in caption for caption in entry.captions):
            raise StartError(
                f"{entry.item.caption_path}: the caption has several lines, but this trainer reads one: write JSON on "
                "one line (`gemma-captioner check --fix`); for MiniMax H3, choose a trainer that reads whole files"
            )
        yield entry


def require_json(entries: Iterator[CaptionedItem]) -> Iterator[CaptionedItem]:
    """Yield the entries. Raises `StartError` for a caption that is no JSON, which ends the trainer's run."""
    for entry in entries:
        try:
            parse_json(entry.captions[0])
        except ValueError:
            raise StartError(
                f"{entry.item.caption_path}: the caption is not JSON, which this trainer requires: caption it with "
                "--format fibo"
            ) from None
        yield entry


def beside_media(entries: Iterator[CaptionedItem], trainer: str) -> Iterator[CaptionedItem]:
    """Yield the entries. Raises `StartError` if a caption is not the `.txt` beside its media file."""
    for entry in entries:
        path, expected = entry.item.caption_path, entry.item.path.with_suffix(".txt")
        if path != expected:
            raise StartError(f"{trainer} reads {expected}, not {path}: set --output FOLDER to link the media there")
        yield entry
