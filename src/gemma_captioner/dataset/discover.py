"""Paths -> media items, a folder at a time, in an order that never changes. Opens no media file.

Says of each item whether its caption exists and whether it shares one with another, from the folder's own listing.
"""

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path, PurePosixPath

from ..config.selection import SelectionSettings
from ..errors import StartError
from ..storage import filesystem
from ..storage.filesystem import is_local
from ..types import Failed, Folder, Kind, MediaItem

EXTENSIONS: dict[str, Kind] = {
    **dict.fromkeys(["jpg", "jpeg", "png", "bmp", "webp", "gif", "tif", "tiff", "avif", "heic", "heif"], "image"),
    **dict.fromkeys(["mp4", "mov", "mkv", "webm", "avi", "m4v", "mpg", "mpeg"], "clip"),
}
IGNORED_NAMES = {"thumbs.db", "desktop.ini", "@eadir", "__macosx"}


@dataclass(frozen=True, slots=True)
class Root:
    """A folder to walk, or a tar. `only`: the files in it that were named, where it is they that were given."""

    folder: Path
    captions: Path  # the folder's place under --output, else the folder itself
    store: Path  # what holds `.gemma-captioner`: --output itself, else the folder
    only: frozenset[str] | None = None
    is_tar: bool = False


@dataclass(frozen=True, slots=True)
class DiscoveredItem:
    item: MediaItem
    captioned: bool


def resolve_roots(paths: Iterable[Path], output: Path | None) -> list[Root]:
    """What was given on the command line, as folders to walk; files of one folder are walked together.

    Under --output one folder's captions lie at its top, those of several, and of any tar, in a folder each, named after
    theirs.
    Raises `StartError` for a path that does not exist or is no media file.
    """
    named: dict[Path, set[str] | None] = {}
    tars: set[Path] = set()
    for path in map(_absolute, paths):
        try:
            is_folder, is_there = filesystem.inspect(path)
        except OSError as error:
            raise StartError(f"{path}: {error}") from error
        if is_folder:
            named[path] = None
        elif path.suffix == ".tar" and is_there:
            if output is None:
                raise StartError(f"{path}: nothing is written into a tar: say where its captions go with --output")
            named[path] = None
            tars.add(path)
        elif path.suffix[1:].lower() not in EXTENSIONS:
            what = "is no image or clip" if is_there else "does not exist"
            raise StartError(f"{path} {what}: give folders, or files of type {', '.join(EXTENSIONS)}")
        elif not is_there:
            raise StartError(f"{path} does not exist: check the spelling")
        elif (files := named.setdefault(path.parent, set())) is not None:
            files.add(path.name)
    named = dict(sorted(named.items(), key=lambda entry: entry[1] is not None))  # whole folders first
    output = output and _absolute(output)
    twice = [name for name, times in Counter(f.name for f in named).items() if times > 1]
    if output and twice:
        raise StartError(
            f"several folders are called {twice[0]!r}, so their captions would mix under --output: run them one by one"
        )
    roots = []
    for folder, files in named.items():
        at_the_top = len(named) == 1 and not tars
        captions = folder if output is None else output if at_the_top else output / folder.name
        only = None if files is None else frozenset(files)
        roots.append(Root(folder, captions, output or folder, only, folder in tars))
    return roots


def _absolute(path: Path) -> Path:
    if not is_local(path):
        return path
    return Path(os.path.abspath(path.expanduser()))


@dataclass
class Discovery:
    """Iterate it for what `roots` hold; `ignored` counts the other files seen so far."""

    roots: list[Root]
    selection: SelectionSettings
    ignored: int = 0
    _visited: set[tuple[int, int] | str] = field(default_factory=set)

    def __iter__(self) -> Iterator[DiscoveredItem | Failed]:
        self._visited.clear()
        for root in self.roots:
            yield from self._walk_tar(root) if root.is_tar else self._walk(root, "")

    def _walk(self, root: Root, inside: str) -> Iterator[DiscoveredItem | Failed]:
        """Files of the folder first, then its subfolders. `inside`: path within the root, "" or "a/b/"."""
        folder = root.folder / inside
        try:
            at = _identity(folder)
            if at in self._visited:  # a link to where we have been, or given twice
                return
            if root.only is None:
                self._visited.add(at)
            normalize = filename_normalizer(root.captions / inside)
            listing = _Listing.of(folder, normalize)
            captions = (
                listing.captions if root.captions == root.folder else _captions_in(root.captions / inside, normalize)
            )
        except OSError as error:
            yield Failed(
                Folder(folder, inside or ".", root.store),
                f"the folder cannot be listed: {error.strerror or error}. Mend its permissions, or leave it out with "
                "--exclude",
            )
            return
        yield from self._items_of_folder(root, inside, listing.files(), captions, normalize, folder.joinpath)
        if root.only is None:
            self.ignored += sum(not is_media(name) for name in listing.files())
        if self.selection.recursive and root.only is None:
            for name in listing.folders:
                if not self._excluded(inside + name):
                    yield from self._walk(root, f"{inside}{name}/")

    def _walk_tar(self, root: Root) -> Iterator[DiscoveredItem | Failed]:
        """The tar's folders, one after the other, each in natural order."""
        try:
            members = sorted(
                (member for member in filesystem.tar_members(root.folder) if not member.name.startswith(".")),
                key=lambda member: (member.inside, natural_sort_key(member.name)),
            )
        except OSError as error:
            what = f"the tar cannot be read ({error}): copy or download it again"
            yield Failed(Folder(root.folder, root.folder.name, root.store), what)
            return
        for inside, together in groupby(members, key=lambda member: member.inside):
            here = {member.name: member for member in together}
            normalize = filename_normalizer(root.captions / inside)
            captions = _captions_in(root.captions / inside, normalize)
            yield from self._items_of_folder(root, inside, here, captions, normalize, here.__getitem__)
            self.ignored += sum(not is_media(name) for name in here)

    def _items_of_folder(
        self,
        root: Root,
        inside: str,
        names: Iterable[str],
        captions: set[str],
        normalize: "FilenameNormalizer",
        path_of: Callable[[str], Path],
    ) -> Iterator[DiscoveredItem | Failed]:
        """Of one folder, whose `names` are sorted. captions: those that are there, folded."""
        # What is not asked for now may have been captioned before, or a trainer will read it: it counts as sharing.
        media = (name for name in names if is_media(name) and not self._excluded(inside + name))
        only = root.only and {normalize(name) for name in root.only}
        # Of one stem: neighbours, once sorted.
        for folded, sharing in groupby(media, key=lambda name: normalize(self._caption_name(name))):
            together = list(sharing)
            for name in together:
                if (only is not None and normalize(name) not in only) or not self._included(inside + name):
                    continue
                caption_name = self._caption_name(name)
                item = MediaItem(
                    path=path_of(name),
                    kind=EXTENSIONS[name.rpartition(".")[2].lower()],
                    name=inside + name,
                    caption_path=root.captions / inside / caption_name,
                    store=root.store,
                )
                if len(together) > 1:
                    others = ", ".join(other for other in together if other != name)
                    yield Failed(item, f"would share {caption_name} with {others}: rename one, or use --name full")
                else:
                    yield DiscoveredItem(item, captioned=folded in captions)

    def _included(self, name: str) -> bool:
        return not self.selection.include or matches(name, self.selection.include)

    def _excluded(self, name: str) -> bool:
        return matches(name, self.selection.exclude)

    def _caption_name(self, name: str) -> str:
        is_full = self.selection.name == "full" or self.selection.captions_to == "parquet"
        return (name if is_full else name.rpartition(".")[0]) + ".txt"


