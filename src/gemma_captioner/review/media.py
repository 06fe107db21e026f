"""The media in a form that browsers display: thumbnails, pictures, clips and frames, made on demand and cached.

The cache is outside the dataset, because trainers load any media file inside it.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from PIL import Image

from ..dataset.containment import MEDIA_SUFFIXES, resolve_inside
from ..dataset.journal import fingerprint
from ..errors import ItemError
from ..media.settings import DecodeSettings
from ..media.workers import GIB, WorkerError, WorkerPool
from ..types import MediaItem
from . import thumbnails
from .facts import FrameStrip, MediaFacts, facts_from
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
_MAX_WRITE_S = 3600.0  # an older file whose name begins with a dot was left by a process that was killed
_SUFFIXES = {"clip": "mp4", "facts": "json", "waveform": "json"}  # of the files in the cache; others are JPEG
_VERSION = 3  # of what the functions of thumbnails.py write


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
            try:
                await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():  # it was given a slot before
                    self._release()
                raise
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
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

    async def thumb(self, number: int, source: int | None = None) -> MediaFile:
        return MediaFile(await self._render(await self._item(number, source), "thumb"), "image/jpeg")

    async def tile(self, number: int, source: int | None = None) -> MediaFile:
        """Return a larger thumbnail."""
        return MediaFile(await self._render(await self._item(number, source), "tile"), "image/jpeg")

    async def picture(self, number: int, source: int | None = None) -> MediaFile:
        """Return the image, or a smaller copy of a large one."""
        item = await self._item(number, source)
        suffix = item.path.suffix.lower()
        max_bytes = _MAX_ANIMATED_BYTES if suffix in _MAYBE_ANIMATED else _MAX_ORIGINAL_BYTES
        if (type := TYPES.get(suffix)) and item.path.stat().st_size <= max_bytes:
            return MediaFile(item.path, type)
        return MediaFile(await self._render(item, "picture"), "image/jpeg")

    async def full(self, number: int, source: int | None = None) -> MediaFile:
        """Return the image with all its pixels, to look at it closely."""
        item = await self._item(number, source)
        if type := TYPES.get(item.path.suffix.lower()):
            return MediaFile(item.path, type)
        return MediaFile(await self._render(item, "full"), "image/jpeg")

    async def clip(self, number: int, source: int | None = None) -> MediaFile:
        """Return the clip, converted if browsers cannot play it, which is slow."""
        item = await self._item(number, source)
        cached = self._cache_path(item, "clip")
        if cached not in self._playable and not cached.exists() and await self._render(item, "clip", result=True):
            self._playable.add(cached)
        if cached in self._playable:
            return MediaFile(item.path, _CLIP_TYPES.get(item.path.suffix.lower(), "video/mp4"))
        return MediaFile(cached, "video/mp4")

    async def frame_strip(self, number: int, settings: DecodeSettings) -> tuple[MediaFile, FrameStrip]:
        """Return the frames that a model sees, side by side in one image, and their times."""
        path = await self._render(await self._item(number), "frame_strip", settings)
        with Image.open(path) as strip:
            return MediaFile(path, "image/jpeg"), FrameStrip(**json.loads(strip.info["comment"]))

    async def facts(self, number: int) -> MediaFacts:
        return facts_from(_read_json(await self._render(await self._item(number), "facts")))

    async def waveform(self, number: int) -> list[float]:
        """Return the levels of a clip's sound in equal parts of its time, 0..1; [] if it has no sound."""
        levels: list[float] = _read_json(await self._render(await self._item(number), "waveform"))
        return levels

    async def _item(self, number: int, source: int | None = None) -> MediaItem:
        """Return the item, or that of its source image at this place, with its path resolved and checked."""
        if not 0 <= number < len(self._library.entries):
            raise LookupError(number)
        entry, folder = self._library[number], self._library.root.folder
        if not entry.exists:
            raise LookupError(number)
        item = entry.item
        if source is not None:
            sources = await asyncio.to_thread(self._library.sources.of, item)
            if not 0 <= source < len(sources):
                raise LookupError(source)
            folder, item = sources[source]
        return thumbnails.with_real_path(item, resolve_inside(item.path, folder, MEDIA_SUFFIXES))

    def _cache_path(self, item: MediaItem, rendition: str, *options: Any) -> Path:
        path = item.path
        try:
            key_text = f"{_VERSION}\n{path}\n{fingerprint(path)}\n{rendition}\n{options}"
        except OSError as error:
            raise ItemError(
                f"cannot read this file ({error.strerror}): check that it exists and is readable"
            ) from error
        key = hashlib.sha256(key_text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.cache / key[:2] / f"{key}.{_SUFFIXES.get(rendition, 'jpg')}"

    async def _render(self, item: MediaItem, rendition: str, *options: Any, result: bool = False) -> Any:
        """Run a function of thumbnails.py; return the path of its file or, with `result`, its return value."""
        path = self._cache_path(item, rendition, *options)
        if not result and path.exists():
            return path
        if path not in self._in_progress:
            work = self.run_in_process(
                getattr(thumbnails, rendition), (item, path, *options), _TIMEOUT_S.get(rendition, _DEFAULT_TIMEOUT_S)
            )
            self._in_progress[path] = asyncio.create_task(work)
            self._in_progress[path].add_done_callback(lambda task: self._in_progress.pop(path, None))
        answer = await asyncio.shield(self._in_progress[path])
        return answer if result else path

    async def run_in_process(self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float) -> Any:
        """Run a function in a worker process, which may crash. Raises `ItemError`."""
        async with (
            self._clip_decoders.acquire() if function is thumbnails.clip else nullcontext(),
            self._decoders.acquire(),
        ):
            task = self._processes.start(function, *arguments, timeout_s=timeout_s)
            while not task.done():
                await asyncio.gather(asyncio.wrap_future(task.future), return_exceptions=True)
            try:
                return task.result()
            except WorkerError as error:
                raise ItemError(str(error)) from None
            except OSError as error:
                raise ItemError(
                    f"cannot write to the cache {self.cache} ({error.strerror}): free space or set XDG_CACHE_HOME"
                ) from error


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _prune(cache: Path) -> None:
    """Remove the oldest files above the size limit. Other servers may use the cache, too."""
    files = []
    for file in cache.glob("??/*"):
        with suppress(FileNotFoundError):
            found = file.stat()
            if file.name[0] != "." or found.st_mtime < time.time() - _MAX_WRITE_S:
                files.append((found.st_mtime, found.st_size, file))
    total = 0
    for _, size, file in sorted(files, reverse=True):
        total += size
        if total > _CACHE_BYTES:
            file.unlink(missing_ok=True)
