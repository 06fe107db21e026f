"""Where files lie: on this machine, or on any file system that fsspec knows (`s3://bucket/folder`, `gs://`, `memory://`).

A local place is a `pathlib.Path` and goes past all this. Another is a `UPath`, typed as a `Path` because it has its
methods; what it has not, or has at the price of many requests, is below. Credentials come from the environment, as each
file system's own tools take them, and are never asked for nor kept.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

from cyclopts import Parameter
from pydantic import PlainSerializer, PlainValidator

from .errors import UsageError

_READ_AT_ONCE = 8 << 20  # bytes; what is smaller costs less in one request than in several
_BLOCK_BYTES = 1 << 20  # of what is larger: three seeks in a clip of 61 MB cost 5 requests and 5 MB


def place(text: str | Path) -> Path:
    """Raises `UsageError` where the file system is not known, or what it needs is not installed."""
    if not isinstance(text, str) or not re.match(r"[a-z][a-z0-9+.-]*://", text):
        return Path(text) if isinstance(text, str) else text
    try:
        from upath import UPath

        found: Any = UPath(text.rstrip("/"), use_listings_cache=False)  # it would keep every name it ever saw
        _ = found.fs
    except ImportError as error:
        raise UsageError(f"{text}: pip install 'gemma-captioner[cloud]' ({error})") from error
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from error
    return found  # type: ignore[no-any-return]


Place = Annotated[
    Path,
    PlainValidator(place),
    PlainSerializer(str, when_used="json"),
    Parameter(converter=lambda _, tokens: place(tokens[0].value)),
]


def is_local(path: Path) -> bool:
    return isinstance(path, Path)


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Whatever a file system's own library raises, as the OSError that callers expect of any path."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class Entry(NamedTuple):
    name: str
    is_folder: bool
    bytes: int


def entries(folder: Path) -> Iterator[Entry]:
    """Of a folder that is not local, from its listing alone. The store pages it."""
    remote: Any = folder
    with as_os_errors():
        for found in remote.fs.ls(remote.path, detail=True):
            at = found["name"].rstrip("/")
            if at.strip("/") != remote.path.strip("/"):  # some stores list the folder itself
                yield Entry(at.rpartition("/")[2], found["type"] == "directory", found["size"] or 0)


def version(path: Path) -> str:
    """`<bytes>:<what the store changes with each change>` of a file that is not local."""
    remote: Any = path
    with as_os_errors():
        said = remote.fs.info(remote.path)
    mark = next((said[key] for key in ("ETag", "etag", "LastModified", "mtime", "created") if said.get(key)), "")
    return f"{said['size']}:{mark}"


def source(path: Path, *, whole: bool = False) -> str | BinaryIO:
    """What a decoder opens: a local file by its name; else a small file read at once, a larger one by range."""
    if is_local(path):
        return str(path)
    with as_os_errors():
        if whole or path.stat().st_size <= _READ_AT_ONCE:
            return io.BytesIO(path.read_bytes())
        remote: Any = path
        return remote.open("rb", block_size=_BLOCK_BYTES, cache_type="blockcache")  # type: ignore[no-any-return]


def put(path: Path, content: bytes, *, replace: bool = True) -> None:
    """One atomic put. Without `replace` raises FileExistsError where there is a file, if it is not empty."""
    remote: Any = path
    with as_os_errors():
        if replace:
            remote.fs.pipe_file(remote.path, content)
            return
        try:
            remote.fs.pipe_file(remote.path, content, mode="create")
        except FileExistsError:
            if path.stat().st_size:
                raise
            remote.fs.pipe_file(remote.path, content)
