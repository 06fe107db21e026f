"""What a survey found, as an HTML page: what matters first, and no larger for a hundred thousand findings."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import pages
from ..captions.encoding import decoded
from ..captions.limits import LIMITS
from ..media.discover import EXTENSIONS
from ..media.pool import DecodePool, Decoding
from ..records import Frames, MediaItem, PatchBudget, most_bytes
from ..report import printable
from ..settings import Reading, Sampling
from .codes import Code, Finding
from .inspect import MOST_BYTES
from .survey import Survey
from .traps import CODES

_FILES_A_CODE, _CARDS, _LETTERS = 20, 24, 600
_MOST_BARS = 24
_THUMBNAIL = PatchBudget(800, 8)  # of so many squares of 8 pixels: about 260 x 195
_DECODE_S = 20.0


def page_of(survey: Survey) -> str:
    codes = by_code(survey.findings)
    audit, reader = survey.audit, survey.checking.reader
    return pages.page(
        "check.html",
        title=f"Check of {printable(survey.root.folder)}",
        survey=survey,
        reader=reader,
        most=LIMITS[reader].most if reader else None,
        exact=survey.count_tokens is not None,
        codes=[
            (name, CODES[name], len(found), [_row(survey, f) for f in found[:_FILES_A_CODE]])
            for name, found in codes.items()
        ],
        bars=bars(audit.lengths, LIMITS[reader].most if reader else None),
        longest=max(audit.lengths, default=0),
        over=sum(n for length, n in audit.lengths.items() if reader and length > LIMITS[reader].most),
        openings=_most_common(audit.openings, audit.captions),
        words=_most_common(audit.words, audit.captions),
        cards=_cards(survey, codes),
    )


def by_code(findings: Iterable[Finding]) -> Mapping[str, list[Finding]]:
    """In the order of the table: errors first."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.code, []).append(finding)
    order = sorted(CODES, key=lambda code: CODES[code].severity != "error")
    return {code: found[code] for code in order if code in found}


def short(survey: Survey, path: str) -> str:
    """The path within the dataset, or within --output."""
    for folder in (survey.root.folder, survey.root.captions):
        if Path(path).is_relative_to(folder):
            return printable(Path(path).relative_to(folder))
    return printable(Path(path))


def _row(survey: Survey, finding: Finding) -> tuple[str, str]:
    return short(survey, finding.path), printable(finding.what)


@dataclass(frozen=True, slots=True)
class Bar:
    """Captions of `first` to `last` tokens or words. height: 0 to 100, of the tallest. over: past the limit."""

    first: int
    last: int
    count: int
    height: float
    over: bool


def bars(lengths: Counter[int], most: int | None) -> list[Bar]:
    """At most two dozen, of a round width; a limit falls between two of them where it can.

    # lengths 3, 4, 4, 61, most 75 -> 1-5: 3, 6-10: 0, ..., 61-65: 1
    """
    if not lengths:
        return []
    top = max(lengths)
    width = next(w for e in range(9) for w in (10**e, 2 * 10**e, 5 * 10**e) if w * _MOST_BARS >= top)
    counts = [0] * max(1, math.ceil(top / width))
    for length, count in lengths.items():
        counts[max(0, length - 1) // width] += count
    tallest = max(counts)
    return [
        Bar(i * width + 1, (i + 1) * width, count, 100 * count / tallest, most is not None and i * width >= most)
        for i, count in enumerate(counts)
    ]


def _most_common(counts: Counter[str], captions: int) -> list[tuple[str, int, float]]:
    """(words, in how many captions, percent of all)."""
    return [(words, count, 100 * count / captions) for words, count in counts.most_common(10)]


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    caption: str
    tags: list[tuple[str, Code]]
    picture: str  # a data: URL, "" where there is none
    no_picture: str  # why


def _cards(survey: Survey, codes: Mapping[str, list[Finding]]) -> list[Card]:
    """The worst: one of each code after the other, so that a thousand of one kind hide no other."""
    queues = {code: iter(found) for code, found in codes.items()}
    worst: dict[str, None] = {}  # captions or media
    while queues and len(worst) < _CARDS:
        for code, queue in list(queues.items()):
            path = next((f.path for f in queue if f.path not in worst and _media_of(survey, f.path)), None)
            if path is None:
                del queues[code]
            elif len(worst) < _CARDS:
                worst[path] = None
    tags: dict[str, list[tuple[str, Code]]] = {path: [] for path in worst}
    for code, found in codes.items():
        for finding in found:
            if finding.path in tags:
                tags[finding.path].append((code, CODES[code]))
    pictures = _pictures(survey, [_media_of(survey, path) for path in worst])
    return [
        Card(short(survey, path), _text(path) if path in survey.media_of else "", tags[path], *picture)
        for path, picture in zip(worst, pictures, strict=True)
    ]


def _media_of(survey: Survey, path: str) -> str:
    """Of a caption or of itself; "" for a caption without, or a folder."""
    is_media = Path(path).suffix[1:].lower() in EXTENSIONS
    return survey.media_of.get(path, path if is_media else "")


def _text(caption: str) -> str:
    try:
        with Path(caption).open("rb") as file:
            text = decoded(file.read(MOST_BYTES))[0] or ""
    except OSError:
        return ""
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]} ..."


def _pictures(survey: Survey, media: list[str]) -> list[tuple[str, str]]:
    """(data: URL, why there is none), decoded where a broken file harms nothing."""
    if not media:
        return []
    reading, sampling = Reading(decode_timeout=_DECODE_S), Sampling(frames=1)
    room = len(media) * most_bytes(_THUMBNAIL)
    with DecodePool(_THUMBNAIL, reading, sampling, clip_size=_THUMBNAIL, workers=2, pixel_bytes=room) as pool:
        begun = [pool.start(_item(survey, Path(path))) for path in media]
        return [_picture(decoding) for decoding in begun]


def _item(survey: Survey, path: Path) -> MediaItem:
    kind = EXTENSIONS[path.suffix[1:].lower()]
    return MediaItem(path, kind, path.name, path.with_suffix(".txt"), survey.root.store)


def _picture(decoding: Decoding | None) -> tuple[str, str]:
    assert decoding is not None  # there is room for all
    while not decoding.done():
        time.sleep(0.01)
    frames = decoding.result()
    if not isinstance(frames, Frames):
        return "", printable(frames.error)
    return pages.picture(frames.pixels[0], frames.pixels.shape[2]), ""


def as_json(survey: Survey, seconds: float, report: Path | None) -> dict[str, Any]:
    """What --json prints."""
    findings = [
        {
            "path": f.path,
            "code": f.code,
            "severity": (code := CODES[f.code]).severity,
            "what": told(f),
            "remedy": code.remedy,
        }
        for f in survey.findings
    ]
    return {
        "files": survey.files,
        "captions": survey.audit.captions,
        "errors": sum(f["severity"] == "error" for f in findings),
        "notes": sum(f["severity"] == "note" for f in findings),
        "fixed": [{"path": f.path, "code": f.code} for f in survey.fixed],
        "run": survey.run_id if survey.fixed else None,
        "report": str(report) if report else None,
        "seconds": round(seconds, 3),
        "findings": findings,
    }


def told(finding: Finding) -> str:
    says = CODES[finding.code].says
    return f"{says}: {finding.what}" if finding.what else says
