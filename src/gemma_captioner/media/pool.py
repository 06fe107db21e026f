"""DecodeTask in processes of its own: a file that crashes the decoder, hangs it or eats memory costs itself alone.

pebble keeps the processes, and ends and replaces one that dies or overruns its time. Pixels come back through memory
that both sides have mapped: a worker writes frames where it is told to, and none of them is pickled.
"""

import ctypes
import mmap
import multiprocessing
import os
import secrets
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self
from weakref import WeakSet

import numpy as np
import psutil
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from ..types import Failed, Frames, MediaItem, Pixels, Size, max_frame_bytes
from .decode import decode
from .settings import DecodeSettings

GIB = 1 << 30
_MAX_RETRIES = 3  # for a file among those under way when the workers broke down


class SharedMemoryArena:
    """Room for frames of one size in memory that workers map by its path.

    A file in memory where there are such (Linux): it has no name to be left behind, goes with the process, and is not
    bounded by a container's small /dev/shm. Windows lets nobody else open a temporary file, and gives memory itself a
    name. Elsewhere a temporary file.
    """

    def __init__(self, frames: int, frame_bytes: int) -> None:
        self.bytes = frames * frame_bytes
        self.frame_bytes = frame_bytes
        self._free_ranges = [(0, frames)]  # (first frame, number of frames), rising, never adjacent
        self._file: Any = None
        if sys.platform == "win32":
            self.path = f"gemma-captioner-{os.getpid()}-{secrets.token_hex(4)}"
        elif hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("gemma-captioner"), "r+b")
            self.path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile(prefix="gemma-captioner-")  # noqa: SIM115  # lives as long as we
            self.path = self._file.name
        if self._file is not None:
            self._file.truncate(self.bytes)
        self._memory = _map_memory(self.path, self.bytes)

    def allocate(self, frames: int) -> int | None:
        """The first of so many adjacent frames, None where there is no such gap now."""
        for i, (first, count) in enumerate(self._free_ranges):
            if count >= frames:
                self._free_ranges[i : i + 1] = [(first + frames, count - frames)] if count > frames else []
                return first
        return None

    def release(self, first: int, frames: int) -> None:
        """Take back what `allocate` gave."""
        free_ranges: list[tuple[int, int]] = []
        for at, count in sorted([*self._free_ranges, (first, frames)]):
            if free_ranges and sum(free_ranges[-1]) == at:
                free_ranges[-1] = (free_ranges[-1][0], free_ranges[-1][1] + count)
            else:
                free_ranges.append((at, count))
        self._free_ranges = free_ranges

    def view(self, first: int, shape: tuple[int, ...]) -> Pixels:
        return np.ndarray(shape, np.uint8, self._memory, first * self.frame_bytes)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()  # the mapping goes with the last array that looks into it


def _map_memory(path: str, size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size, tagname=path)
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), size)


@dataclass(frozen=True, slots=True)
class _SharedFrames:
    """What a worker says of frames that it wrote: all of them but the pixels."""

    shape: tuple[int, ...]
    times_s: tuple[float, ...]
    duration_s: float
    flags: tuple[str, ...]
    kind: Any
    source_size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _NeedsMoreFrames:
    """An image that turned out to be animated: it wants so many frames, and had room for one."""

    frames: int


class DecodeTask:
    """One file on its way. Once `done`, `result` gives it, and `release` its room back when its pixels are spent."""

    def __init__(self, pool: "DecodePool", item: MediaItem, frames: int, first: int) -> None:
        self._pool, self._item = pool, item
        self._allocation: tuple[int, int] | None = (first, frames)
        self._scheduled: ScheduledTask | None = pool._submit(item, first, frames)
        self._result: Frames | Failed | None = None
        self._frames_needed = 0
        self._pool_failures = 0

    def done(self) -> bool:
        if self._result is not None:
            return True
        if self._scheduled is not None:
            if self._scheduled.is_lost() and self._allocation is not None:
                if self._pool_failures == _MAX_RETRIES:
                    times = f"{_MAX_RETRIES + 1} times"
                    self._result = Failed(self._item, f"the decoders crashed {times} as it was read: run it again")
                    return True
                self._pool_failures += 1
                self._scheduled = self._pool._submit(self._item, *self._allocation)
            if not self._scheduled.future.done():
                return False
            answer = self._pool._collect_result(self._scheduled.future, self._item, self._allocation)
            if not isinstance(answer, _NeedsMoreFrames):
                self._result = answer
                return True
            self.release()
            self._scheduled, self._frames_needed = None, answer.frames
        if (first := self._pool.arena.allocate(self._frames_needed)) is not None:
            self._allocation = (first, self._frames_needed)
            self._scheduled = self._pool._submit(self._item, first, self._frames_needed)
        return False

    def result(self) -> Frames | Failed:
        assert self._result is not None
        return self._result

    def release(self) -> None:
        if self._allocation is not None:
            self._pool.arena.release(*self._allocation)
            self._allocation = None


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """A task, and the pool that it was given to."""

    future: "ProcessFuture[Any]"
    pool: ProcessPool

    def is_lost(self) -> bool:
        """The pool broke down with it, so that it has no answer of its own."""
        if self.future.done():
            return self.future.cancelled() or isinstance(self.future.exception(), BrokenProcessPool)
        return not self.pool.active


