"""The caption file, a `.txt` beside the media. Each write is atomic. An item is done when this file has text."""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import EllipsisType

from ..errors import CaptionerError, ItemError, StorageError
from ..storage import filesystem
from ..storage.filesystem import is_local
from ..types import MediaItem

DOT_FOLDER = ".gemma-captioner"
_STALE_TEMP_AGE_S = 3600  # a temporary file exists for milliseconds; an older one is from a killed run


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def read(path: Path) -> bytes | None:
    """Return the content of the file, or None if it does not exist. Raises the errors of `storage_error`."""
    with map_storage_errors(path), suppress(FileNotFoundError):
        if is_local(path) and filesystem.is_device(path):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return filesystem.read(path)
    return None


_CHANGED = "another program changed this caption meanwhile, so it was not replaced: run the same command again"


class CaptionExistsError(ItemError):
    """A caption exists where `write` must not replace one."""


def write(
    path: Path,
    content: bytes,
    store: Path,
    before_rename: Callable[[], None] = lambda: None,
    *,
    expected: bytes | EllipsisType | None = ...,
) -> None:
    """Write `content` to a temporary file, sync it, and rename it to `path`.

    Args:
        store: The folder that holds `.gemma-captioner` with the temporary file.
        before_rename: Runs before the rename, or before the one atomic write to an object store.
        expected: The content that the caller has read and may replace, read again just before the rename. None or b""
            stands for no caption; an empty file is replaced. By default, anything is replaced.

    Raises:
        CaptionExistsError: A caption exists and none is expected.
        ItemError: The content is not the expected one.
        CaptionerError: The errors of `storage_error`.
    """
    if not is_local(path):
        with map_storage_errors(path):
            before_rename()
            _require_unchanged(path, expected)
            try:
                filesystem.put(path, content, replace=bool(expected))
            except FileExistsError:
                raise CaptionExistsError(f"{path}: {_CHANGED}") from None
        return
    with staged(path, content, store) as caption:
        caption.sync()
        before_rename()
        _require_unchanged(path, expected)
        caption.rename(replace=bool(expected))


def _require_unchanged(path: Path, expected: bytes | EllipsisType | None) -> None:
    if isinstance(expected, bytes) and expected and read(path) != expected:
        raise ItemError(f"{path}: {_CHANGED}")


@dataclass(frozen=True, slots=True)
class StagedCaption:
    """A caption for `path` in the temporary file `temp_path`. All methods raise `OSError`."""

    path: Path
    temp_path: Path

    def sync(self) -> None:
        with self.temp_path.open("rb+") as file:
            os.fsync(file.fileno())

    def rename(self, *, replace: bool) -> None:
        """Move it to its path. Raises `CaptionExistsError` if a caption exists and `replace` is false."""
        if not replace and _link_unless_exists(self.temp_path, self.path):
            self.temp_path.unlink()
        else:
            os.replace(self.temp_path, self.path)


