"""Media that a person took out of the dataset: `.gemma-captioner/trash/<run-id>/<name>.deleted`.

Some trainers look for media in any folder, hidden ones too: nothing there has a name that they would take.
"""

import os
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

from ..errors import ItemError
from ..types import MediaItem
from .sidecar import DOT_FOLDER, storage_error


def trash_path(item: MediaItem, run_id: str) -> Path:
    """Where the item would go: within the folder that was given, or on another file system within its own."""
    top = Path(*item.path.parts[: -item.name.count("/") - 1])
    home = top if top.stat().st_dev == item.path.parent.stat().st_dev else item.path.parent
    names = (item.path.relative_to(home).as_posix() + (f".{n}" if n else "") for n in count())
    places = (home / DOT_FOLDER / "trash" / run_id / f"{name}.deleted" for name in names)
    return next(path for path in places if not os.path.lexists(path))


def move_fields(source: Path, target: Path, store: Path) -> dict[str, str]:
    """What the journal keeps of it: both paths from the store, so that the dataset may itself be moved."""
    return {"from": _relative_to_store(store, source), "to": _relative_to_store(store, target)}


def is_trash(place: str, *, of: str) -> bool:
    """Whether it is where a file of that name would go: a journal that came with somebody's dataset may say anything.

    # clips/.gemma-captioner/trash/RUN/day1/a.mp4.deleted, of clips/day1/a.mp4 -> yes
    """
    home, _, inside = f"/{place}".rpartition(f"/{DOT_FOLDER}/trash/")
    name, of = inside.partition("/")[2].removesuffix(".deleted"), f"/{of}"
    names = (name, re.sub(r"[.][0-9]+$", "", name))
    return ".." not in of[len(home) :].split("/") and of in [f"{home}/{one}" for one in names]


def _relative_to_store(store: Path, path: Path) -> str:
    return Path(os.path.relpath(path, store)).as_posix()


def move(source: Path, target: Path, before: Callable[[], None] = lambda: None) -> None:
    """Never over another file. Raises `ItemError` where one stands there, and what `storage_error` says."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            raise ItemError(f"another file is called {target.name} by now: rename it")
        if not os.path.lexists(source):
            raise ItemError("the file is gone")
        before()
        os.rename(source, target)
    except OSError as error:
        raise storage_error(error, target) from error
