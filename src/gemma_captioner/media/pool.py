"""Decodes files in worker processes, so that a file that crashes, hangs or exhausts memory fails alone.

pebble manages the processes, and replaces one that dies or times out. Workers write pixels and sound into shared memory
at an offset that the parent assigns, so they are never pickled.
"""

import ctypes
import math
import mmap
import multiprocessing
import os
import secrets
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, Self
from weakref import WeakSet

import numpy as np
import psutil
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from ..types import Audio, Failed, Frames, MediaItem, Pixels, Samples, Size, max_audio_bytes, max_frame_bytes
from . import native_log
from .decode import decode
from .settings import DecodeSettings

GIB = 1 << 30
_MAX_RETRIES = 3  # for a file whose worker pool broke down


class SharedMemoryArena:
    """Shared memory for frames of one size. Workers map it by its path.

    Linux uses a memfd: it leaves no file behind, ends with the process, and is not limited by the small /dev/shm of a
    container. Windows uses named memory, because other processes cannot open a temporary file there. Other systems use
    a temporary file.
    """

    def __init__(self, frames: int, frame_bytes: int, max_frames: int = 0) -> None:
        """Make room for `frames`. `grow` allows up to `max_frames`, which take address space but no memory yet."""
        self.bytes = max(frames, max_frames) * frame_bytes
        self._frames = frames
        self.frame_bytes = frame_bytes
        self._free_ranges = [(0, frames)]  # (first frame, number of frames), rising, never adjacent
        self._file: Any = None
        if sys.platform == "win32":
            self.path = f"gemma-captioner-{os.getpid()}-{secrets.token_hex(4)}"
        elif hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("gemma-captioner"), "r+b")
            self.path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile(prefix="gemma-captioner-")  # noqa: SIM115  # open until close()
            self.path = self._file.name
        if self._file is not None:
            self._file.truncate(self.bytes)
        self._memory = _map_memory(self.path, self.bytes)

    def allocate(self, frames: int) -> int | None:
        """Reserve adjacent frames. Returns the index of the first, or None if no gap is large enough now."""
        for i, (first, count) in enumerate(self._free_ranges):
            if count >= frames:
                self._free_ranges[i : i + 1] = [(first + frames, count - frames)] if count > frames else []
                return first
        return None

    def grow(self, frames: int) -> None:
        """Make room for this many frames in all, as far as the address space allows."""
        frames = min(frames, self.bytes // self.frame_bytes)
        if frames > self._frames:
            self.release(self._frames, frames - self._frames)
            self._frames = frames

    def release(self, first: int, frames: int) -> None:
        """Free frames that `allocate` reserved."""
        free_ranges: list[tuple[int, int]] = []
        for at, count in sorted([*self._free_ranges, (first, frames)]):
            if free_ranges and sum(free_ranges[-1]) == at:
                free_ranges[-1] = (free_ranges[-1][0], free_ranges[-1][1] + count)
            else:
                free_ranges.append((at, count))
        self._free_ranges = free_ranges

    def view(self, first: int, shape: tuple[int, ...]) -> Pixels:
        return np.ndarray(shape, np.uint8, self._memory, first * self.frame_bytes)

    def samples(self, first: int, shape: tuple[int, ...], count: int) -> Samples:
        """Return the samples behind pixels of this shape."""
        return np.ndarray((count,), np.float32, self._memory, _samples_offset(first * self.frame_bytes, shape))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()  # the mapping ends with the last array that uses it


def _map_memory(path: str, size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size, tagname=path)
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), size)


@dataclass(frozen=True, slots=True)
class _SharedFrames:
    """`Frames` whose pixels are in shared memory, with the samples of their sound behind them."""

    shape: tuple[int, ...]
    samples: int  # 0: no sound
    metadata: dict[str, Any]  # the other fields of `Frames`


@dataclass(frozen=True, slots=True)
class _NeedsMoreFrames:
    """An image file is animated: it needs this many frames, and only one was allocated."""

    frames: int


