"""Access to files on this machine, in tar archives and in the file systems of fsspec (`s3://`, `gs://`, `memory://`).

A local path is a `pathlib.Path`. A remote path is a `UPath`. It is typed as a `Path` because it has the same methods;
this module replaces methods that are missing or would need many requests. Credentials come from the
environment, as for the tools of each file system. This package never asks for credentials or stores them.
"""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from ..errors import ItemError, UsageError

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_SINGLE_READ_BYTES = 8 << 20  # for a file up to this size, one request costs less than several
_TAR_READ_BYTES = 1 << 16  # block size while reading the headers of a remote tar
_BLOCK_BYTES = 1 << 20  # block size for larger files: three seeks in a clip of 61 MB cost 5 requests and 5 MB


def parse_path(text: str | Path) -> Path:
    """Convert a path or a URL.

    Raises `UsageError` for an empty text, such as that of an unset shell variable, and if the file system is unknown or
    its package is not installed.
    """
    if not isinstance(text, str):
        return text
    _require_text(text)
    text = text.removeprefix("file://")
    if not _URL.match(text):
        return Path(text)
    try:
        from upath import UPath

        options: dict[str, Any] = {"use_listings_cache": False}  # the cache would grow without limit
        if text.startswith("s3"):
            options["max_concurrency"] = 1  # otherwise s3fs requests the size of a file before each read
        found: Any = UPath(text.rstrip("/"), **options)
        _ = found.fs
    except ImportError as error:
        raise UsageError(f"{text} requires more packages: pip install 'gemma-captioner[cloud]' ({error})") from error
    except ValueError as error:
        raise UsageError(f"{text} cannot be used: {error}") from error
    return found  # type: ignore[no-any-return]


def expand_home(path: str | Path) -> Path:
    """Replace a leading `~` or `~user`. If there is no such user, the path stays as it is, as in a shell.

    `Path.expanduser` raises `RuntimeError` then.
    """
    return Path(os.path.expanduser(path))


def parse_local_path(text: str | Path) -> Path:
    """Convert a path on this machine. Raises `UsageError` for a URL and for an empty text."""
    if isinstance(text, str):
        _require_text(text)
    if isinstance(text, str) and _URL.match(text):
        raise UsageError(
            f"{text}: this command requires a local folder: copy the files to this machine first. Only `caption` and "
            "`restore` work in object stores"
        )
    return Path(text)


def _require_text(text: str) -> None:
    if not text:
        raise UsageError("the path is empty: give a folder or a file; the current folder is .")


def is_local(path: Path) -> bool:
    return isinstance(path, Path)


def may_write(folder: Path) -> bool:
    """Whether files can be created in a local folder, or the folder itself. True for a remote folder."""
    if not is_local(folder):
        return True
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return os.access(existing / ".", os.W_OK | os.X_OK)


@contextmanager
def map_os_errors() -> Iterator[None]:
    """Convert the exceptions of a file system's library to the OSError that callers expect."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each library has exceptions of its own
        raise OSError(str(error) or type(error).__name__) from error


def inspect(path: Path) -> tuple[bool, bool]:
    """Return whether the path is a folder, and whether it exists. A broken link exists."""
    if is_local(path):
        return path.is_dir(), os.path.lexists(path)
    with map_os_errors():
        return path.is_dir(), path.exists()


class DirectoryEntry(NamedTuple):
    name: str
    is_folder: bool
    bytes: int


def list_directory(folder: Path) -> Iterator[DirectoryEntry]:
    """List a remote folder with one listing request per page. Raises OSError."""
    remote: Any = folder
    with map_os_errors():
        for found in remote.fs.ls(remote.path, detail=True):
            at = found["name"].rstrip("/")
            if at.strip("/") != remote.path.strip("/"):  # some stores list the folder itself
                yield DirectoryEntry(at.rpartition("/")[2], found["type"] == "directory", found["size"] or 0)


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar. A `MediaItem` holds it in place of a `Path`."""

    tar: Path
    inside: str  # the folder in the tar, "" or "a/b/"
    name: str
    offset: int  # of the content in the tar, in bytes
    bytes: int

    @property
    def stem(self) -> str:
        return self.parent.joinpath(self.name).stem

    @property
    def parent(self) -> PurePath:
        return PurePosixPath(self.tar.name, self.inside)

    def __str__(self) -> str:
        return f"{self.tar}/{self.inside}{self.name}"


