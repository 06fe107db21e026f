"""The atomic write of local files: write a temporary file, sync it, rename it."""

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
    """Yield a temporary path and rename it to `path` when the block ends. If the block raises, `path` stays unchanged.

    with atomic_write(table) as temp_path:
        temp_path.write_text("a,b")

    Args:
        temp_path: A path on the same file system as `path`. By default, a hidden file beside `path`.
        sync: Whether the content must survive a power failure. A cache does not need this.
        rename: How to rename. By default, it replaces an existing file.
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
