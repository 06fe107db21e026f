"""What a browser shows of the media: thumbnails, pictures, clips, frames, made when asked for and kept in a cache.

The cache lies outside the dataset, since trainers take whatever media lie inside.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import TimeoutError as OutOfTime
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
from ..media.pool import GIB, Processes
from ..media.settings import DecodeSettings
from . import renditions
from .guard import MEDIA_SUFFIXES, contained
from .library import Library

TYPES = {  # what browsers show as it is
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif",
    ".avif": "image/avif",
}  # fmt: skip
_MOVING = (".gif", ".webp", ".avif", ".png")  # may be animated, so that a still would not do
_CLIP_TYPES = {".webm": "video/webm", ".mkv": "video/x-matroska"}
_AS_IT_IS_BYTES, _MOVING_BYTES = 1 << 20, 16 << 20  # of larger ones a smaller picture is sent
_CACHE_BYTES = 4 * GIB
_TIMEOUT_S = {"clip": 600.0}


@dataclass(frozen=True, slots=True)
class Shown:
    """A file to send, as what."""

    path: Path
    type: str


class _LatestFirst:
    """Room for so many at once; who asked last goes first: it is what a person who scrolls is looking at."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def turn(self) -> Any:
        if self._room:
            self._room -= 1
        else:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        try:
            yield
        finally:
            while self._waiting and self._waiting[-1].done():  # gave up
                self._waiting.pop()
            if self._waiting:
                self._waiting.pop().set_result(None)
            else:
                self._room += 1


class Media:
    """All of it raises `ItemError` for what cannot be shown, with the reason, and `LookupError` for no such number."""

    def __init__(self, library: Library, settings: DecodeSettings, workers: int, cache: Path | None = None) -> None:
        self._library = library
        self.cache = cache or platformdirs.user_cache_path("gemma-captioner") / "review"
        self._processes = Processes(workers, int(settings.memory_gib * GIB))
        self._turns = _LatestFirst(workers)
        self._clips = _LatestFirst(max(1, workers - 1))  # one is left for pictures, however long a clip takes
        self._going: dict[Path, asyncio.Task[Any]] = {}
        self._played: set[Path] = set()  # clips that a browser plays as they are
        _prune(self.cache)

    def close(self) -> None:
        self._processes.close()

    async def thumb(self, number: int) -> Shown:
        return Shown(await self._made(number, "thumb"), "image/jpeg")

    async def picture(self, number: int) -> Shown:
        path = self._path(number)
        most = _MOVING_BYTES if path.suffix.lower() in _MOVING else _AS_IT_IS_BYTES
        if (type := TYPES.get(path.suffix.lower())) and path.stat().st_size <= most:
            return Shown(path, type)
        return Shown(await self._made(number, "picture"), "image/jpeg")

    async def clip(self, number: int) -> Shown:
        """It may take a while where the browser cannot play the clip as it is."""
        path = self._path(number)
        made = self._place(number, "clip")
        if made not in self._played and not made.exists() and await self._made(number, "clip", result=True):
            self._played.add(made)
        if made in self._played:
            return Shown(path, _CLIP_TYPES.get(path.suffix.lower(), "video/mp4"))
        return Shown(made, "video/mp4")

    async def strip(self, number: int, settings: DecodeSettings) -> tuple[Shown, list[float]]:
        """The frames that a model sees, side by side, and their times in seconds."""
        path = await self._made(number, "strip", settings)
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Shown(path, "image/jpeg"), told["times_s"]

    def _path(self, number: int) -> Path:
        if not 0 <= number < len(self._library.entries):
            raise LookupError(number)
        entry = self._library[number]
        if not entry.is_there:
            raise LookupError(number)
        return contained(entry.item.path, self._library.root.folder, MEDIA_SUFFIXES)

    def _place(self, number: int, what: str, *how: Any) -> Path:
        path = self._path(number)
        try:
            said = f"{path}\n{fingerprint(path)}\n{what}\n{how}"
        except OSError as error:
            raise ItemError(f"it cannot be read ({error.strerror})") from error
        key = hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.cache / key[:2] / f"{key}.{'mp4' if what == 'clip' else 'jpg'}"

    async def _made(self, number: int, what: str, *how: Any, result: bool = False) -> Any:
        """The path of what the function of renditions.py makes; or what it returns, where that is the `result`."""
        place = self._place(number, what, *how)
        if not result and place.exists():
            return place
        if place not in self._going:
            item = renditions.opened(self._library[number].item, self._path(number))
            work = self._work(getattr(renditions, what), (item, place, *how), _TIMEOUT_S.get(what, 60.0))
            self._going[place] = asyncio.create_task(work)
            self._going[place].add_done_callback(lambda task: self._going.pop(place, None))
        answer = await asyncio.shield(self._going[place])
        return answer if result else place

    async def _work(self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float) -> Any:
        async with self._clips.turn() if function is renditions.clip else nullcontext(), self._turns.turn():
            schedule = partial(self._processes.schedule, function, args=arguments, timeout=timeout_s)
            try:
                try:
                    return await asyncio.wrap_future(schedule().future)
                except BrokenProcessPool:  # by another file, perhaps
                    return await asyncio.wrap_future(schedule().future)
            except OutOfTime:
                raise ItemError("it takes too long to decode: convert it") from None
            except OSError as error:
                raise ItemError(
                    f"it cannot be kept in {self.cache} ({error.strerror}): make room, or set XDG_CACHE_HOME"
                ) from error
            except (ProcessExpired, BrokenProcessPool):
                raise ItemError("the decoder crashed on it: convert it with another program") from None


def _prune(cache: Path) -> None:
    """The oldest go where there is too much."""
    files = sorted(((f.stat().st_mtime, f.stat().st_size, f) for f in cache.glob("??/*")), reverse=True)
    total = 0
    for _, size, file in files:
        total += size
        if total > _CACHE_BYTES:
            file.unlink(missing_ok=True)
