"""Entries -> a folder of media, linked, and a `.txt` beside each, as some trainers find it whatever ours is called."""

import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..dataset.discover import is_media
from ..dataset.reader import CaptionedItem
from ..errors import StartError
from .entries import distinct, without_suffix
from .writers import whole_file


def write_folder(entries: Iterator[CaptionedItem], to: Path, *, lines: bool = False) -> Iterator[Path]:
    """lines: all captions, one a line, and not the first alone."""
    links = [(entry, to / entry.item.name) for entry in distinct(entries, without_suffix)]
    _check_caption_collisions(links)
    for entry, media in links:
        media.parent.mkdir(parents=True, exist_ok=True)
        if not media.exists():
            media.unlink(missing_ok=True)  # a link to where the dataset was
            _link(entry.item.path, media)
        with whole_file(media.with_suffix(".txt")) as file:
            file.write("\n".join(dict.fromkeys(entry.captions) if lines else entry.captions[:1]).encode())
    yield to


def _check_caption_collisions(links: Sequence[tuple[CaptionedItem, Path]]) -> None:
    """Raises `StartError` where other media than an entry's lies where its caption would be taken for theirs."""
    there: dict[Path, list[Path]] = {}
    for folder in {media.parent for _, media in links}:
        for path in folder.iterdir() if folder.is_dir() else ():
            if is_media(path.name) and path.exists():
                there.setdefault(path.with_suffix(""), []).append(path)
    for entry, media in links:
        for other in there.get(media.with_suffix(""), ()):
            same = other.samefile(entry.item.path) or filecmp.cmp(other, entry.item.path, shallow=False)
            if other != media or not same:
                raise StartError(
                    f"{other} is not {entry.item.path}, and would have its caption: remove it, or name another --output"
                )


def _link(media: Path, at: Path) -> None:
    for link in (os.symlink, os.link):
        try:
            link(media, at)
            return
        except OSError:
            continue  # a file system, or a Windows, that does not allow it
    shutil.copy2(media, at)
