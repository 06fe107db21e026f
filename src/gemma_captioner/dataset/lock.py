"""The run lock: only one run at a time captions a folder, because two would caption the same files.

Runs with `--shard I/N` of the same N share a folder. The operating system releases the locks of a killed process.
"""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from ..errors import StartError
from ..storage.filesystem import is_local
from .sidecar import DOT_FOLDER

_LOCK_TIMEOUT_S = 1.0  # another run may hold the lock for a moment, to check whether it is free


class RunLock:
    """A context manager that locks `stores` for a whole run or for one shard, such as `2/8`."""

    def __init__(self, stores: Iterable[Path], shard: str | None) -> None:
        self._stores = list(stores)
        self._name, self._sibling_suffix = "whole.lock", ""
        if shard is not None:
            index, count = shard.split("/")
            self._name, self._sibling_suffix = f"{index}-of-{count}.lock", f"-of-{count}.lock"
        self._locks = ExitStack()

    def acquire(self) -> None:
        """Acquire the locks. Further calls do nothing. Raises `StartError` if another run holds a lock."""
        for store in self._stores:
            # Object stores and some network file systems have no locks. There, two runs waste time but lose nothing.
            with suppress(OSError, NotImplementedError):
                if is_local(store):
                    self._acquire(store / DOT_FOLDER / "locks")
        self._stores = []

    def _acquire(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._locks.enter_context(_lock(folder / self._name))
            for other in folder.glob("*.lock"):
                if other.name != self._name and not (
                    self._sibling_suffix and other.name.endswith(self._sibling_suffix)
                ):
                    with _lock(other):
                        pass
        except Timeout:
            raise StartError(
                f"another run is captioning {folder.parent.parent}: wait for it to finish, or split the folder between "
                "runs with --shard I/N"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._locks.close()


def _lock(file: Path) -> FileLock:
    return FileLock(file, timeout=_LOCK_TIMEOUT_S, thread_local=False)
