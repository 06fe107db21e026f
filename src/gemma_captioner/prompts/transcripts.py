"""The transcripts of clips, from the files that --transcripts names. Prompts use them as {transcript}."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from ..captions.encoding import decode_text
from ..dataset.discover import EXTENSIONS
from ..errors import ItemError, UsageError
from ..storage.filesystem import NO_REGULAR_FILE, is_device
from ..text import file_error, printable
from ..types import MediaItem
from .subtitles import MAX_TRANSCRIPT_BYTES, PARSERS, NotATranscriptError, Transcript, parse_transcript

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.IGNORECASE)  # en, en-US, zh-Hans


class TranscriptFiles:
    """Finds the transcript of a clip: a file with its stem, with or without a language, as in clip.en.srt."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` if `path` is neither a folder nor a transcript."""
        if not path.exists():
            raise UsageError(f"--transcripts {path} does not exist: give a transcript, or the folder that holds them")
        if not path.is_dir() and path.suffix.lower() not in PARSERS:
            raise UsageError(f"--transcripts {path} is not of type {', '.join(PARSERS)}: convert it, or give a folder")
        self._path = path
        self._listed = cache(_list_transcripts)
        self._clip_stems = cache(_list_clip_stems)

    def read(self, item: MediaItem) -> Transcript | None:
        """Return all speech of the clip; None if it has no transcript. Raises `ItemError`."""
        failed: ItemError | None = None
        for path in self._find(item):
            try:
                return _read(path)
            except NotATranscriptError as error:  # perhaps the .json of another tool, beside the transcript
                failed = failed or _unusable(path, error)
            except (OSError, ValueError, OverflowError) as error:  # hours of 400 digits overflow
                raise _unusable(path, error) from error
        if failed is not None:
            raise failed
        return None

    def digest(self, item: MediaItem) -> str:
        """Return a digest of the transcript of the clip; "" if it has none."""
        contents: list[bytes] = []
        with suppress(OSError, ItemError):  # a run reports it
            contents += (_content(path) for path in self._find(item))
        return sha256(b"\0".join(contents)).hexdigest()[:16] if contents else ""

    def _find(self, item: MediaItem) -> Iterator[Path]:
        """The files that may be the transcript, the most exact first. Raises `ItemError` for several languages."""
        if item.kind != "clip":
            return
        stem = item.path.stem
        if not self._path.is_dir():
            if stem not in _stems(self._path.name):
                raise ItemError(
                    f"--transcripts {printable(self._path)} has another name than this clip: rename it "
                    f"{stem}{self._path.suffix}, or give the folder of the transcripts"
                )
            yield self._path
            return
        for folder in dict.fromkeys(((self._path / item.name).parent, self._path)):
            names = self._listed(folder).get(stem, ())
            if any(Path(name).stem != stem for name in names):  # `a.alt.srt` is not of a.mp4 if a.alt.mp4 exists
                clips = self._clip_stems(item.path.parent)
                names = [name for name in names if Path(name).stem == stem or Path(name).stem not in clips]
            exact = [name for name in names if Path(name).stem == stem]
            by_language = [name for name in names if name not in exact]
            yield from (folder / name for name in exact)
            if any(not name.lower().endswith(".json") for name in exact):
                return
            if len({Path(name).stem for name in by_language}) > 1:
                raise ItemError(
                    f"has transcripts in several languages ({', '.join(by_language)}): keep the one in the language "
                    "that is spoken"
                )
            yield from (folder / name for name in by_language)
            if names:
                return


def _list_transcripts(folder: Path) -> dict[str, list[str]]:
    """Stem of a clip -> the names of its transcripts, the most exact format first."""
    found: dict[str, list[str]] = {}
    try:
        names = [name for name in os.listdir(folder) if Path(name).suffix.lower() in PARSERS]
    except (FileNotFoundError, NotADirectoryError):  # this folder of clips has no transcripts
        return {}
    except OSError as error:
        raise ItemError(f"--transcripts {printable(folder)} cannot be listed: {file_error(error)}") from error
    for name in sorted(names, key=lambda name: (list(PARSERS).index(Path(name).suffix.lower()), name)):
        for stem in _stems(name):
            found.setdefault(stem, []).append(name)
    return found


def _list_clip_stems(folder: Path) -> frozenset[str]:
    with suppress(OSError):
        names = map(Path, os.listdir(folder))
        return frozenset(name.stem for name in names if EXTENSIONS.get(name.suffix[1:].lower()) == "clip")
    return frozenset()


def _stems(name: str) -> list[str]:
    """# clip.srt -> clip      clip.en.srt -> clip.en, clip"""
    stem = Path(name).stem
    base, _, language = stem.rpartition(".")
    return [stem, base] if base and _LANGUAGE.fullmatch(language) else [stem]


def _content(path: Path) -> bytes:
    """The file, or enough of it to see that it is too large."""
    if is_device(path):
        raise OSError(NO_REGULAR_FILE)
    with path.open("rb") as file:
        return file.read(MAX_TRANSCRIPT_BYTES + 1)


def _read(path: Path) -> Transcript:
    """Raises `OSError` and `ValueError`."""
    content = _content(path)
    if len(content) > MAX_TRANSCRIPT_BYTES:
        raise ValueError(f"it has more than {MAX_TRANSCRIPT_BYTES >> 20} MiB: cut it to what the clip has")
    text, encoding = decode_text(content)
    if text is None:
        raise ValueError(f"its encoding is uncertain ({encoding}): save it as UTF-8")
    return parse_transcript(text, path.suffix.lower())


def _unusable(path: Path, error: Exception) -> ItemError:
    return ItemError(f"its transcript {printable(path.name)} cannot be used: {file_error(error)}")
