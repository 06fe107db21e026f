"""Writes entries to a folder with links to the media, and a `.txt` beside each or a table of all."""

import filecmp
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..dataset.discover import is_media
from ..dataset.reader import CaptionedItem
from ..errors import StartError
from .entries import distinct, require_json, require_one_line, without_suffix
from .writers import whole_file, write_csv


def write_folder(
    entries: Iterator[CaptionedItem], to: Path, *, lines: bool = False, companions: Sequence[str] = ()
) -> Iterator[Path]:
    """Write the folder and yield its path.

    Args:
        lines: Write all captions, one per line, instead of only the first.
        companions: Also link files that are named after a media file: its stem and one of these endings.
    """
    entries = require_one_line(entries) if lines else entries
    links = [(entry, to / entry.item.name) for entry in distinct(entries, without_suffix)]
    _check_caption_collisions(links)
    for entry, media in links:
        _link_with_companions(entry.item.path, media, companions)
        with whole_file(media.with_suffix(".txt")) as file:
            file.write("\n".join(dict.fromkeys(entry.captions) if lines else entry.captions[:1]).encode())
    yield to


def write_fibo_folder(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
    """Write the folder, with the captions in its metadata.csv, and yield its path.

    FIBO calls `load_dataset` without a type. With as many `.txt` files as images, it would load texts.
    """
    links = [(entry, to / entry.item.name) for entry in require_json(entries)]
    _check_caption_collisions(links)
    _check_only_images(to, {media for _, media in links})
    for entry, media in links:
        _link_with_companions(entry.item.path, media)
    write_csv(({"file_name": entry.item.name, "caption": entry.captions[0]} for entry, _ in links), to / "metadata.csv")
    yield to


def _check_only_images(folder: Path, images: Collection[Path]) -> None:
    """Raises `StartError` if FIBO would find an image without a caption, or texts."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.suffix == ".txt" or (is_media(path.name) and path not in images):
            raise StartError(
                f"{path} is not of this export, and FIBO would read it: remove it, or choose another --output"
            )


def _link_with_companions(source: Path, media: Path, endings: Sequence[str] = ()) -> None:
    media.parent.mkdir(parents=True, exist_ok=True)
    for name in (media.name, *(f"{media.stem}{ending}" for ending in endings)):
        original, link = source.with_name(name), media.with_name(name)
        if not link.exists() and (original.exists() or name == media.name):
            link.unlink(missing_ok=True)  # remove a broken link
            link_file(original, link)


def _check_caption_collisions(links: Sequence[tuple[CaptionedItem, Path]]) -> None:
    """Raises `StartError` if another media file in the target folder would get the caption of an entry."""
    existing: dict[Path, list[Path]] = {}
    for folder in {media.parent for _, media in links}:
        for path in folder.iterdir() if folder.is_dir() else ():
            if is_media(path.name) and path.exists():
                existing.setdefault(path.with_suffix(""), []).append(path)
    for entry, media in links:
        for other in existing.get(media.with_suffix(""), ()):
            same = other.samefile(entry.item.path) or filecmp.cmp(other, entry.item.path, shallow=False)
            if other != media or not same:
                raise StartError(
                    f"{other} would get the caption of {entry.item.path}: remove it, or choose another --output"
                )


def link_file(media: Path, at: Path) -> None:
    for link in (os.symlink, os.link):
        try:
            link(media, at)
            return
        except OSError:
            continue  # not supported or not permitted here
    shutil.copy2(media, at)
