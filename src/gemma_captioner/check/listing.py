"""Lists the media, captions and other names in each folder of a dataset, without opening files."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..config.targets import is_auxiliary
from ..dataset.containment import RESTORABLE_SUFFIXES
from ..dataset.discover import Root, is_media, matches
from ..dataset.listing import IGNORED_NAMES, natural_sort_key
from .settings import CheckSettings

Matches = Iterator[tuple[str, str]]  # (name in the folder, detail)
_CAPTION_EXTENSIONS = tuple(suffix[1:] for suffix in RESTORABLE_SUFFIXES)


@dataclass
class Listing:
    """Names in one folder, in natural order. relative_path: its path within the dataset, "" or "a/b/"."""

    folder: Path
    captions_folder: Path
    relative_path: str
    media: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # includes hidden files, which some trainers read
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # hidden folders
    empty_media: set[str] = field(default_factory=set)  # empty files and broken links
    error: str = ""  # why the folder could not be listed

    def similar_name(self, media: str) -> str:
        """A file that may be the caption of `media` under another name, or "".

        # a.png -> a.TXT, a.caption, a.json, a.png.txt
        """
        guesses = (f"{base}.{end}" for base in (_stem(media), media) for end in _CAPTION_EXTENSIONS)
        return next((self._texts[guess.lower()] for guess in guesses if guess.lower() in self._texts), "")

    def other_captions(self, media: str, extension: str) -> list[str]:
        """Captions of `media` with another extension than the one that is checked.

        # a.png -> a.caption, a.json
        """
        stem = _stem(media)
        names = (f"{stem}.{end}" for end in _CAPTION_EXTENSIONS if end != extension)
        return [self._texts[name.lower()] for name in names if name.lower() in self._texts]

    @cached_property
    def _texts(self) -> dict[str, str]:
        """Names that are not media, keyed by their lower-case form."""
        return {name.lower(): name for name in [*self.others, *self.captions]}


def walk_folders(root: Root, settings: CheckSettings) -> Iterator[Listing]:
    """Yield the folder, then its subfolders if `recursive`. Skips links to folders already visited."""
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        relative_path = pending.pop()
        listing = Listing(root.folder / relative_path, root.captions / relative_path, relative_path)
        try:
            at = listing.folder.stat()
            if (at.st_dev, at.st_ino) in visited:
                continue
            visited.add((at.st_dev, at.st_ino))
            _scan_folder(listing, settings)
        except OSError as error:
            listing.error = f"cannot list the folder ({error.strerror})"
        yield listing
        if settings.recursive:
            pending += [f"{relative_path}{name}/" for name in reversed(listing.folders)]


def _scan_folder(listing: Listing, settings: CheckSettings) -> None:
    is_separate = listing.captions_folder != listing.folder
    for entry in _entries(listing.folder, listing, settings):
        name, is_hidden = entry.name, entry.name.startswith(".")
        if _is_type(entry.is_dir):
            (listing.hidden if is_hidden else listing.folders).append(name)
        elif is_media(name) and not is_hidden:
            listing.media.append(name)
            if not _is_type(entry.is_file) or not entry.stat().st_size:
                listing.empty_media.add(name)
        elif not is_separate and _is_caption(entry, settings):
            listing.captions.append(name)
        else:
            listing.others.append(name)
    if is_separate and listing.captions_folder.is_dir():
        entries = _entries(listing.captions_folder, listing, settings)
        listing.captions += (entry.name for entry in entries if _is_caption(entry, settings))
    for names in (listing.media, listing.captions, listing.others, listing.folders):
        names.sort(key=natural_sort_key)


def _entries(folder: Path, listing: Listing, settings: CheckSettings) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = listing.relative_path + entry.name
            is_skipped = matches(path, settings.exclude) or is_auxiliary(path, settings.for_)
            if entry.name.lower() not in IGNORED_NAMES and not is_skipped:
                yield entry


def _is_type(kind: Callable[[], bool]) -> bool:
    """Like `kind()`, but False for a link loop."""
    try:
        return kind()
    except OSError:
        return False


def _is_caption(entry: "os.DirEntry[str]", settings: CheckSettings) -> bool:
    stem, dot, extension = entry.name.rpartition(".")
    return bool(stem and dot) and extension == settings.extension and stem[0] != "." and _is_type(entry.is_file)


def caption_name(media: str, settings: CheckSettings) -> str:
    """# a.png -> a.txt; with --name full: a.png.txt"""
    return f"{media if settings.name == 'full' else _stem(media)}.{settings.extension}"


def _stem(media: str) -> str:
    return media.rpartition(".")[0]
