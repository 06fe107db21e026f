"""The one way in which a local file gets its name: written under another, synced, renamed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic(
    path: Path,
    unfinished: Path | None = None,
    *,
    sync: bool = True,
    rename: Callable[[Path, Path], object] = os.replace,
) -> Iterator[Path]:
    """A path to write to, which takes the name of `path` as the block ends. Where it raises, `path` stays as it was.

    with atomic(table) as unfinished:
        unfinished.write_text("a,b")

    unfinished: where to write, on the same file system; else a hidden file beside `path`. sync: that the content
    outlives a power failure; a cache need not. rename: instead of replacing what is there. Raises `OSError`.
    """
    unfinished = unfinished or path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        if sync:
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
        rename(unfinished, path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