def _samples_offset(pixels_offset: int, shape: tuple[int, ...]) -> int:
    """Return the offset of the samples behind pixels of this shape, aligned for float32. # 10, (1, 2, 2, 3) -> 24"""
    return -(-(pixels_offset + math.prod(shape)) // 4) * 4


@dataclass(slots=True)
class _DecodingFile:
    """One file of a `DecodeTask`. first: its first frame in the arena, once it is scheduled."""

    item: MediaItem
    frames: int  # allocated
    first: int = 0
    scheduled: "ScheduledTask | None" = None
    pool_failures: int = 0
    result: "Frames | Failed | _NeedsMoreFrames | None" = None


class DecodeTask:
    """Files being decoded together. After `done`, `results` returns them; `release` frees their pixels.

    They share one allocation, and if one of them needs more frames, they give it back and wait for a larger one. So no
    task waits for memory while it holds some.
    """

    def __init__(self, pool: "DecodePool", items: Sequence[MediaItem], frames: Sequence[int], first: int) -> None:
        """frames: the number of frames for each item. first: the first frame of the allocation for all of them."""
        self._pool = pool
        self._files = [_DecodingFile(item, count) for item, count in zip(items, frames, strict=True)]
        self._schedule(first)

    @property
    def _frames(self) -> int:
        return sum(file.frames for file in self._files)

    def _schedule(self, first: int) -> None:
        self._allocation: tuple[int, int] | None = (first, self._frames)
        self._waits_for_memory = False
        for file in self._files:
            file.first, file.result = first, None
            file.scheduled = self._pool._submit(file.item, file.first, file.frames)
            first += file.frames

    def done(self) -> bool:
        if self._waits_for_memory:
            if (first := self._pool.arena.allocate(self._frames)) is not None:
                self._schedule(first)
            return False
        if not all([self._is_answered(file) for file in self._files]):  # a list: each of them is polled
            return False
        larger = [file for file in self._files if isinstance(file.result, _NeedsMoreFrames)]
        for file in larger:
            assert isinstance(file.result, _NeedsMoreFrames)
            file.frames = file.result.frames
        if larger:
            self.release()
            self._waits_for_memory = True
            return self.done()
        return True

    def _is_answered(self, file: _DecodingFile) -> bool:
        if file.result is not None:
            return True
        assert file.scheduled is not None
        if file.scheduled.is_lost() and self._allocation is not None:
            if file.pool_failures == _MAX_RETRIES:
                crashes = f"the decoder processes crashed {_MAX_RETRIES + 1} times while reading it"
                file.result = Failed(file.item, f"{crashes}: run the command again")
                return True
            file.pool_failures += 1
            file.scheduled = self._pool._submit(file.item, file.first, file.frames)
        if file.scheduled.future.done():
            file.result = self._pool._collect_result(file.scheduled.future, file.item, file.first)
        return file.result is not None

    def results(self) -> list[Frames | Failed]:
        """One for each item, in order."""
        results = [file.result for file in self._files if isinstance(file.result, Frames | Failed)]
        assert len(results) == len(self._files)
        return results

    def result(self) -> Frames | Failed:
        """The result of the first item."""
        return self.results()[0]

    def wait(self) -> Frames | Failed:
        """Wait until it is done, and return the result of the first item."""
        while not self.done():
            time.sleep(0.01)
        return self.result()

    def release(self) -> None:
        if self._allocation is not None:
            self._pool.arena.release(*self._allocation)
            self._allocation = None


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


class DecodePool:
    """Decodes files ahead of use, as many as fit in `pixel_bytes`."""

    def __init__(
        self,
        size: Size,
        settings: DecodeSettings,
        *,
        clip_size: Size,
        workers: int,
        pixel_bytes: int,
        max_pixel_bytes: int = 0,
        files_per_task: int = 1,
    ) -> None:
        """Start the workers.

        Args:
            size: The frame size of images.
            settings: The settings of the decoders.
            clip_size: The frame size of clips.
            workers: The number of processes.
            pixel_bytes: The limit for the pixels and the sound of all files.
            max_pixel_bytes: The limit up to which `grow` may raise it.
            files_per_task: The most files that `start` gets at once. There is always room for them.
        """
        self._settings = settings
        self._sizes = (size, clip_size)
        frame_bytes = max(max_frame_bytes(size), max_frame_bytes(clip_size))
        # Sound takes the place of frames, behind those of its clip.
        self._clip_frames = settings.frames + -(-max_audio_bytes(settings.max_audio_s) // frame_bytes)
        frames = max(self._clip_frames * files_per_task, pixel_bytes // frame_bytes)
        self.arena = SharedMemoryArena(frames, frame_bytes, max_pixel_bytes // frame_bytes)
        self._processes = WorkerPool(workers, int(settings.memory_gib * GIB))

    def grow(self, pixel_bytes: int) -> None:
        """Raise the limit for the pixels of all files."""
        self.arena.grow(pixel_bytes // self.arena.frame_bytes)

    def start(self, *items: MediaItem) -> DecodeTask | None:
        """Start decoding files together. Returns None if there is no room for the pixels now."""
        frames = [self._clip_frames if item.kind == "clip" else 1 for item in items]
        first = self.arena.allocate(sum(frames))
        return None if first is None else DecodeTask(self, items, frames, first)

    def _submit(self, item: MediaItem, first: int, frames: int) -> ScheduledTask:
        destination = (self.arena.path, self.arena.bytes, first * self.arena.frame_bytes, frames)
        arguments = (destination, item, self._settings, *self._sizes)
        return self._processes.schedule(_decode_into, args=arguments, timeout=self._settings.timeout_s)

    def _collect_result(
        self, future: "ProcessFuture[Any]", item: MediaItem, first: int
    ) -> Frames | Failed | _NeedsMoreFrames:
        try:
            result = future.result()
        except FutureTimeoutError:
            seconds = self._settings.timeout_s
            return Failed(
                item, f"decoding did not finish within {seconds:g} s: convert the file, or raise --decode-timeout"
            )
        except ProcessExpired as error:
            return Failed(item, f"the decoder crashed ({_exit_reason(error)}): convert the file with another program")
        if not isinstance(result, _SharedFrames):
            return result  # type: ignore[no-any-return]
        pixels = self.arena.view(first, result.shape)
        samples = self.arena.samples(first, result.shape, result.samples) if result.samples else None
        return Frames(pixels, audio=None if samples is None else Audio(samples), **result.metadata)

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


# Code that runs in the workers

_M_ARENA_MAX = -8
_arenas: dict[str, mmap.mmap] = {}


def _init_worker(memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    warnings.simplefilter("ignore")  # decoder warnings are noise; only failures count
    native_log.install()
    if sys.platform == "linux":
        import resource

        if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
            mallopt(_M_ARENA_MAX, 2)  # otherwise glibc reserves 64 MiB of address space per FFmpeg thread
        _limit_address_space(psutil.Process().memory_info().vms + memory)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_address_space(limit: int | None = None, *, extra: int = 0) -> None:
    """Set the limit of this process to `limit` bytes, or raise it by `extra`."""
    if sys.platform == "linux":  # macOS rejects a limit below the mapped size; Windows has none
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = (soft if limit is None else limit) + extra
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _decode_into(
    destination: tuple[str, int, int, int], item: MediaItem, settings: DecodeSettings, size: Size, clip_size: Size
) -> _SharedFrames | _NeedsMoreFrames | Failed:
    """destination: path and size of the arena, offset to write at, and number of allocated frames."""
    path, arena_bytes, offset, max_frames = destination
    frames = decode(item, size, settings, clip_size)
    if isinstance(frames, Failed):
        return frames
    if len(frames.pixels) > max_frames:
        return _NeedsMoreFrames(len(frames.pixels))
    if path not in _arenas:
        _limit_address_space(extra=arena_bytes)  # a mapped arena is not memory that the decoder took
        _arenas[path] = _map_memory(path, arena_bytes)
    shape, samples = frames.pixels.shape, 0
    np.ndarray(shape, np.uint8, _arenas[path], offset)[:] = frames.pixels
    if frames.audio is not None:
        samples = len(frames.audio.samples)
        np.ndarray((samples,), np.float32, _arenas[path], _samples_offset(offset, shape))[:] = frames.audio.samples
    others = {field.name for field in fields(frames)} - {"pixels", "audio"}
    return _SharedFrames(shape, samples, {name: getattr(frames, name) for name in others})


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
        context.set_forkserver_preload([__name__])
    return context
