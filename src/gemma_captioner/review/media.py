"""The media in a form that browsers display: thumbnails, pictures, clips and frames, made on demand and cached.

The cache is outside the dataset, because trainers load any media file inside it.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
from pebble import ProcessExpired

from ..dataset.journal import fingerprint
from ..errors import ItemError
from ..media.settings import DecodeSettings
from ..media.workers import GIB, WorkerPool
from . import thumbnails
from .guard import MEDIA_SUFFIXES, resolve_inside
from .library import Library

TYPES = {  # formats that browsers display directly
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif",
    ".avif": "image/avif",
}  # fmt: skip
_MAYBE_ANIMATED = (".gif", ".webp", ".avif", ".png")  # a still image may not replace these
_CLIP_TYPES = {".webm": "video/webm", ".mkv": "video/x-matroska"}
_MAX_ORIGINAL_BYTES, _MAX_ANIMATED_BYTES = 1 << 20, 16 << 20  # larger files are sent as a smaller JPEG
_CACHE_BYTES = 4 * GIB
_DEFAULT_TIMEOUT_S = 60.0
_TIMEOUT_S = {"clip": 600.0}


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file to send. type: its MIME type."""

    path: Path
    type: str


class _LifoSemaphore:
    """A semaphore that serves the latest waiter first: while scrolling, the latest request is for what is visible."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._waiters: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def acquire(self) -> Any:
        if self._slots:
            self._slots -= 1
        else:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        try:
            yield
        finally:
            while self._waiters and self._waiters[-1].done():  # canceled
                self._waiters.pop()
            if self._waiters:
                self._waiters.pop().set_result(None)
            else:
                self._slots += 1


class Media:
    """All methods raise `ItemError` for a file that cannot be displayed and `LookupError` for an unknown number."""

    def __init__(self, library: Library, settings: DecodeSettings, workers: int, cache: Path | None = None) -> None:
        self._library = library
        self.cache = cache or platformdirs.user_cache_path("gemma-captioner") / "review"
        self._processes = WorkerPool(workers, int(settings.memory_gib * GIB), _DEFAULT_TIMEOUT_S)
        self._decoders = _LifoSemaphore(workers)
        self._clip_decoders = _LifoSemaphore(max(1, workers - 1))  # one stays free for pictures
        self._in_progress: dict[Path, asyncio.Task[Any]] = {}
        self._playable: set[Path] = set()  # cache paths of clips that browsers play without conversion
        _prune(self.cache)

    def close(self) -> None:
        self._processes.close()

    async def thumb(self, number: int) -> MediaFile:
        return MediaFile(await self._render(number, "thumb"), "image/jpeg")

    async def tile(self, number: int) -> MediaFile:
        """Return a larger thumbnail."""
        return MediaFile(await self._render(number, "tile"), "image/jpeg")

    async def picture(self, number: int) -> MediaFile:
        path = self._path(number)
        max_bytes = _MAX_ANIMATED_BYTES if path.suffix.lower() in _MAYBE_ANIMATED else _MAX_ORIGINAL_BYTES
        if (type := TYPES.get(path.suffix.lower())) and path.stat().st_size <= max_bytes:
            return MediaFile(path, type)
        return MediaFile(await self._render(number, "picture"), "image/jpeg")

    async def clip(self, number: int) -> MediaFile:
        """Return the clip, converted if browsers cannot play it, which is slow."""
        path = self._path(number)
        cached = self._cache_path(number, "clip")
        if cached not in self._playable and not cached.exists() and await self._render(number, "clip", result=True):
            self._playable.add(cached)
        if cached in self._playable:
            return MediaFile(path, _CLIP_TYPES.get(path.suffix.lower(), "video/mp4"))
        return MediaFile(cached, "video/mp4")

    async def frame_strip(self, number: int, settings: DecodeSettings) -> tuple[MediaFile, list[float]]:
        """Return the frames that a model sees, side by side in one image, and their times in seconds."""
        path = await self._render(number, "frame_strip", settings)
        metadata = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return MediaFile(path, "image/jpeg"), metadata["times_s"]

    def _path(self, number: int) -> Path:
        if not 0 <= number < len(self._library.entries):
            raise LookupError(number)
        entry = self._library[number]
        if not entry.exists:
            raise LookupError(number)
        return resolve_inside(entry.item.path, self._library.root.folder, MEDIA_SUFFIXES)

    def _cache_path(self, number: int, rendition: str, *options: Any) -> Path:
        path = self._path(number)
        try:
            key_text = f"{path}\n{fingerprint(path)}\n{rendition}\n{options}"
        except OSError as error:
            raise ItemError(
                f"cannot read this file ({error.strerror}): check that it exists and is readable"
            ) from error
        key = hashlib.sha256(key_text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.cache / key[:2] / f"{key}.{'mp4' if rendition == 'clip' else 'jpg'}"

    async def _render(self, number: int, rendition: str, *options: Any, result: bool = False) -> Any:
        """Run a function of thumbnails.py; return the path of its file or, with `result`, its return value."""
        place = self._cache_path(number, rendition, *options)
        if not result and place.exists():
            return place
        if place not in self._in_progress:
            item = thumbnails.with_real_path(self._library[number].item, self._path(number))
            work = self.run_in_process(
                getattr(thumbnails, rendition), (item, place, *options), _TIMEOUT_S.get(rendition, _DEFAULT_TIMEOUT_S)
            )
            self._in_progress[place] = asyncio.create_task(work)
            self._in_progress[place].add_done_callback(lambda task: self._in_progress.pop(place, None))
        answer = await asyncio.shield(self._in_progress[place])
        return answer if result else place

    async def run_in_process(self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float) -> Any:
        """Run a function in a worker process, which may crash. Raises `ItemError`."""
        async with (
            self._clip_decoders.acquire() if function is thumbnails.clip else nullcontext(),
            self._decoders.acquire(),
        ):
            schedule = partial(self._processes.schedule, function, arguments, timeout_s)
            try:
                try:
                    return await asyncio.wrap_future(schedule()[0])
                except BrokenProcessPool:  # another file may have crashed the worker
                    return await asyncio.wrap_future(schedule()[0])
            except FutureTimeoutError:
                raise ItemError("decoding took too long: convert the file with another program") from None
            except OSError as error:
                raise ItemError(
                    f"cannot write to the cache {self.cache} ({error.strerror}): free space or set XDG_CACHE_HOME"
                ) from error
            except (ProcessExpired, BrokenProcessPool):
                raise ItemError("the decoder crashed on this file: convert it with another program") from None


def _prune(cache: Path) -> None:
    """Remove the oldest files above the size limit."""
    files = sorted(((f.stat().st_mtime, f.stat().st_size, f) for f in cache.glob("??/*")), reverse=True)
    total = 0
    for _, size, file in files:
        total += size
        if total > _CACHE_BYTES:
            file.unlink(missing_ok=True)
