"""Memory that decode workers write frames and sound into, so that they are never pickled."""

import math
import mmap
import os
import secrets
import sys
import tempfile
from typing import Any

import numpy as np

from ..types import Pixels, Samples


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
        self._memory = map_memory(self.path, self.bytes)

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
        return np.ndarray((count,), np.float32, self._memory, samples_offset(first * self.frame_bytes, shape))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()  # the mapping ends with the last array that uses it


def map_memory(path: str, size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size, tagname=path)
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), size)


def samples_offset(pixels_offset: int, shape: tuple[int, ...]) -> int:
    """Return the offset of the samples behind pixels of this shape, aligned for float32. # 10, (1, 2, 2, 3) -> 24"""
    return -(-(pixels_offset + math.prod(shape)) // 4) * 4
