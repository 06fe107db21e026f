"""The worst of a dataset, a card each: picture, caption, and what is wrong."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import pages
from ..captions.encoding import decode_text
from ..dataset.discover import EXTENSIONS
from ..media.pool import DecodePool, DecodeTask
from ..media.settings import DecodeSettings
from ..text import printable
from ..types import Frames, MediaItem, PatchBudget, max_frame_bytes
from .inspect import MAX_CAPTION_BYTES
from .rules import Finding, Rule
from .scan import DatasetScan
from .trainer_rules import RULES

_MAX_CARDS, _MAX_LETTERS = 24, 600
_THUMBNAIL = PatchBudget(800, 8)  # of so many squares of 8 pixels: about 260 x 195
_DECODE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    caption: str
    tags: list[tuple[str, Rule]]
    picture: str  # a data: URL, "" where there is none
    no_picture: str  # why


def cards(scan: DatasetScan, codes: Mapping[str, list[Finding]]) -> list[Card]:
    """The worst: one of each code after the other, so that a thousand of one kind hide no other."""
    queues = {code: iter(found) for code, found in codes.items()}
    worst: dict[str, None] = {}  # captions or media
    while queues and len(worst) < _MAX_CARDS:
        for code, queue in list(queues.items()):
            path = next((f.path for f in queue if f.path not in worst and _media_of(scan, f.path)), None)
            if path is None:
                del queues[code]
            elif len(worst) < _MAX_CARDS:
                worst[path] = None
    tags: dict[str, list[tuple[str, Rule]]] = {path: [] for path in worst}
    for code, found in codes.items():
        for finding in found:
            if finding.path in tags:
                tags[finding.path].append((code, RULES[code]))
    pictures = _pictures(scan, [_media_of(scan, path) for path in worst])
    return [
        Card(scan.short(path), _text(path) if path in scan.media_of else "", tags[path], *picture)
        for path, picture in zip(worst, pictures, strict=True)
    ]


def _media_of(scan: DatasetScan, path: str) -> str:
    """Of a caption or of itself; "" for a caption without, or a folder."""
    is_media = Path(path).suffix[1:].lower() in EXTENSIONS
    return scan.media_of.get(path, path if is_media else "")


def _text(caption: str) -> str:
    try:
        with Path(caption).open("rb") as file:
            text = decode_text(file.read(MAX_CAPTION_BYTES))[0] or ""
    except OSError:
        return ""
    return text if len(text) <= _MAX_LETTERS else f"{text[:_MAX_LETTERS]} ..."


def _pictures(scan: DatasetScan, media: list[str]) -> list[tuple[str, str]]:
    """(data: URL, why there is none), decoded where a broken file harms nothing."""
    if not media:
        return []
    settings = DecodeSettings(frames=1, timeout_s=_DECODE_TIMEOUT_S)
    pixel_bytes = len(media) * max_frame_bytes(_THUMBNAIL)
    with DecodePool(_THUMBNAIL, settings, clip_size=_THUMBNAIL, workers=2, pixel_bytes=pixel_bytes) as pool:
        tasks = [pool.start(_item(scan, Path(path))) for path in media]
        return [_picture(task) for task in tasks]


def _item(scan: DatasetScan, path: Path) -> MediaItem:
    kind = EXTENSIONS[path.suffix[1:].lower()]
    return MediaItem(path, kind, path.name, path.with_suffix(".txt"), scan.root.store)


def _picture(task: DecodeTask | None) -> tuple[str, str]:
    assert task is not None  # there is room for all
    while not task.done():
        time.sleep(0.01)
    frames = task.result()
    if not isinstance(frames, Frames):
        return "", printable(frames.error)
    return pages.jpeg_data_url(frames.pixels[0], frames.pixels.shape[2]), ""
