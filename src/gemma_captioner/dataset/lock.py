"""One run at a time in a folder, as two would spend the GPU on the same files. Shards of one division share it.

The locks are the operating system's: what is killed holds none.
"""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from ..errors import StartError
from ..storage.filesystem import is_local
from .sidecar import DOT_FOLDER

_LOCK_TIMEOUT_S = 1.0  # another run may be looking whether ours is there


class RunLock:
    """On `stores`, for a whole run or for one shard, `2/8`. A context: they end with it."""

    def __init__(self, stores: Iterable[Path], shard: str | None) -> None:
        self._stores = list(stores)
        self._name, self._sibling_suffix = "whole.lock", ""
        if shard is not None:
            index, count = shard.split("/")
            self._name, self._sibling_suffix = f"{index}-of-{count}.lock", f"-of-{count}.lock"
        self._locks = ExitStack()

    def acquire(self) -> None:
        """Once there is work; more often does nothing. Raises `StartError` where another run has it."""
        for store in self._stores:
            # Without locks, in object stores and on some network file systems, two runs are two bills; nothing is lost.
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
                f"another run is captioning {folder.parent.parent}: wait for its end, or let several share the folder, "
                "each with another --shard I/N"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._locks.close()


def _lock(file: Path) -> FileLock:
    return FileLock(file, timeout=_LOCK_TIMEOUT_S, thread_local=False)
