"""Reads transcripts with times: SubRip, WebVTT, and the JSON of whisper and WhisperX. Pure.

Every fault raises `ValueError` with what is wrong and what to do.
"""

import html
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..text import parse_json

MAX_TRANSCRIPT_BYTES = 16 << 20  # word times of about ten hours


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word with the space before it, and its times in seconds from the start of the file."""

    text: str
    start_s: float
    end_s: float
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words of a clip, in the order of time."""

    words: Sequence[Word] = ()

    def within(self, start_s: float, end_s: float) -> "Transcript":
        """Return the words whose middle lies in this part of the clip."""
        return Transcript([w for w in self.words if start_s <= (w.start_s + w.end_s) / 2 < end_s])

    def overlapping(self, start_s: float, end_s: float, margin_s: float = 1.0) -> "Transcript":
        """Return the words of this part and those around it, because the times of transcripts are rough."""
        return Transcript([w for w in self.words if w.end_s >= start_s - margin_s and w.start_s <= end_s + margin_s])

    def as_text(self) -> str:
        """Return the words as text. If the speakers are known, each turn is a line that names its speaker.

        # It is late again.      Speaker 1: It is late again.\\nSpeaker 2: I know.
        """
        numbers: dict[str, str] = {}
        turns: list[tuple[str, str]] = []
        for word in self.words:
            name = word.speaker
            if re.fullmatch(r"SPEAKER_\d+", name):  # of a diarization: the numbers have no meaning
                name = numbers.setdefault(name, f"Speaker {len(numbers) + 1}")
            if turns and turns[-1][0] == name:
                turns[-1] = (name, turns[-1][1] + word.text)
            else:
                turns.append((name, word.text))
        return "\n".join(f"{name}: {text.strip()}" if name else text.strip() for name, text in turns if text.strip())


def parse_transcript(text: str, suffix: str) -> Transcript:
    """Read the text of a file with this suffix: .srt, .vtt or .json."""
    words = sorted(PARSERS[suffix](text), key=lambda word: word.start_s)
    return Transcript(words)


_CLOCK = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?!\d)")
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^<>]+)>")
_LABEL = re.compile(r"^\s*\[?(SPEAKER_\d+)\]?:", re.MULTILINE)  # as WhisperX writes it into SubRip


def _cues(text: str) -> Iterator[Word]:
    """The cues of SubRip and WebVTT: a line of times, then lines of text up to a blank one."""
    lines = text.lstrip("\ufeff").splitlines()
    starts = [number for number, line in enumerate(lines) if "-->" in line]
    if not starts and text.strip("\ufeff \r\n") and not text.lstrip("\ufeff \r\n").startswith("WEBVTT"):
        raise ValueError("it has no line with times, such as 00:00:01,000 --> 00:00:02,500: give a .srt or .vtt file")
    for number, following in pairwise([*starts, len(lines)]):
        match = _TIMES.match(lines[number])
        if match is None:
            raise ValueError(f"line {number + 1}: {lines[number].strip()[:60]!r} has no valid times: correct them")
        numbers = match.groups()
        start_s, end_s = _seconds(*numbers[:4]), _seconds(*numbers[4:])
        _check_times(start_s, end_s, f"line {number + 1}")
        shown = []
        for line in lines[number + 1 : following]:
            if not line.strip():
                break
            shown.append(line)
        if following < len(lines) and shown and shown[-1].strip().isdecimal() and number + len(shown) + 1 == following:
            shown.pop()  # the number of the next cue, without a blank line before it
        yield from _spoken("\n".join(shown), start_s, end_s)


def _spoken(text: str, start_s: float, end_s: float) -> Iterator[Word]:
    """The words of a cue, each with its speaker. # <v Roger>It is late. -> 3 words of Roger"""
    first, *voices = _VOICE.split(_LABEL.sub(r"<v \1>", text))
    turns = [("", first), *zip(voices[::2], voices[1::2], strict=True)]
    words = [(word, html.unescape(name).strip()) for name, part in turns for word in _TAG.sub("", part).split()]
    yield from _spread([(html.unescape(word), name) for word, name in words], start_s, end_s)


def _spread(words: Sequence[tuple[str, str]], start_s: float, end_s: float) -> Iterator[Word]:
    """Spread the words (and speakers) of a cue evenly over its time, because the time of each is unknown."""
    step = (end_s - start_s) / max(1, len(words))
    for number, (word, speaker) in enumerate(words):
        yield Word(f" {word}", start_s + number * step, start_s + (number + 1) * step, speaker)


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + float(f"0.{fraction}")


def _check_times(start_s: float, end_s: float, where: str) -> None:
    if not (math.isfinite(start_s) and math.isfinite(end_s)) or end_s < start_s:
        raise ValueError(f"{where} ends before it starts: correct its times")


def _segments(text: str) -> Iterator[Word]:
    """The segments of whisper and WhisperX, by the times of their words if it has them."""
    try:
        segments = parse_json(text)["segments"]
    except ValueError as error:
        raise ValueError("it is not valid JSON: write it again") from error
    except (KeyError, TypeError) as error:
        raise NotATranscriptError("it has no segments, so it is no transcript of whisper: move it elsewhere") from error
    for number, segment in enumerate(segments if isinstance(segments, list) else [None], 1):
        if not isinstance(segment, Mapping) or not isinstance(segment.get("text"), str):
            raise ValueError(f"segment {number} has no text: write it again")
        start_s, end_s = _times(segment, f"segment {number}")
        speaker, timed = str(segment.get("speaker") or ""), segment.get("words")
        if isinstance(timed, list) and timed:
            yield from _timed_words(timed, segment["text"], start_s, end_s, speaker)
        else:
            yield from _spread([(word, speaker) for word in segment["text"].split()], start_s, end_s)


class NotATranscriptError(ValueError):
    """A JSON file of something else."""


def _times(record: Mapping[str, Any], where: str) -> tuple[float, float]:
    start_s, end_s = (record.get(name) for name in ("start", "end"))
    if not isinstance(start_s, int | float) or not isinstance(end_s, int | float):
        raise ValueError(f"{where} has no start and end: write it again")
    _check_times(start_s, end_s, where)
    return start_s, end_s


def _timed_words(words: list[Any], text: str, start_s: float, end_s: float, speaker: str) -> Iterator[Word]:
    """The words of a segment. WhisperX gives no times for words such as "2014": they get the end of the word before."""
    at = 0  # the position in the text, which has the spaces
    for word in words:
        if not isinstance(word, Mapping) or not isinstance(word.get("word"), str):
            raise ValueError(f"the segment at {start_s:g} s has a word that is no text: write it again")
        shown = word["word"].strip()
        found = text.find(shown, at)
        space = " " if found <= 0 or text[found - 1].isspace() else ""
        at = found + len(shown) if found >= 0 else at
        has_times = word.get("start") is not None and word.get("end") is not None
        start_s, until_s = _times(word, f"the word {shown[:30]!r}") if has_times else (start_s, start_s)
        yield Word(space + shown, start_s, until_s, str(word.get("speaker") or speaker))
        start_s = until_s


PARSERS: Mapping[str, Callable[[str], Iterator[Word]]] = {".json": _segments, ".vtt": _cues, ".srt": _cues}
