"""Sizes of the media, for terms such as `size<512`. Read from the headers when a term first asks for them.

`read_chunk` runs in worker processes: a header may crash a decoder.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from ..dataset.containment import MEDIA_SUFFIXES, resolve_inside
from ..errors import ItemError
from ..media.color import upright_size
from ..media.container import open_container
from ..media.header import read_header
from ..media.probe import probe
from ..media.video import video_stream
from ..types import MediaItem
from .library import Library, ReviewItem
from .terms import PixelSize
from .thumbnails import with_real_path

_CHUNK = 64  # files per call of a worker
_CHUNK_TIMEOUT_S, _FILE_TIMEOUT_S = 120.0, 30.0
RunInProcess = Callable[
    [Callable[..., list[PixelSize | None]], tuple[list[MediaItem]], float], Awaitable[list[PixelSize | None]]
]


class PixelSizes:
    """known: the sizes by item number. A file that cannot be read has none."""

    def __init__(self, library: Library, run: RunInProcess) -> None:
        """run: runs a function in a worker process: (function, its arguments, seconds until it fails)."""
        self.known: dict[int, PixelSize] = {}
        self._library, self._run = library, run
        self._tried: set[int] = set()

    def missing(self, entries: Iterable[ReviewItem]) -> list[int]:
        return [entry.number for entry in entries if entry.number not in self._tried]

    def forget(self) -> None:
        self.known.clear()
        self._tried.clear()

    async def read(self, numbers: Sequence[int], on_progress: Callable[[int], None]) -> None:
        """Read the sizes of these items. on_progress: called with how many are done."""
        for first in range(0, len(numbers), _CHUNK):
            chunk = numbers[first : first + _CHUNK]
            items = {number: item for number in chunk if (item := self._item(number)) is not None}
            try:
                sizes = await self._run(read_chunk, (list(items.values()),), _CHUNK_TIMEOUT_S)
            except ItemError:  # one of the files crashed the worker
                sizes = [await self._read_one(item) for item in items.values()]
            self.known.update((number, size) for number, size in zip(items, sizes, strict=True) if size is not None)
            self._tried.update(chunk)
            on_progress(first + len(chunk))

    async def _read_one(self, item: MediaItem) -> PixelSize | None:
        try:
            return (await self._run(read_chunk, ([item],), _FILE_TIMEOUT_S))[0]
        except ItemError:
            return None

    def _item(self, number: int) -> MediaItem | None:
        """The item with its path resolved; None if it leads out of the folder."""
        item = self._library[number].item
        try:
            return with_real_path(item, resolve_inside(item.path, self._library.root.folder, MEDIA_SUFFIXES))
        except ItemError:
            return None


def read_chunk(items: list[MediaItem]) -> list[PixelSize | None]:
    """Return the sizes in the order of the items, None for a file that cannot be read."""
    return [_read(item) for item in items]


def _read(item: MediaItem) -> PixelSize | None:
    try:
        return _HEADERS[item.kind](item.path)
    except Exception:  # a header that cannot be read: decode the file as for a run
        try:
            found = probe(item)
        except ItemError:
            return None
        return PixelSize(found.width, found.height, found.frames / found.fps if found.fps else 0.0)


def _image(path: Path) -> PixelSize:
    header = read_header(path)
    if header is None:
        raise ValueError("no header that Pillow reads")
    return PixelSize(*header.upright_size)


def _clip(path: Path) -> PixelSize:
    with open_container(path) as container:
        stream = video_stream(container)
        if not stream.duration or not stream.time_base:
            raise ValueError("no duration")
        frame = next(container.decode(stream))
        seconds = float(stream.duration * stream.time_base)
        return PixelSize(*upright_size(frame, stream.sample_aspect_ratio), seconds)


_HEADERS = {"image": _image, "clip": _clip}
