"""Finds media files in paths, one folder at a time, in a fixed order. Opens no media file.

For each item, the folder's listing shows whether its caption exists and whether another file shares that caption.
"""

import fnmatch
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePath

from ..config.selection import SelectionSettings
from ..errors import StartError
from ..storage import filesystem
from ..storage.filesystem import TarMember, expand_home, is_local
from ..text import file_error, path_error
from ..types import Failed, Folder, Kind, MediaItem
from .listing import (
    FilenameNormalizer,
    FolderListing,
    captions_in,
    filename_normalizer,
    folder_identity,
    natural_sort_key,
)

EXTENSIONS: dict[str, Kind] = {
    **dict.fromkeys(["jpg", "jpeg", "png", "bmp", "webp", "gif", "tif", "tiff", "avif", "heic", "heif"], "image"),
    **dict.fromkeys(["mp4", "mov", "mkv", "webm", "avi", "m4v", "mpg", "mpeg"], "clip"),
}

_NOT_INSIDE = "its name is not a path inside the tar: rename it and pack the tar again, or leave it out with --exclude"


@dataclass(frozen=True, slots=True)
class Root:
    """A folder or a tar to search."""

    folder: Path  # the folder, or the path of the tar
    captions: Path  # the folder of the captions: a folder under --output, or the folder itself
    store: Path  # the folder that holds `.gemma-captioner`: --output, or the folder itself
    only: frozenset[str] | None = None  # file names in the folder, if files were given and not the folder
    is_tar: bool = False


@dataclass(frozen=True, slots=True)
class DiscoveredItem:
    item: MediaItem
    captioned: bool


def resolve_roots(paths: Iterable[Path], output: Path | None) -> list[Root]:
    """Group the paths of the command line into folders to search. Files of one folder form one root.

    With --output, the captions of a single folder go directly into it. The captions of several folders, or of a tar, go
    into one subfolder each, named after the folder or tar.

    Raises:
        StartError: A path does not exist or is not a media file, or two roots would write into the same folder.
    """
    named: dict[Path, set[str] | None] = {}
    tars: set[Path] = set()
    for path in map(absolute_path, paths):
        try:
            is_folder, exists = filesystem.inspect(path)
        except OSError as error:
            raise StartError(f"{path} cannot be read: {path_error(error)}") from error
        if is_folder:
            named[path] = None
        elif path.suffix == ".tar" and exists:
            if output is None:
                raise StartError(f"{path}: captions cannot be written into a tar. Give a folder for them with --output")
            named[path] = None
            tars.add(path)
        elif path.suffix[1:].lower() not in EXTENSIONS:
            problem = "is not an image or a clip" if exists else "does not exist"
            raise StartError(f"{path} {problem}: give folders, or files of type {', '.join(EXTENSIONS)}")
        elif not exists:
            raise StartError(f"{path} does not exist: check the spelling")
        elif (files := named.setdefault(path.parent, set())) is not None:
            files.add(path.name)
    named = dict(sorted(named.items(), key=lambda entry: entry[1] is not None))  # whole folders first
    output = output and absolute_path(output)
    if output is not None and is_local(output) and output.is_file():
        raise StartError(f"--output {output} is a file: give a folder for the captions")
    repeated = [name for name, times in Counter(folder.name for folder in named).items() if times > 1]
    if output and repeated:
        raise StartError(
            f"several folders are named {repeated[0]!r}, so their captions would mix under --output: caption them in "
            "separate runs, each with its own --output"
        )
    roots = []
    for folder, files in named.items():
        is_single = len(named) == 1 and not tars
        captions = folder if output is None else output if is_single else output / folder.name
        only = None if files is None else frozenset(files)
        roots.append(Root(folder, captions, output or folder, only, folder in tars))
    return roots


def absolute_path(path: Path) -> Path:
    if not is_local(path):
        return path
    return Path(os.path.abspath(expand_home(path)))


@dataclass(frozen=True, slots=True)
class Collision(Failed):
    """An item that would share its caption with another file."""


