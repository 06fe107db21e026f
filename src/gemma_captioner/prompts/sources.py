"""Finds the source images of edited images in the folders of --control, by the naming rules of the trainers.

The sources of `day1/a.png` in a folder are `day1/a.*`, and `day1/a_0.*`, `day1/a_1.*` and so on, unless these names
belong to another target such as `day1/a_0.jpg`. Source: musubi-tuner, `dataset/datasources.py` at 30c658c.
"""

import filecmp
import glob
import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

from ..config.selection import DiscoverySettings, SelectionSettings
from ..dataset.discover import Discovery, Root, absolute_path, is_media
from ..errors import ItemError, UsageError
from ..storage.filesystem import is_local, list_directory
from ..text import counted, file_error
from ..types import Failed, Folder, Kind, MediaItem

_MAX_NAMES = 3
_NUMBERED = re.compile(r"(.+)_(\d+)")


class Sources:
    """The files of the control folders."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        """List the folders. Raises `UsageError` if one cannot be listed or has no media."""
        self.folders = tuple(map(absolute_path, folders))
        self._groups = list(map(_grouped, self.folders))
        self._target_stems: tuple[Path, set[str]] = Path(), set()  # cached for the latest folder

    def of(self, target: MediaItem) -> list[MediaItem]:
        """Return the sources of a target, in the order of the folders.

        Raises `ItemError` if a folder has none for it, two in the same place, or one of another kind.
        """
        sources: list[MediaItem] = []
        for folder, groups in zip(self.folders, self._groups, strict=True):
            found = self._of_folder(target, groups)
            if not found:
                stem = Path(_stem(target.name)).name
                raise ItemError(
                    f"has no source image in {folder}: add one named {stem}.*, or several named {stem}_0.*, {stem}_1.*"
                )
            sources += found
        if target.kind == "image" and (clips := [source for source in sources if source.kind == "clip"]):
            raise ItemError(f"its source {clips[0].path} is a clip: give an image, or a clip as the target")
        return sources

    def _of_folder(self, target: MediaItem, groups: dict[str, list[MediaItem]]) -> list[MediaItem]:
        stem = _stem(target.name)
        places: dict[int, MediaItem] = {}
        for source in groups.get(stem, ()):
            name = _stem(source.name)
            if name != stem and self._is_target(target.path.parent, Path(name).name):
                continue
            place = -1 if name == stem else int(name.rpartition("_")[2])
            if place in places:
                raise ItemError(
                    f"its sources {places[place].path} and {source.path} have the same name or number: remove one"
                )
            places[place] = source
        return [places[place] for place in sorted(places)]

    def _is_target(self, folder: Path, stem: str) -> bool:
        if self._target_stems[0] != folder:
            try:
                names = [name for name, _, _ in list_directory(folder)] if not is_local(folder) else _names_in(folder)
            except OSError:
                names = []
            self._target_stems = folder, {_stem(name) for name in names if is_media(name)}
        return stem in self._target_stems[1]

    def largest(self, kind: Kind) -> list[MediaItem]:
        """As many sources as any target of this kind has."""
        largest: list[MediaItem] = []
        for groups in self._groups:
            fitting = [g for g in groups.values() if kind == "clip" or all(item.kind == "image" for item in g)]
            most = max(fitting, key=lambda group: (sum(item.kind == "clip" for item in group), len(group)), default=[])
            largest += most
        return largest

    @property
    def files_per_item(self) -> int:
        """The most files that an item has, itself included."""
        return 1 + max(len(self.largest("image")), len(self.largest("clip")))

    def all(self) -> Iterator[MediaItem]:
        """All files of the folders, each once."""
        for groups in self._groups:
            yield from dict.fromkeys(item for group in groups.values() for item in group)


def identical_source(target: MediaItem, sources: Sequence[MediaItem]) -> MediaItem | None:
    """Return a source that is byte for byte equal to the target. Raises `OSError`. None in an object store."""
    for source in sources:
        if is_local(source.path) and is_local(target.path) and filecmp.cmp(source.path, target.path, shallow=False):
            return source
    return None


def _stem(name: str) -> str:
    """# day1/a.b.png -> day1/a.b"""
    return name.rpartition(".")[0]


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _grouped(folder: Path) -> dict[str, list[MediaItem]]:
    """Path without extension, with and without number -> its files, in natural order."""
    if is_local(folder) and not folder.is_dir():
        raise UsageError(f"--control {folder} is not a folder: give the folder of the source images")
    groups: dict[str, list[MediaItem]] = {}
    for one in Discovery([Root(folder, folder, folder)], SelectionSettings(recursive=True)):
        if isinstance(one.item, Folder):
            raise UsageError(f"--control {one.item.path}: {one.error if isinstance(one, Failed) else ''}")
        stem = _stem(one.item.name)
        numbered = _NUMBERED.fullmatch(stem)
        for key in {stem, numbered[1] if numbered else stem}:
            groups.setdefault(key, []).append(one.item)
    if not groups:
        raise UsageError(f"--control {folder} has no images or clips: give the folder of the source images")
    return groups


class EditPairs:
    """Finds problems of the edit pairs of a dataset. Call `add` for each target."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._used: set[MediaItem] = set()
        self._errors: dict[MediaItem, str] = {}
        self.identical: list[MediaItem] = []  # targets with the bytes of a source

    def add(self, target: MediaItem | Folder) -> list[MediaItem]:
        """Find the sources of a target, and return them."""
        sources: list[MediaItem] = []
        if not self._sources.folders or isinstance(target, Folder):
            return sources
        try:
            sources = self._sources.of(target)
            self._used.update(sources)
            if identical_source(target, sources):
                self.identical.append(target)
        except ItemError as error:
            self._errors[target] = str(error)
        except OSError as error:
            self._errors[target] = f"its source {error.filename} cannot be read ({file_error(error)}): replace it"
        return sources

    def error(self, target: MediaItem) -> str | None:
        """Why the sources of a target cannot be used."""
        return self._errors.get(target)

    def extra(self, *, recursive: bool) -> list[MediaItem]:
        """The sources that no target has. recursive: those in subfolders too. Call it once all targets were added."""
        unused = (source for source in self._sources.all() if source not in self._used)
        return [source for source in unused if recursive or "/" not in source.name]

    def notes(self, *, complete: bool, recursive: bool) -> Iterator[str]:
        """Lines for a person. complete: whether all targets were added."""
        if self.identical:
            names = ", ".join(item.name for item in self.identical[:_MAX_NAMES])
            yield f"{counted(len(self.identical), 'file')} identical to a source, so nothing changes: {names}"
        if complete and (extra := self.extra(recursive=recursive)):
            names = ", ".join(item.name for item in extra[:_MAX_NAMES])
            yield f"{counted(len(extra), 'source')} of no file, by name: {names}"


T = TypeVar("T", bound=DiscoverySettings)


def exclude_control(selection: T, roots: Sequence[Root], folders: Sequence[Path]) -> T:
    """Return the selection without the control folders inside the roots, whose files are no targets.

    Raises `UsageError` if a control folder is itself a root.
    """
    globs = []
    for root, folder in product(roots, map(absolute_path, folders)):
        if folder == root.folder and root.only is None:
            raise UsageError(f"--control {folder} is the folder to caption: give the folder of the source images")
        if folder != root.folder and folder.is_relative_to(root.folder):
            globs.append("/" + glob.escape(folder.relative_to(root.folder).as_posix()))
    return selection.model_copy(update={"exclude": (*selection.exclude, *globs)}) if globs else selection