def tar_members(tar: Path) -> Iterator[Any]:
    """Yield the files of a tar. Reads only the headers, by range requests if the tar is remote. Raises OSError."""
    with map_os_errors(), _open_tar(tar) as file, tarfile.open(fileobj=file, mode="r:") as index:
        for header in index:
            if header.isfile():
                inside, slash, name = header.name.removeprefix("./").rpartition("/")
                yield TarMember(tar, inside + slash, name, header.offset_data, header.size)


def _open_tar(path: Path) -> BinaryIO:
    if is_local(path):
        return path.open("rb")
    remote: Any = path
    return remote.fs.open(remote.path, block_size=_TAR_READ_BYTES, cache_type="bytes")  # type: ignore[no-any-return]


def glob_files(folder: Path, glob: str) -> list[Path]:
    """Return the matching files of the folder, sorted. Returns none if it does not exist or may not be read."""
    if is_local(folder):
        try:
            return sorted(folder.glob(glob))
        except PermissionError:
            return []
    try:
        return sorted(
            (folder / entry.name for entry in list_directory(folder) if fnmatchcase(entry.name, glob)), key=str
        )
    except FileNotFoundError:
        return []


def version_tag(path: Path) -> str:
    """Return `<bytes>:<ETag or modification time>` of a remote file, or `<bytes>@<offset>` of a file in a tar."""
    remote: Any = path
    if isinstance(remote, TarMember):
        return f"{remote.bytes}@{remote.offset}"
    with map_os_errors():
        info = remote.fs.info(remote.path)
    tag = next((info[key] for key in ("ETag", "etag", "LastModified", "mtime", "created") if info.get(key)), "")
    return f"{info['size']}:{tag}"


def read(path: Path) -> bytes:
    """Read the whole file, in one request if remote. Raises OSError."""
    remote: Any = path
    if isinstance(remote, TarMember):
        return _read_range(remote.tar, remote.offset, remote.bytes)
    if is_local(path):
        return path.read_bytes()
    with map_os_errors():
        return remote.fs.cat_file(remote.path)  # type: ignore[no-any-return]


def _read_range(path: Path, offset: int, size: int) -> bytes:
    if is_local(path):
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    remote: Any = path
    with map_os_errors():
        return remote.fs.cat_file(remote.path, start=offset, end=offset + size) if size else b""


NO_REGULAR_FILE = "this is not a regular file but a pipe or a device: replace or remove it"


def is_device(path: Path) -> bool:
    """Return whether a local path is a pipe, a socket or a device, or a link to one: reading it may never end."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def source(path: Path, *, whole: bool = False) -> str | BinaryIO:
    """Return what a decoder can open: the path of a local file, or a file object for a remote one.

    It reads a small file, and with `whole` any file, in one request, and a larger one by range requests. It caches the
    last file, so that a decoder can open it again. `release` drops that file.

    Raises `ItemError` for a pipe or a device: reading it may never end.
    """
    if is_local(path):
        if is_device(path):
            raise ItemError(NO_REGULAR_FILE)
        return str(path)
    file = _open_remote(path, whole)
    file.seek(0)
    return file


def read_source(path: Path, size: int = -1) -> bytes:
    """Return the first `size` bytes of the file, or all of them. A remote file is requested once, as for `source`."""
    found = source(path, whole=True)
    if not isinstance(found, str):
        return found.read(size)
    with open(found, "rb") as file:
        return file.read(size)


@lru_cache(maxsize=1)
def _open_remote(path: Path, whole: bool) -> BinaryIO:
    remote: Any = path
    if whole or isinstance(remote, TarMember):
        return io.BytesIO(read(path))
    with map_os_errors():
        size = remote.fs.info(remote.path)["size"]
        if size <= _SINGLE_READ_BYTES:
            return io.BytesIO(read(path))
        return remote.fs.open(  # type: ignore[no-any-return]
            remote.path, size=size, block_size=_BLOCK_BYTES, cache_type="blockcache"
        )


release = _open_remote.cache_clear


def remove(path: Path) -> None:
    remote: Any = path
    with map_os_errors():
        remote.fs.rm_file(remote.path)


def put(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a remote file atomically. Raises `FileExistsError` if a file with content exists, unless `replace`."""
    remote: Any = path
    with map_os_errors():
        try:
            remote.fs.pipe_file(remote.path, content, mode="overwrite" if replace else "create")
        except FileExistsError:
            if remote.fs.info(remote.path)["size"]:
                raise
            remote.fs.pipe_file(remote.path, content)
