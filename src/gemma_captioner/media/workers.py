"""Worker processes with limits, so that a file that crashes, hangs or exhausts memory fails alone.

pebble manages the processes, and replaces one that dies or times out.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any
from weakref import WeakSet

import psutil
from pebble import ProcessExpired, ProcessFuture, ProcessPool
from pebble.pool.process import PoolManager

from . import native_log

GIB = 1 << 30
_MAX_RETRIES = 3  # of a task whose pool broke down


class WorkerError(Exception):
    """A worker did not finish a task. The message holds the reason and a remedy."""


class WorkerTask:
    """A call of a function in a worker process. It is scheduled again if the pool breaks down before it returns.

    future: of the latest attempt. Ask `done` once it has ended.
    """

    def __init__(
        self, pool: "WorkerPool", function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float
    ) -> None:
        self._workers = pool
        self._call = function, arguments, timeout_s
        self._pool_failures = 0
        self._schedule()

    def _schedule(self) -> None:
        self.future, self._pool = self._workers.schedule(*self._call)

    def done(self) -> bool:
        if self._is_lost() and self._pool_failures <= _MAX_RETRIES:
            self._pool_failures += 1
            if self._pool_failures <= _MAX_RETRIES:
                self._schedule()
        return self.future.done() or self._pool_failures > _MAX_RETRIES

    def _is_lost(self) -> bool:
        if self.future.done():
            return self.future.cancelled() or isinstance(self.future.exception(), BrokenProcessPool)
        return not self._pool.active

    def result(self) -> Any:
        """Wait, and return what the function returned. Raises `WorkerError`."""
        while not self.done():
            wait([self.future], timeout=1)
        if self._pool_failures > _MAX_RETRIES:
            crashes = f"the decoder processes crashed {self._pool_failures} times while reading it"
            raise WorkerError(f"{crashes}: try again")
        try:
            return self.future.result()
        except FutureTimeoutError:
            remedy = self._workers.timeout_remedy
            raise WorkerError(f"decoding did not finish within {self._call[2]:g} s: {remedy}") from None
        except ProcessExpired as error:
            reason = f"the decoder crashed ({_exit_reason(error)})"
            raise WorkerError(f"{reason}: convert the file with another program") from None


class _PoolManager(PoolManager):
    """pebble's manager, which also finds the task that a worker acknowledged just before it died.

    pebble reads acknowledgements in another thread. Without the wait, such a task would last until its timeout.
    """

    def find_expired_task(self, worker_id: int) -> Any:
        for _ in range(20):
            with suppress(LookupError, BrokenProcessPool):
                return super().find_expired_task(worker_id)
            time.sleep(0.05)
        return super().find_expired_task(worker_id)


class WorkerPool:
    """Worker processes, each limited to `memory` bytes. A file that crashes or exceeds the limit fails alone.

    pebble's pool breaks down, with all running tasks, if a worker is killed while it is idle. The next task then gets
    a new pool.
    """

    def __init__(self, workers: int, memory: int, timeout_s: float, timeout_remedy: str = "convert the file") -> None:
        """timeout_s: the limit for each task. timeout_remedy: what a task that exceeds it reports."""
        self._timeout_s, self.timeout_remedy = timeout_s, timeout_remedy
        self._workers, self._memory = workers, memory
        self._futures: WeakSet[ProcessFuture[Any]] = WeakSet()
        self._closed = False
        self._pool = self._create_pool()

    def _create_pool(self) -> ProcessPool:
        context = _context()
        pool = ProcessPool(self._workers, context=context, initializer=_init_worker, initargs=(self._memory,))
        pool._pool_manager = _PoolManager(pool._context, context)
        return pool

    def start(self, function: Callable[..., Any], *arguments: Any, timeout_s: float | None = None) -> WorkerTask:
        """Call a function in a worker. timeout_s: None for that of the pool. Raises `RuntimeError` after `close`."""
        return WorkerTask(self, function, arguments, timeout_s or self._timeout_s)

    def schedule(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float
    ) -> tuple["ProcessFuture[Any]", ProcessPool]:
        """Call a function once. Return also the pool that runs it."""
        try:
            future = self._pool.schedule(function, args=arguments, timeout=timeout_s)
        except RuntimeError:  # the pool broke down, or was closed
            if self._closed:
                raise
            self._replace_pool()
            future = self._pool.schedule(function, args=arguments, timeout=timeout_s)
        self._futures.add(future)
        return future, self._pool

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


def _exit_reason(error: ProcessExpired) -> str:
    code = error.exitcode or 0
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


# Code that runs in the workers

_M_ARENA_MAX = -8  # of mallopt(3)
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def _init_worker(memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    _end_with_the_run()
    warnings.simplefilter("ignore")  # decoder warnings are noise; only failures count
    native_log.install()
    if sys.platform == "linux":
        import resource

        if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
            mallopt(_M_ARENA_MAX, 2)  # otherwise glibc reserves 64 MiB of address space per FFmpeg thread
        limit_address_space(psutil.Process().memory_info().vms + memory)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with_the_run() -> None:
    """On Linux, end this worker when the run is killed, even while it hangs in a decoder.

    The fork server exits when the run does, but only after all workers have closed a pipe that they inherit.
    """
    if _METHOD == "forkserver":
        from multiprocessing import forkserver  # Windows has none

        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # before the fork server can exit
        server: Any = forkserver._forkserver
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


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


class _WorkerProcess(_base.Process):  # type: ignore[misc]  # mypy refuses a base class of type Any
    @staticmethod
    def _Popen(process: Any) -> Any:
        with _hide_main_module():
            return _base.Process._Popen(process)


class _ProcessContext(type(_base)):  # type: ignore[misc]  # likewise
    Process = _WorkerProcess


def _context() -> Any:
    context = _ProcessContext()
    if _METHOD == "forkserver":
        context.set_forkserver_preload([f"{__package__}.pool"])  # with the decoders
    return context