@contextmanager
def staged(path: Path, content: bytes, store: Path) -> Iterator[StagedCaption]:
    """Write a local caption to a temporary file, which the block renames. If the block raises, the file is removed.

    Several staged captions can share one sync of the disk. Raises the errors of `storage_error`, also for the block.
    """
    with map_storage_errors(path):
        name = f"{os.getpid()}-{time.monotonic_ns()}-{next(_staged_count)}"  # Windows' clock ticks 64 times a second
        try:
            temp_path = _write_new(_known_folders[path.parent, store] / name, content)
        except (KeyError, FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if len(_known_folders) >= _MAX_KNOWN_FOLDERS:
                _known_folders.clear()
            folder = _known_folders[path.parent, store] = _temporary_folder(path, store)
            temp_path = _write_new(folder / name, content)
        try:
            yield StagedCaption(path, temp_path)
        except BaseException:
            with suppress(OSError):
                temp_path.unlink(missing_ok=True)
            raise


_known_folders: dict[tuple[Path, Path], Path] = {}  # (folder of the caption, store) -> folder of its temporary files
_MAX_KNOWN_FOLDERS = 1024
_staged_count = count()


def _write_new(path: Path, content: bytes) -> Path:
    file = path.open("xb")
    try:
        with file:
            file.write(content)
    except BaseException:  # a full disk would leave part of it
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise
    return path


def remove(path: Path, before_removal: Callable[[], None] = lambda: None) -> None:
    """Remove a caption; `before_removal` runs first. Raises the errors of `storage_error`."""
    with map_storage_errors(path):
        before_removal()
        path.unlink()


def redirect(item: MediaItem, path: Path, store: Path) -> MediaItem:
    """Return the item with its caption at `path`, where its present caption is copied for `{existing}`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(ItemError):
        path.write_bytes(read(item.caption_path) or b"")
    return replace(item, caption_path=path, store=store)


def _link_unless_exists(temp_path: Path, path: Path) -> bool:
    """Link the file to `path` atomically. Returns False if the caller must rename it instead."""
    try:
        os.link(temp_path, path)
        return True
    except FileExistsError:
        if path.stat().st_size:
            raise CaptionExistsError(f"{path}: {_CHANGED}") from None
        return False
    except OSError:  # the file system does not support links
        if path.exists() and path.stat().st_size:
            raise CaptionExistsError(f"{path}: {_CHANGED}") from None
        return False


def fsync_parents(path: Path, store: Path) -> None:
    """Sync the folders from `path` up to the store. Otherwise a power failure may lose the name of a synced file."""
    folders = [folder for folder in path.parents if folder.is_relative_to(store)]
    with suppress(OSError):  # Windows cannot sync folders
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _temporary_folder(path: Path, store: Path) -> Path:
    """A folder on the file system of `path`, as a rename requires: a linked subfolder may be on another one."""
    parent = store if path.parent.stat().st_dev == _device(store) else path.parent
    folder = parent / DOT_FOLDER / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _device(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.stat().st_dev


def prepare(store: Path) -> None:
    """Check that captions can be written, and remove temporary files of killed runs. Raises `StorageError`."""
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
        pass  # remaining temporary files do no harm


_NO_PERMISSION = "no permission to read or write it: change it with chmod, or write to another folder with --output"
_FILE_BLOCKS_FOLDER = "a part of this path is a file, not a folder: rename that file"
_PROBLEMS: dict[int, tuple[type[CaptionerError], str]] = {
    errno.ENOSPC: (StorageError, "the disk is full: free space and run again. All finished captions are kept"),
    errno.EDQUOT: (StorageError, "the disk quota is used up: free space and run again. All finished captions are kept"),
    errno.EROFS: (StorageError, "the file system is read-only: write to another folder with --output"),
    errno.EACCES: (ItemError, _NO_PERMISSION),
    errno.EPERM: (ItemError, _NO_PERMISSION),
    errno.ENAMETOOLONG: (ItemError, "this name, or one made from it, is too long: shorten the name of the media file"),
    errno.ENOENT: (ItemError, "the folder no longer exists: restore it, or run again"),
    errno.ENOTDIR: (ItemError, _FILE_BLOCKS_FOLDER),
    errno.ENXIO: (ItemError, filesystem.NO_REGULAR_FILE),
    errno.ELOOP: (ItemError, "this link leads to itself: remove it"),
    errno.EEXIST: (ItemError, _FILE_BLOCKS_FOLDER),
    errno.EISDIR: (ItemError, "a folder has the name of the caption file: rename the folder"),
}


def storage_error(error: OSError, path: Path) -> CaptionerError:
    """Convert an OSError: to `ItemError` if it concerns only this path, to `StorageError` if it concerns all."""
    kind, problem = _PROBLEMS.get(
        error.errno or 0, (StorageError, f"cannot be read or written ({error.strerror or error}): check the disk")
    )
    return kind(f"{path}: {problem}")


@contextmanager
def map_storage_errors(path: Path) -> Iterator[None]:
    """Raise `storage_error` for an OSError."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error
