"""Lists one folder: its files in natural order, its subfolders, and which captions are there. Opens no file."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..storage import filesystem
from ..storage.filesystem import is_local

IGNORED_NAMES = {"thumbs.db", "desktop.ini", "@eadir", "__macosx"}

FilenameNormalizer = Callable[[str], str]


def filename_normalizer(folder: Path) -> FilenameNormalizer:
    """Return a function that maps all names of the same file in this folder to one name.

    It ignores case if the file system does, as on most Macs and Windows machines. To find out, it looks up the first
    file with letters in its name, in the folder or above, by the name in the other case.
    """
    if not is_local(folder):
        return str
    for path in chain.from_iterable(map(_children, (folder, *folder.parents))):
        if path.name.isascii() and path.name.swapcase() != path.name:
            other = path.with_name(path.name.swapcase())
            with suppress(OSError):  # no file has the name in the other case
                return str.casefold if os.path.samestat(path.lstat(), other.lstat()) else str
            return str
    return str


def _children(folder: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (folder / entry.name for entry in entries)


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The content of a folder, in natural order."""

    joined_names: str  # file names, joined by `/`: takes a tenth of the memory of a list of 100,000 names
    folders: list[str]
    captions: set[str]  # normalized names of the captions that are not empty

    def files(self) -> Iterator[str]:
        return (name[0] for name in re.finditer("[^/]+", self.joined_names))

    @classmethod
    def of(cls, folder: Path, normalize: FilenameNormalizer) -> "FolderListing":
        if not is_local(folder):
            return cls._of_remote(folder)
        files, folders, captions = [], [], set()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name.lower() in IGNORED_NAMES:
                    continue
                try:
                    if entry.is_dir():
                        folders.append(name)
                    elif normalize(name).endswith(".txt"):
                        if entry.is_file() and entry.stat().st_size:  # an empty file does not count as a caption
                            captions.add(normalize(name))
                    elif entry.is_file() or entry.is_symlink():  # a broken link fails later, when it is opened
                        files.append(natural_sort_key(name))
                except OSError:  # a link to itself: it fails later, when it is opened
                    files.append(natural_sort_key(name))
        return cls._sorted(files, folders, captions)

    @classmethod
    def _of_remote(cls, folder: Path) -> "FolderListing":
        files, folders, captions = [], [], set()
        for name, is_folder, size in filesystem.list_directory(folder):
            if name.startswith(".") or name.lower() in IGNORED_NAMES:
                continue
            if is_folder:
                folders.append(name)
            elif not name.endswith(".txt"):
                files.append(natural_sort_key(name))
            elif size:
                captions.add(name)
        return cls._sorted(files, folders, captions)

    @classmethod
    def _sorted(cls, files: list[str], folders: list[str], captions: set[str]) -> "FolderListing":
        files.sort()
        return cls("/".join(key.rpartition("/")[2] for key in files), sorted(folders, key=natural_sort_key), captions)


def folder_identity(folder: Path) -> tuple[int, int] | str:
    """A value that is equal for all paths to the same folder."""
    if not is_local(folder):
        return str(folder)
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def captions_in(folder: Path, normalize: FilenameNormalizer) -> set[str]:
    """Return the normalized names of the captions in a folder, none if it does not exist. Raises `OSError`."""
    try:
        return FolderListing.of(folder, normalize).captions
    except FileNotFoundError:
        return set()


_DIGITS = re.compile(r"([0-9]+)")


def natural_sort_key(name: str) -> str:
    """Return a sort key for natural order: `a.png`, `a2.png`, `a10.png`. It ignores case, except to break ties.

    Files with the same stem are adjacent, whether case counts or not: they would share a caption.

    # a10.png -> "a", then \\0 and the number of digits (2), then "10": numbers sort by length, then by value
    """
    before, dot, extension = name.rpartition(".")
    stem = before if dot else extension
    folded = stem.casefold()
    return "\0\0".join((_DIGITS.sub(_by_length, folded), folded, stem, f"{extension.casefold()}/{name}"))


def _by_length(digits: re.Match[str]) -> str:
    number = digits[0].lstrip("0")
    return f"\0{chr(len(number))}{number}"
