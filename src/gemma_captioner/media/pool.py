"""Decodes files in worker processes, as many ahead of use as fit into a limit of memory."""

import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from ..types import Audio, Failed, Frames, MediaItem, Size, max_audio_bytes, max_frame_bytes
from .decode import decode
from .settings import DecodeSettings
from .shared_memory import SharedMemoryArena, map_memory, samples_offset
from .workers import GIB, WorkerError, WorkerPool, WorkerTask, limit_address_space


@dataclass(frozen=True, slots=True)
class _SharedFrames:
    """`Frames` whose pixels are in shared memory, followed by the samples of their sound."""

    shape: tuple[int, ...]
    samples: int  # 0: no sound
    metadata: dict[str, Any]  # the other fields of `Frames`


@dataclass(frozen=True, slots=True)
class _NeedsMoreFrames:
    """An image file is animated: it needs this many frames, and only one was allocated."""

    frames: int


@dataclass(slots=True)
class _DecodingFile:
    """One file of a `DecodeTask`. first: its first frame in the arena, once it is scheduled."""

    item: MediaItem
    frames: int  # allocated
    first: int = 0
    task: "WorkerTask | None" = None
    result: "Frames | Failed | _NeedsMoreFrames | None" = None


class DecodeTask:
    """Files being decoded together. After `done`, `results` returns them; `release` frees their pixels.

    They share one allocation, and if one of them needs more frames, they give it back and wait for a larger one. So no
    task waits for memory while it holds some.
    """

    def __init__(self, pool: "DecodePool", items: Sequence[MediaItem], frames: Sequence[int], first: int) -> None:
        """frames: the number of frames for each item. first: the first frame of the allocation for all of them."""
        self._pool = pool
        self.was_done = False
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
            file.task = self._pool._submit(file.item, file.first, file.frames)
            first += file.frames

    def done(self) -> bool:
        """Whether all files are decoded. Only one thread may call it; `was_done` holds its last result."""
        if not self.was_done:
            self.was_done = self._poll()
        return self.was_done

    def _poll(self) -> bool:
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
            return self._poll()
        return True

    def _is_answered(self, file: _DecodingFile) -> bool:
        if file.result is None and file.task is not None and file.task.done():
            file.result = self._pool._collect_result(file.task, file.item, file.first)
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
        # The sound of a clip is stored in the space of further frames, after its own.
        self._clip_frames = settings.frames + -(-max_audio_bytes(settings.max_audio_s) // frame_bytes)
        frames = max(self._clip_frames * files_per_task, pixel_bytes // frame_bytes)
        self.arena = SharedMemoryArena(frames, frame_bytes, max_pixel_bytes // frame_bytes)
        remedy = "convert the file, or raise --decode-timeout"
        self._processes = WorkerPool(workers, int(settings.memory_gib * GIB), settings.timeout_s, remedy)

    def grow(self, pixel_bytes: int) -> None:
        """Raise the limit for the pixels of all files."""
        self.arena.grow(pixel_bytes // self.arena.frame_bytes)

    def start(self, *items: MediaItem) -> DecodeTask | None:
        """Start decoding files together. Returns None if there is no room for the pixels now."""
        frames = [self._clip_frames if item.kind == "clip" else 1 for item in items]
        first = self.arena.allocate(sum(frames))
        return None if first is None else DecodeTask(self, items, frames, first)

    def _submit(self, item: MediaItem, first: int, frames: int) -> WorkerTask:
        destination = (self.arena.path, self.arena.bytes, first * self.arena.frame_bytes, frames)
        return self._processes.start(_decode_into, destination, item, self._settings, *self._sizes)

    def _collect_result(self, task: WorkerTask, item: MediaItem, first: int) -> Frames | Failed | _NeedsMoreFrames:
        try:
            result = task.result()
        except WorkerError as error:
            return Failed(item, str(error))
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


# Code that runs in the workers

_arenas: dict[str, mmap.mmap] = {}


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
        limit_address_space(extra=arena_bytes)  # a mapped arena is not memory that the decoder took
        _arenas[path] = map_memory(path, arena_bytes)
    shape, samples = frames.pixels.shape, 0
    np.ndarray(shape, np.uint8, _arenas[path], offset)[:] = frames.pixels
    if frames.audio is not None:
        samples = len(frames.audio.samples)
        np.ndarray((samples,), np.float32, _arenas[path], samples_offset(offset, shape))[:] = frames.audio.samples
    others = {field.name for field in fields(frames)} - {"pixels", "audio"}
    return _SharedFrames(shape, samples, {name: getattr(frames, name) for name in others})
