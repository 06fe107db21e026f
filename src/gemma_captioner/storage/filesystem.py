"""Where files lie: on this machine, or on what fsspec knows of (`s3://bucket/folder`, `gs://`, `memory://`).

A local place is a `pathlib.Path` and goes past all this. Another is a `UPath`, typed as a `Path` because it has its
methods; what it has not, or has at the price of many requests, is below. Credentials come from the environment, as each
file system's own tools take them, and are never asked for nor kept.
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

from ..errors import UsageError

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_SINGLE_READ_BYTES = 8 << 20  # bytes; what is smaller costs less in one request than in several
_TAR_READ_BYTES = 1 << 16  # read at once while a tar's headers are looked for
_BLOCK_BYTES = 1 << 20  # of what is larger: three seeks in a clip of 61 MB cost 5 requests and 5 MB


def parse_path(text: str | Path) -> Path:
    """Raises `UsageError` where the file system is not known, or what it needs is not installed."""
    if not isinstance(text, str):
        return text
    text = text.removeprefix("file://")
    if not _URL.match(text):
        return Path(text)
    try:
        from upath import UPath

        options: dict[str, Any] = {"use_listings_cache": False}  # it would keep every name it ever saw
        if text.startswith("s3"):
            options["max_concurrency"] = 1  # else it asks for a file's size before each read
        found: Any = UPath(text.rstrip("/"), **options)
        _ = found.fs
    except ImportError as error:
        raise UsageError(f"{text}: pip install 'gemma-captioner[cloud]' ({error})") from error
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from error
    return found  # type: ignore[no-any-return]


def parse_local_path(text: str | Path) -> Path:
    """A place on this machine. Raises `UsageError` for any other."""
    if isinstance(text, str) and _URL.match(text):
        raise UsageError(
            f"{text}: this command wants a folder of this machine: copy it here first. `caption` and `restore` alone "
            "work in object stores"
        )
    return Path(text)


def is_local(path: Path) -> bool:
    return isinstance(path, Path)


@contextmanager
def map_os_errors() -> Iterator[None]:
    """Whatever a file system's own library raises, as the OSError that callers expect of any path."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def inspect(path: Path) -> tuple[bool, bool]:
    """Whether it is a folder, and whether there is anything of that name, a broken link included."""
    if is_local(path):
        return path.is_dir(), os.path.lexists(path)
    with map_os_errors():
        return path.is_dir(), path.exists()


class DirectoryEntry(NamedTuple):
    name: str
    is_folder: bool
    bytes: int


def list_directory(folder: Path) -> Iterator[DirectoryEntry]:
    """Of a folder that is not local, from its listing alone. The store pages it."""
    remote: Any = folder
    with map_os_errors():
        for found in remote.fs.ls(remote.path, detail=True):
            at = found["name"].rstrip("/")
            if at.strip("/") != remote.path.strip("/"):  # some stores list the folder itself
                yield DirectoryEntry(at.rpartition("/")[2], found["type"] == "directory", found["size"] or 0)


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar, typed as a `Path` where it stands for one. inside: the folder in the tar, "" or "a/b/"."""

    tar: Path
    inside: str
    name: str
    offset: int
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
    """Each file of it as a `TarMember`, from the headers alone; from afar they are read by range. Raises OSError."""
    with map_os_errors(), _open_tar(tar) as file, tarfile.open(fileobj=file, mode="r:") as index:
        for found in index:
            if found.isfile():
                inside, slash, name = found.name.removeprefix("./").rpartition("/")
                yield TarMember(tar, inside + slash, name, found.offset_data, found.size)


def _open_tar(path: Path) -> BinaryIO:
    if is_local(path):
        return path.open("rb")
    remote: Any = path
    return remote.fs.open(remote.path, block_size=_TAR_READ_BYTES, cache_type="bytes")  # type: ignore[no-any-return]


def glob_files(folder: Path, glob: str) -> list[Path]:
    """Files of the folder, sorted; none where there is no such folder."""
    if is_local(folder):
        return sorted(folder.glob(glob))
    try:
        return sorted(
            (folder / entry.name for entry in list_directory(folder) if fnmatchcase(entry.name, glob)), key=str
        )
    except FileNotFoundError:
        return []


def version_tag(path: Path) -> str:
    """`<bytes>:<what the store changes with each change>` of a file that is not local; `<bytes>@<place>` in a tar."""
    remote: Any = path
    if isinstance(remote, TarMember):
        return f"{remote.bytes}@{remote.offset}"
    with map_os_errors():
        said = remote.fs.info(remote.path)
    mark = next((said[key] for key in ("ETag", "etag", "LastModified", "mtime", "created") if said.get(key)), "")
    return f"{said['size']}:{mark}"


def read(path: Path) -> bytes:
    """All of it, in one request."""
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


def source(path: Path, *, whole: bool = False) -> str | BinaryIO:
    """What a decoder opens, as often as it likes: a local file by its name, a small one read at once, a larger one by
    range. `release` it."""
    if is_local(path):
        return str(path)
    file = _open_remote(path, whole)
    file.seek(0)
    return file


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
    """One atomic put. Without `replace` raises FileExistsError where there is a file, if it is not empty."""
    remote: Any = path
    with map_os_errors():
        try:
            remote.fs.pipe_file(remote.path, content, mode="overwrite" if replace else "create")
        except FileExistsError:
            if remote.fs.info(remote.path)["size"]:
                raise
            remote.fs.pipe_file(remote.path, content)
