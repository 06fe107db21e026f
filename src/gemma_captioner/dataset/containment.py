"""Keeps reads and writes inside a dataset that may come from somebody else, with links that lead elsewhere."""

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ..errors import ItemError, StartError
from ..storage.filesystem import is_local
from .discover import EXTENSIONS
from .sidecar import DOT_FOLDER

CAPTION_SUFFIXES = (".txt",)
RESTORABLE_SUFFIXES = (".txt", ".caption", ".json")  # of the captions that trainers read, which `check --fix` repairs
MEDIA_SUFFIXES = tuple(f".{extension}" for extension in EXTENSIONS)


def resolve_inside(path: Path, root: Path, suffixes: Collection[str] = (), *, is_folder: bool = False) -> Path:
    """Return the local `path` with all links resolved. The file need not exist.

    Raises `ItemError` if the target is outside `root`, has none of the `suffixes`, or is not a regular file (with
    `is_folder`: not a folder).
    """
    try:
        real = os.path.realpath(path)
        if not is_inside(real, _resolved(root)):
            raise ItemError("the link points outside the folder: replace it with the file itself")
        suffix = os.path.splitext(real)[1]
        if suffixes and suffix.lower() not in suffixes:
            raise ItemError(f"the link points to a file of another type ({suffix or 'no suffix'}): remove it")
        with suppress(FileNotFoundError):
            is_wanted = stat.S_ISDIR if is_folder else stat.S_ISREG
            if not is_wanted(os.stat(real).st_mode):
                raise ItemError(f"this is not a {'folder' if is_folder else 'regular file'}: remove it")
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, an invalid name
        reason = getattr(error, "strerror", None) or error
        raise ItemError(f"cannot resolve this path ({reason}): repair or remove it") from error
    return Path(real)


def is_inside(real: str, folder: str) -> bool:
    """Whether a resolved path is this resolved folder, or in it."""
    return os.path.join(real, "").startswith(os.path.join(folder, ""))


@lru_cache(16)
def _resolved(root: Path) -> str:
    """The folder with all links resolved. It stays that of the opened folder if a link replaces the folder."""
    return os.path.realpath(root)


def check_store_is_contained(store: Path) -> None:
    """Raise `StartError` if a link leads the tool's own files outside the folder. A downloaded dataset may contain one.

    With a link `reviews.jsonl -> ~/.profile`, for example, a shell would execute the file names of the dataset. Every
    command that writes into `.gemma-captioner` calls this first. It looks two levels deep: names below that are new. So
    are those of journals, and earlier ones may be links, as git-annex makes of all files.
    """
    if not is_local(store):
        return
    home = store / DOT_FOLDER
    _check_link(home, os.path.realpath(store))
    inside = os.path.realpath(home)
    for entry in _entries(home):
        _check_link(entry, inside)
        if entry.name != "runs":
            for below in _entries(entry):
                _check_link(below, inside)


def _check_link(path: Path | os.DirEntry[str], inside: str) -> None:
    """inside: the resolved folder that a link, or on Windows a junction, must not leave."""
    real, where = os.path.realpath(path), os.fspath(path)
    if os.path.islink(real):
        raise StartError(f"{where} is a link that leads to itself: remove it")
    if not is_inside(real, inside):
        raise StartError(
            f"{where} is a link that points outside {inside}: put what it leads to in its place, or remove it if you "
            "did not make it"
        )


def _entries(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError as error:
        if os.access(folder, os.X_OK):  # files in it can be opened by their name
            where = os.fspath(folder)
            raise StartError(f"{where} cannot be listed ({error.strerror}): change it with chmod u+r") from error
    except OSError:  # it does not exist, or it is a file
        pass
    return []