@dataclass
class Discovery:
    """Iterate it for the media files of `roots`. `ignored` counts the other files so far.

    unsearched: the subfolders so far that only --recursive searches. num_unselected: the media files so far that
    --include leaves out.
    """

    roots: list[Root]
    selection: SelectionSettings
    ignored: int = 0
    num_unselected: int = 0
    unsearched: list[Path] = field(default_factory=list)
    _visited: set[tuple[int, int] | str] = field(default_factory=set)

    def __iter__(self) -> Iterator[DiscoveredItem | Failed]:
        self._visited.clear()
        for root in self.roots:
            yield from self._walk_tar(root) if root.is_tar else self._walk(root, "")

    @cached_property
    def _given(self) -> set[Path]:
        """The folders that were given as a whole."""
        return {root.folder for root in self.roots if root.only is None}

    def _walk(self, root: Root, inside: str) -> Iterator[DiscoveredItem | Failed]:
        """Files of the folder first, then its subfolders. `inside`: path within the root, "" or "a/b/"."""
        folder = root.folder / inside
        try:
            identity = folder_identity(folder)
            if identity in self._visited:  # a link to a folder that was visited, or a folder given twice
                return
            if root.only is None:
                self._visited.add(identity)
            normalize = filename_normalizer(root.captions / inside)
            listing = FolderListing.of(folder, normalize)
            captions = (
                listing.captions if root.captions == root.folder else captions_in(root.captions / inside, normalize)
            )
        except OSError as error:
            yield Failed(
                Folder(folder, inside or ".", root.store),
                f"the folder cannot be listed: {file_error(error)}. Fix its permissions, or skip it with --exclude",
            )
            return
        yield from self._items_of_folder(root, inside, listing.files(), captions, normalize, folder.joinpath)
        if root.only is None:
            self.ignored += sum(not is_media(name) for name in listing.files())
        if root.only is None:
            folders = [name for name in listing.folders if not self._excluded(inside + name)]
            if not self.selection.recursive:
                self.unsearched += (path for name in folders if (path := folder / name) not in self._given)
                return
            for name in folders:
                yield from self._walk(root, f"{inside}{name}/")

    def _walk_tar(self, root: Root) -> Iterator[DiscoveredItem | Failed]:
        """One folder of the tar after the other, each in natural order."""
        try:
            members = sorted(
                (member for member in filesystem.tar_members(root.folder) if not member.name.startswith(".")),
                key=lambda member: (member.inside, natural_sort_key(member.name)),
            )
        except OSError as error:
            message = f"the tar cannot be read ({file_error(error)}): copy or download it again"
            yield Failed(Folder(root.folder, root.folder.name, root.store), message)
            return
        for inside, group in groupby(members, key=lambda member: member.inside):
            by_name = {member.name: member for member in group}
            if _leads_out(inside):
                for member in filter(self._selects, by_name.values()):
                    yield Failed(Folder(member, inside + member.name, root.store), _NOT_INSIDE)
                continue
            normalize = filename_normalizer(root.captions / inside)
            captions = captions_in(root.captions / inside, normalize)
            yield from self._items_of_folder(root, inside, by_name, captions, normalize, by_name.__getitem__)
            self.ignored += sum(not is_media(name) for name in by_name)

    def _items_of_folder(
        self,
        root: Root,
        inside: str,
        names: Iterable[str],
        captions: set[str],
        normalize: FilenameNormalizer,
        path_of: Callable[[str], Path],
    ) -> Iterator[DiscoveredItem | Failed]:
        """The items of one folder. `names` are sorted; `captions` are the normalized names of the existing captions."""
        # Files outside --include and `only` count as sharing a caption: they may have one, and trainers read them.
        media = (name for name in names if is_media(name) and not self._excluded(inside + name))
        captions_folder = root.captions / inside
        only = root.only and {normalize(name) for name in root.only}
        # Files with the same stem are adjacent because the names are sorted.
        for normalized, group in groupby(media, key=lambda name: normalize(self._caption_name(name))):
            sharing = list(group)
            for name in sharing:
                if only is not None and normalize(name) not in only:
                    continue
                if self.selection.include and not matches(inside + name, self.selection.include):
                    self.num_unselected += 1
                    continue
                caption_name = self._caption_name(name)
                item = MediaItem(
                    path=path_of(name),
                    kind=EXTENSIONS[name.rpartition(".")[2].lower()],
                    name=inside + name,
                    caption_path=captions_folder / caption_name,
                    store=root.store,
                )
                if len(sharing) > 1:
                    others = ", ".join(other for other in sharing if other != name)
                    remedy = f"rename one, leave one out with --exclude, or use --name full, which writes {name}.txt"
                    yield Collision(item, f"would share {caption_name} with {others}: {remedy}")
                else:
                    yield DiscoveredItem(item, captioned=normalized in captions)

    def _selects(self, member: TarMember) -> bool:
        name, include = member.inside + member.name, self.selection.include
        return is_media(member.name) and not self._excluded(name) and (not include or matches(name, include))

    def _excluded(self, name: str) -> bool:
        return matches(name, self.selection.exclude)

    def _caption_name(self, name: str) -> str:
        is_full = self.selection.name == "full" or self.selection.captions_to == "parquet"
        return (name if is_full else name.rpartition(".")[0]) + ".txt"


def _leads_out(inside: str) -> bool:
    """Whether a folder of a tar, joined to another folder, lies outside it. A tar from somebody else may hold any name.

    # a/../b/, /etc/ and C:/ on Windows lead out; the file system accepts no NUL
    """
    path = PurePath(inside)
    return bool(path.anchor) or ".." in path.parts or "\0" in inside


def is_media(name: str) -> bool:
    stem, dot, extension = name.rpartition(".")
    return bool(stem and dot) and extension.lower() in EXTENSIONS


def is_clip(name: str) -> bool:
    return is_media(name) and EXTENSIONS[name.rpartition(".")[2].lower()] == "clip"


def matches(name: str, globs: Iterable[str]) -> bool:
    """Whether a path matches one of the globs, by the whole path or its last part. `/control` must be the whole path.

    # day1/a.PNG matches *.png, a.* and day1/*      day1/control matches control, not /control
    """
    name = name.lower()
    last = name.rstrip("/").rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(f"/{name}" if glob[:1] == "/" else name, glob.lower())
        or fnmatch.fnmatchcase(last, glob.lower())
        for glob in globs
    )
