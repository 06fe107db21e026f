"""The trash: media that a person removed from the dataset. `.gemma-captioner/trash/<run-id>/<name>.deleted`.

Some trainers search hidden folders too. The suffix `.deleted` keeps them from loading these files.
"""

import os
import re
from itertools import count
from pathlib import Path

from ..errors import ItemError
from ..types import MediaItem
from .sidecar import DOT_FOLDER, map_storage_errors


def trash_path(item: MediaItem, run_id: str) -> Path:
    """Return a free path in the trash for the item.

    The trash is in the given folder, or in the item's own folder if that is on another file system.
    """
    top = Path(*item.path.parts[: -item.name.count("/") - 1])
    parent = top if top.stat().st_dev == item.path.parent.stat().st_dev else item.path.parent
    names = (item.path.relative_to(parent).as_posix() + (f".{n}" if n else "") for n in count())
    paths = (parent / DOT_FOLDER / "trash" / run_id / f"{name}.deleted" for name in names)
    return next(path for path in paths if not os.path.lexists(path))


def move_fields(source: Path, target: Path, store: Path) -> dict[str, str]:
    """Return the journal fields of a move. The paths are relative to the store, so that the dataset can be moved."""
    return {"from": _relative_to_store(store, source), "to": _relative_to_store(store, target)}


def is_trash(path: str, *, of: str) -> bool:
    """Return whether `path` is a trash path of the file `of`. A journal from somebody else may name any path.

    # clips/.gemma-captioner/trash/RUN/day1/a.mp4.deleted, of clips/day1/a.mp4 -> yes
    """
    parent, separator, inside = f"/{path}".rpartition(f"/{DOT_FOLDER}/trash/")
    name, of = inside.partition("/")[2].removesuffix(".deleted"), f"/{of}"
    names = (name, re.sub(r"[.][0-9]+$", "", name))
    return bool(separator) and ".." not in of[len(parent) :].split("/") and of in [f"{parent}/{one}" for one in names]


def _relative_to_store(store: Path, path: Path) -> str:
    return Path(os.path.relpath(path, store)).as_posix()


def move(source: Path, target: Path) -> None:
    """Rename a file. Raises the errors of `check_move`."""
    with map_storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        check_move(source, target)
        os.rename(source, target)


def check_move(source: Path, target: Path) -> None:
    """Raises `ItemError` if `target` exists or `source` does not, and the errors of `storage_error`."""
    if os.path.lexists(target):
        raise ItemError(f"a file named {target.name} already exists: rename that file")
    if not os.path.lexists(source):
        raise ItemError("the file no longer exists: refresh the page")
