"""Worker processes with limits, so that a file that crashes, hangs or exhausts memory fails alone.

pebble manages the processes, and replaces one that dies or times out.
"""

import ctypes
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from weakref import WeakSet

import psutil
from pebble import ProcessFuture, ProcessPool

from . import native_log

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """A task and the pool that runs it."""

    future: "ProcessFuture[Any]"
    pool: ProcessPool

    def is_lost(self) -> bool:
        """Whether the pool broke down before the task returned."""
        if self.future.done():
            return self.future.cancelled() or isinstance(self.future.exception(), BrokenProcessPool)
        return not self.pool.active


class WorkerPool:
    """Worker processes, each limited to `memory` bytes. A file that crashes or exceeds the limit fails alone.

    pebble's pool breaks down, with all running tasks, if a worker dies that pebble considers idle: it is killed while
    idle, or crashes just as it starts a task. The next task then gets a new pool.
    """

    def __init__(self, workers: int, memory: int) -> None:
        self._workers, self._memory = workers, memory
        self._futures: WeakSet[ProcessFuture[Any]] = WeakSet()
        self._closed = False
        self._pool = self._create_pool()

    def _create_pool(self) -> ProcessPool:
        return ProcessPool(self._workers, context=_context(), initializer=_init_worker, initargs=(self._memory,))

    def schedule(self, function: Callable[..., Any], *, args: tuple[Any, ...], timeout: float) -> ScheduledTask:
        """Raises `RuntimeError` after `close`."""
        try:
            future = self._pool.schedule(function, args=args, timeout=timeout)
        except RuntimeError:  # the pool broke down, or was closed
            if self._closed:
                raise
            self._replace_pool()
            future = self._pool.schedule(function, args=args, timeout=timeout)
        self._futures.add(future)
        return ScheduledTask(future, self._pool)

    def _replace_pool(self) -> None:
        for future in list(self._futures):  # pebble does not end tasks that no worker has started
            if not future.done():
                future.set_exception(BrokenProcessPool("All workers expired"))
        self._stop_pool()
        self._pool = self._create_pool()

    def _stop_pool(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join(timeout=10)

    def close(self) -> None:
        self._closed = True
        self._stop_pool()


# Code that runs in the workers

_M_ARENA_MAX = -8


def _init_worker(memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    warnings.simplefilter("ignore")  # decoder warnings are noise; only failures count
    native_log.install()
    if sys.platform == "linux":
        import resource

        if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
            mallopt(_M_ARENA_MAX, 2)  # otherwise glibc reserves 64 MiB of address space per FFmpeg thread
        limit_address_space(psutil.Process().memory_info().vms + memory)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_address_space(limit: int | None = None, *, extra: int = 0) -> None:
    """Set the limit of this process to `limit` bytes, or raise it by `extra`."""
    if sys.platform == "linux":  # macOS rejects a limit below the mapped size; Windows has none
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = (soft if limit is None else limit) + extra
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


# Where fork exists, workers start from a fork server that has imported the decoders and nothing else.

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_base: Any = multiprocessing.get_context(_METHOD)


@contextmanager
def _hide_main_module() -> Iterator[None]:
    """Keep workers from importing the caller's main module: that would start the run again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Worker(_base.Process):  # type: ignore[misc]
    @staticmethod
    def _Popen(process: Any) -> Any:
        with _hide_main_module():
            return _base.Process._Popen(process)


class _Context(type(_base)):  # type: ignore[misc]
    Process = _Worker


def _context() -> Any:
    context = _Context()
    if _METHOD == "forkserver":
        context.set_forkserver_preload([f"{__package__}.pool"])  # with the decoders
    return context
