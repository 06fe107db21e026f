"""The one way in which a local file gets its name: written under another, synced, renamed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(
    path: Path,
    temp_path: Path | None = None,
    *,
    sync: bool = True,
    rename: Callable[[Path, Path], object] = os.replace,
) -> Iterator[Path]:
    """A path to write to, which takes the name of `path` as the block ends. Where it raises, `path` stays as it was.

    with atomic_write(table) as unfinished:
        unfinished.write_text("a,b")

    temp_path: where to write, on the same file system; else a hidden file beside `path`. sync: that the content
    outlives a power failure; a cache need not. rename: instead of replacing what is there. Raises `OSError`.
    """
    temp_path = temp_path or path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temp_path
        if sync:
            with temp_path.open("rb+") as file:
                os.fsync(file.fileno())
        rename(temp_path, path)
    finally:
        with suppress(OSError):
            temp_path.unlink(missing_ok=True)
