"""A dataset's folders -> the names in each: media, captions, and what else lies there. Opens no file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..media.discover import DEBRIS, Root, is_media, matches, natural
from ..settings import Checking


@dataclass
class Listing:
    """Names in natural order. inside: the folder's path within the dataset, "" or "a/b/"."""

    folder: Path
    captions_folder: Path
    inside: str
    media: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # hidden files among them: some trainers try those as well
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # folders
    hollow: set[str] = field(default_factory=set)  # media of no bytes, or links to nothing
    error: str = ""  # why it could not be listed

    def nearly(self, media: str) -> str:
        """A file that may be the caption of `media` under another name, "" where there is none.

        # a.png -> a.TXT, a.caption, a.png.txt
        """
        guesses = (f"{base}.{end}" for base in (PurePosixPath(media).stem, media) for end in ("txt", "caption"))
        return next((self._texts[guess.lower()] for guess in guesses if guess.lower() in self._texts), "")

    @cached_property
    def _texts(self) -> dict[str, str]:
        """What is no media, by its name in lower case."""
        return {name.lower(): name for name in [*self.others, *self.captions]}


def listings(root: Root, checking: Checking) -> Iterator[Listing]:
    """The folder first, then its subfolders where they are asked for; a link to where we have been is not followed."""
    walked: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        listing = Listing(root.folder / inside, root.captions / inside, inside)
        try:
            at = listing.folder.stat()
            if (at.st_dev, at.st_ino) in walked:
                continue
            walked.add((at.st_dev, at.st_ino))
            _fill(listing, checking)
        except OSError as error:
            listing.error = f"the folder cannot be listed: {error.strerror}"
        yield listing
        if checking.recursive:
            waiting += [f"{inside}{name}/" for name in reversed(listing.folders)]


def _fill(listing: Listing, checking: Checking) -> None:
    apart = listing.captions_folder != listing.folder
    with os.scandir(listing.folder) as entries:
        for entry in entries:
            if entry.name.lower() in DEBRIS or matches(listing.inside + entry.name, checking.exclude):
                continue
            if entry.is_dir():
                (listing.hidden if entry.name.startswith(".") else listing.folders).append(entry.name)
            elif is_media(entry.name) and not entry.name.startswith("."):
                listing.media.append(entry.name)
                if not entry.is_file() or not entry.stat().st_size:
                    listing.hollow.add(entry.name)
            elif _is_caption(entry.name, checking) and not apart and entry.is_file():
                listing.captions.append(entry.name)
            else:
                listing.others.append(entry.name)
    if apart and listing.captions_folder.is_dir():
        with os.scandir(listing.captions_folder) as entries:
            listing.captions += [e.name for e in entries if _is_caption(e.name, checking) and e.is_file()]
    for names in (listing.media, listing.captions, listing.others, listing.folders):
        names.sort(key=natural)


def _is_caption(name: str, checking: Checking) -> bool:
    return (
        not name.startswith(".") and name.endswith(f".{checking.extension}") and len(name) > len(checking.extension) + 1
    )


def caption_name(media: str, checking: Checking) -> str:
    """# a.png -> a.txt, with --name full a.png.txt"""
    return f"{media if checking.name == 'full' else PurePosixPath(media).stem}.{checking.extension}"