FilenameNormalizer = Callable[[str], str]


def filename_normalizer(folder: Path) -> FilenameNormalizer:
    """What makes equal the names that are one file there: case is set aside on most Macs and Windows machines, and on
    many a card or server. Asked of the first thing found there or above with a name that case changes.
    """
    if not is_local(folder):
        return str
    for path in chain.from_iterable(map(_children, (folder, *folder.parents))):
        if path.name.isascii() and path.name.swapcase() != path.name:
            other = path.with_name(path.name.swapcase())
            with suppress(OSError):  # there is no other
                return str.casefold if os.path.samestat(path.lstat(), other.lstat()) else str
            return str
    return str


def _children(folder: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (folder / entry.name for entry in entries)


@dataclass(frozen=True, slots=True)
class _Listing:
    """A folder's content, in natural order."""

    joined_names: str  # file names, `/` between them: a tenth of what a list of 100,000 takes
    folders: list[str]
    captions: set[str]  # folded

    def files(self) -> Iterator[str]:
        return (name[0] for name in re.finditer("[^/]+", self.joined_names))

    @classmethod
    def of(cls, folder: Path, normalize: FilenameNormalizer) -> "_Listing":
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
                        if entry.is_file() and entry.stat().st_size:  # an empty file is no caption
                            captions.add(normalize(name))
                    elif entry.is_file() or entry.is_symlink():  # a broken link fails by its name, when it is opened
                        files.append(natural_sort_key(name))
                except OSError:  # a link to itself
                    files.append(natural_sort_key(name))
        return cls._sorted(files, folders, captions)

    @classmethod
    def _of_remote(cls, folder: Path) -> "_Listing":
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
    def _sorted(cls, files: list[str], folders: list[str], captions: set[str]) -> "_Listing":
        files.sort()
        return cls("/".join(key.rpartition("/")[2] for key in files), sorted(folders, key=natural_sort_key), captions)


def _identity(folder: Path) -> tuple[int, int] | str:
    """The same for one folder, however it was reached."""
    if not is_local(folder):
        return str(folder)
    at = folder.stat()
    return at.st_dev, at.st_ino


def _captions_in(folder: Path, normalize: FilenameNormalizer) -> set[str]:
    try:
        return _Listing.of(folder, normalize).captions
    except FileNotFoundError:
        return set()


def is_media(name: str) -> bool:
    stem, dot, extension = name.rpartition(".")
    return bool(stem and dot) and extension.lower() in EXTENSIONS


_DIGITS = re.compile(r"([0-9]+)")


def natural_sort_key(name: str) -> str:
    """Sort key: `a.png` before `a2.png` before `a10.png`, case set aside, the name itself to decide between equals.

    # a10.png -> "a", how long the number is, "10": a number stands before letters, a shorter one before a longer one
    """
    stem, dot, extension = name.rpartition(".")
    return f"{_DIGITS.sub(_by_length, (stem if dot else extension).casefold())}\0\0{name.casefold()}/{name}"


def _by_length(digits: re.Match[str]) -> str:
    number = digits[0].lstrip("0")
    return f"\0{chr(len(number))}{number}"


def matches(name: str, globs: Iterable[str]) -> bool:
    """`day1/a.PNG` matches `*.png`, `a.*` and `day1/*`."""
    name = name.lower()
    return any(
        fnmatch.fnmatchcase(name, glob.lower()) or fnmatch.fnmatchcase(PurePosixPath(name).name, glob.lower())
        for glob in globs
    )