class WorkerPool:
    """Where files are opened: one that crashes its process, or wants more bytes than `memory`, costs itself alone.

    pebble's pool breaks down, with all that is under way, where a worker dies that it does not know to be at work:
    an idle one that is killed, or one that crashes in the moment that it begins. The next task is given to a new pool.
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
        except RuntimeError:  # what pebble raises where it broke down, and where it was stopped
            if self._closed:
                raise
            self._replace_pool()
            future = self._pool.schedule(function, args=args, timeout=timeout)
        self._futures.add(future)
        return ScheduledTask(future, self._pool)

    def _replace_pool(self) -> None:
        for future in list(self._futures):  # those that had not reached a worker are told by nobody else
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


class DecodePool:
    """Decodes files ahead, as many as their pixels have room for."""

    def __init__(
        self, size: Size, settings: DecodeSettings, *, clip_size: Size, workers: int, pixel_bytes: int
    ) -> None:
        """size, clip_size: of an image's and a clip's frames. pixel_bytes: what all together may take at once."""
        self._settings = settings
        self._sizes = (size, clip_size)
        frame_bytes = max(max_frame_bytes(size), max_frame_bytes(clip_size))
        self.arena = SharedMemoryArena(max(settings.frames, pixel_bytes // frame_bytes), frame_bytes)
        limit = int(settings.memory_gib * GIB) + self.arena.bytes  # the arena counts as a worker's own, too
        self._processes = WorkerPool(workers, limit)

    def start(self, item: MediaItem) -> DecodeTask | None:
        """None where there is no room for its pixels now."""
        frames = self._settings.frames if item.kind == "clip" else 1
        first = self.arena.allocate(frames)
        return None if first is None else DecodeTask(self, item, frames, first)

    def _submit(self, item: MediaItem, first: int, frames: int) -> ScheduledTask:
        destination = (self.arena.path, self.arena.bytes, first * self.arena.frame_bytes, frames)
        arguments = (destination, item, self._settings, *self._sizes)
        return self._processes.schedule(_decode_into, args=arguments, timeout=self._settings.timeout_s)

    def _collect_result(
        self, future: "ProcessFuture[Any]", item: MediaItem, room: tuple[int, int] | None
    ) -> Frames | Failed | _NeedsMoreFrames:
        try:
            result = future.result()
        except FutureTimeoutError:
            seconds = self._settings.timeout_s
            return Failed(item, f"still not decoded after {seconds:g} s: convert it, or raise --decode-timeout")
        except ProcessExpired as error:
            return Failed(item, f"the decoder crashed on it ({_exit_reason(error)}): convert it with another program")
        if not isinstance(result, _SharedFrames):
            return result  # type: ignore[no-any-return]
        assert room is not None
        pixels = self.arena.view(room[0], result.shape)
        return Frames(pixels, result.times_s, result.duration_s, result.flags, result.kind, result.source_size)

    def close(self) -> None:
        self._processes.close()
        self.arena.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _exit_reason(error: ProcessExpired) -> str:
    code = error.exitcode or 0
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


# In the worker

_M_ARENA_MAX = -8
_arenas: dict[str, mmap.mmap] = {}


def _init_worker(extra_memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    warnings.simplefilter("ignore")  # a decoder's mutterings; what matters is whether it fails
    if sys.platform == "linux":  # macOS refuses to bound what it has given addresses to, Windows has no such bound
        import resource

        if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
            mallopt(_M_ARENA_MAX, 2)  # glibc reserves 64 MiB of address space for each thread that FFmpeg starts
        limit = psutil.Process().memory_info().vms + extra_memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decode_into(
    destination: tuple[str, int, int, int],
    item: MediaItem,
    settings: DecodeSettings,
    size: Size,
    clip_size: Size,
) -> _SharedFrames | _NeedsMoreFrames | Failed:
    """destination: the arena's path and bytes, the offset to write at, and how many frames there is room for."""
    path, arena_bytes, offset, room = destination
    frames = decode(item, size, settings, clip_size)
    if isinstance(frames, Failed):
        return frames
    if len(frames.pixels) > room:
        return _NeedsMoreFrames(len(frames.pixels))
    if path not in _arenas:
        _arenas[path] = _map_memory(path, arena_bytes)
    np.ndarray(frames.pixels.shape, np.uint8, _arenas[path], offset)[:] = frames.pixels
    shape = frames.pixels.shape
    return _SharedFrames(shape, frames.times_s, frames.duration_s, frames.flags, frames.kind, frames.source_size)


# How workers start: from a server that has imported the decoders and nothing else, where there is fork.

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_base: Any = multiprocessing.get_context(_METHOD)


@contextmanager
def _hide_main_module() -> Iterator[None]:
    """Workers need nothing of the caller's main module, and running it anew there would start the run again."""
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
        context.set_forkserver_preload([__name__])
    return context
