"""Cards for the report page: a sample of files with findings, each with thumbnail, caption and findings."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

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

_MAX_CARDS, _MAX_CHARACTERS = 24, 600
_THUMBNAIL = PatchBudget(800, 8)  # up to 800 squares of 8 x 8 pixels, about 260 x 195
_FRAMES, _MAX_STRIP = 3, 480  # frames of a clip; pixels of their width together
_DECODE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    caption: str
    tags: list[tuple[str, Rule]]
    pictures: list[tuple[str, str]]  # of the file, and of its near-duplicate: (data: URL, "") or ("", error)


def cards(scan: DatasetScan, codes: Mapping[str, list[Finding]]) -> list[Card]:
    """Take files from each code in turn, so that one frequent code does not hide the others."""
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
    others: dict[str, str] = {}
    for code, found in codes.items():
        for finding in found:
            if finding.path in tags:
                tags[finding.path].append((code, scan.rules[code]))
                if finding.other:
                    others.setdefault(finding.path, finding.other)
    shown = {path: [_media_of(scan, path), *([others[path]] if path in others else [])] for path in worst}
    pictures = _pictures(scan, list(dict.fromkeys(chain(*shown.values()))))
    return [
        Card(
            scan.short(path),
            _text(path) if path in scan.media_of else "",
            tags[path],
            [pictures[media] for media in shown[path]],
        )
        for path in worst
    ]


def _media_of(scan: DatasetScan, path: str) -> str:
    """The media file of a caption or media path; "" for a folder or a caption without media."""
    is_media = Path(path).suffix[1:].lower() in EXTENSIONS
    return scan.media_of.get(path, path if is_media else "")


def _text(caption: str) -> str:
    try:
        with Path(caption).open("rb") as file:
            text = decode_text(file.read(MAX_CAPTION_BYTES))[0] or ""
    except OSError:
        return ""
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} ..."


def _pictures(scan: DatasetScan, media: list[str]) -> dict[str, tuple[str, str]]:
    """Media path -> (data: URL, error). Decodes in worker processes, because files may be broken."""
    if not media:
        return {}
    settings = DecodeSettings(frames=_FRAMES, timeout_s=_DECODE_TIMEOUT_S)
    pixel_bytes = _FRAMES * len(media) * max_frame_bytes(_THUMBNAIL)
    with DecodePool(_THUMBNAIL, settings, clip_size=_THUMBNAIL, workers=2, pixel_bytes=pixel_bytes) as pool:
        items = [
            MediaItem(path, EXTENSIONS[path.suffix[1:].lower()], path.name, path.with_suffix(".txt"), scan.root.store)
            for path in map(Path, media)
        ]
        tasks = [pool.start(item) for item in items]
        return {path: _picture(task) for path, task in zip(media, tasks, strict=True)}


def _picture(task: DecodeTask | None) -> tuple[str, str]:
    assert task is not None  # the pool has room for all
    frames = task.wait()
    if not isinstance(frames, Frames):
        return "", printable(frames.error)
    strip = np.hstack(list(frames.pixels))
    return pages.jpeg_data_url(strip, min(strip.shape[1], _MAX_STRIP)), ""
