"""Keeps reads and writes inside a dataset that may come from somebody else, with links that lead elsewhere."""

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ..errors import ItemError, StartError
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
        if not os.path.join(real, "").startswith(_prefix_inside(root)):
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


@lru_cache(16)
def _prefix_inside(root: Path) -> str:
    """What the resolved paths inside begin with. It stays that of the opened folder if a link replaces the folder."""
    return os.path.join(os.path.realpath(root), "")


def check_store_is_contained(store: Path) -> None:
    """Raise `StartError` if a link leads the tool's own files outside the folder. A downloaded dataset may contain one.

    With a link `reviews.jsonl -> ~/.profile`, for example, a shell would execute the file names of the dataset.
    """
    home = store / DOT_FOLDER
    for path in (home, *(home / name for name in ("runs", "tmp", "trash", "proposals", "setups", "reviews.jsonl"))):
        if not path.resolve().is_relative_to(store.resolve()):
            raise StartError(f"{path} is a link that points outside the folder: remove it")
