"""The `.txt` beside the media: written whole or not at all, and the only mark of "done"."""

import errno
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import CaptionerError, ItemError, StorageError
from ..storage import filesystem
from ..storage.atomic import atomic_write
from ..storage.filesystem import is_local

DOT_FOLDER = ".gemma-captioner"
_STALE_TEMP_AGE_S = 3600  # a temporary file lives for milliseconds; one of an hour ago is from a run that died


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def read(path: Path) -> bytes | None:
    """What stands in the file, None where there is none. Raises what `storage_error` says."""
    try:
        return filesystem.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, path) from error


class CaptionExistsError(Exception):
    """Somebody has written there in the meantime."""


def write(
    path: Path,
    content: bytes,
    store: Path,
    before_rename: Callable[[], None] = lambda: None,
    *,
    replace: bool = True,
) -> None:
    """Put `content` at `path` by a synced temporary file and a rename; `before_rename` runs between the two. Where
    there is no renaming, in an object store, it runs before the one atomic put.

    Without `replace`, only where no text stands: raises `CaptionExistsError` else. Raises what `storage_error` says.
    """

    def rename(temp_path: Path, to: Path) -> None:
        before_rename()
        if replace or not _link_unless_exists(temp_path, to):
            os.replace(temp_path, to)

    try:
        if not is_local(path):
            before_rename()
            try:
                filesystem.put(path, content, replace=replace)
            except FileExistsError:
                raise CaptionExistsError from None
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temp_path = _temporary_folder(path, store) / f"{os.getpid()}-{time.monotonic_ns()}"
        with atomic_write(path, temp_path, rename=rename), temp_path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise storage_error(error, path) from error


def remove(path: Path, before_removal: Callable[[], None] = lambda: None) -> None:
    """Take a caption away. Raises what `storage_error` says."""
    try:
        before_removal()
        path.unlink()
    except OSError as error:
        raise storage_error(error, path) from error


def _link_unless_exists(temporary: Path, path: Path) -> bool:
    """Give the file its name in one step that fails where there is one; False: it is the caller's to replace."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        if path.stat().st_size:
            raise CaptionExistsError from None
        return False
    except OSError:  # a file system without links
        if path.exists() and path.stat().st_size:
            raise CaptionExistsError from None
        return False


def fsync_parents(path: Path, store: Path) -> None:
    """That it is found after the power fails, which syncing the file alone does not promise."""
    folders = [folder for folder in path.parents if folder.is_relative_to(store)]
    with suppress(OSError):  # Windows syncs no folders
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _temporary_folder(path: Path, store: Path) -> Path:
    """On the file system of `path`, which a linked subfolder may not share with the store: a rename must not copy."""
    home = store if path.parent.stat().st_dev == _device(store) else path.parent
    folder = home / DOT_FOLDER / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _device(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.stat().st_dev


def prepare(store: Path) -> None:
    """See that captions can be written, before any time is spent on them, and remove what a killed run left.

    Raises `StorageError`.
    """
    try:
        write(store / DOT_FOLDER / "tmp" / "probe", b"", store)
    except CaptionerError as error:
        raise StorageError(str(error)) from error
    try:
        if not is_local(store):
            filesystem.remove(store / DOT_FOLDER / "tmp" / "probe")
            return
        for file in (store / DOT_FOLDER / "tmp").iterdir():
            if file.name == "probe" or time.time() - file.stat().st_mtime > _STALE_TEMP_AGE_S:
                file.unlink(missing_ok=True)
    except OSError:
        pass  # leftovers harm nobody


_REMEDIES: dict[int, tuple[type[CaptionerError], str]] = {
    errno.ENOSPC: (StorageError, "the disk is full: free some space and run again, what is finished is kept"),
    errno.EDQUOT: (StorageError, "the disk quota is used up: free some and run again, what is finished is kept"),
    errno.EROFS: (StorageError, "the file system is read-only: write elsewhere with --output"),
    errno.EACCES: (ItemError, "no permission to write: mend it with chmod, or write elsewhere with --output"),
    errno.EPERM: (ItemError, "no permission to write: mend it with chmod, or write elsewhere with --output"),
    errno.ENAMETOOLONG: (ItemError, "the name is too long for a caption file beside it: shorten it"),
    errno.ENOENT: (ItemError, "the folder is gone"),
    errno.ENOTDIR: (ItemError, "a file stands where a folder should be: rename it"),
    errno.EEXIST: (ItemError, "a file stands where a folder should be: rename it"),
    errno.EISDIR: (ItemError, "a folder stands where the caption should be: rename it"),
}


def storage_error(error: OSError, path: Path) -> CaptionerError:
    """`ItemError` where the fault is this path's own, `StorageError` where no other would fare better."""
    kind, remedy = _REMEDIES.get(
        error.errno or 0, (StorageError, f"cannot be read or written ({error.strerror or error})")
    )
    return kind(f"{path}: {remedy}")
