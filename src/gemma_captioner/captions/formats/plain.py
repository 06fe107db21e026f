"""Captions without structure: prose, and tags separated by commas."""

import re
from collections.abc import Iterator

from ...text import encodable, parse_json
from ..clean import (
    apply_affixes,
    contains_word,
    strip_boilerplate,
    strip_template,
    to_ascii_punctuation,
    to_last_sentence,
    whole_word,
)
from .base import DEFAULT_OPTIONS, CaptionFormat, FormatError, ParseOptions


class Prose(CaptionFormat[str]):
    """One line of text."""

    name = "prose"

    def parse(self, answer: str, options: ParseOptions = DEFAULT_OPTIONS) -> str:
        """Return the cleaned answer. It keeps `begin`, even if `strip_boilerplate` would remove it."""
        begin, ascii_punctuation = options.begin, options.ascii_punctuation
        cleaned = strip_boilerplate(answer, ascii_punctuation=ascii_punctuation)
        opening = " ".join((to_ascii_punctuation(begin) if ascii_punctuation else begin).split())
        if not cleaned or cleaned.startswith(opening):
            return cleaned
        rest = answer.removeprefix(begin)
        cleaned = strip_boilerplate(rest, ascii_punctuation=ascii_punctuation)
        return cleaned and opening + " " * rest[:1].isspace() + cleaned

    def texts(self, content: str) -> list[str]:
        return [content]

    def add_affixes(self, content: str, *, trigger: str = "", prefix: str = "", suffix: str = "") -> str:
        return apply_affixes(content, trigger=trigger, prefix=prefix, suffix=suffix)

    def render(self, content: str) -> str:
        return content

    def drop_unfinished_end(self, content: str) -> str:
        return to_last_sentence(content)


_MIN_TAGS, MAX_TAG_WORDS = 2, 6
_FENCE = re.compile(r"^\s*```\w*\s*$|[*`]{2,}", re.MULTILINE)
_MARK = r"^\s*(?:[-*\u2022]\s+|\d{1,2}[.)]\s+)?"
_LABEL = re.compile(rf"{_MARK}(?:[\w ]*\btags:\s)?\s*", re.IGNORECASE)
_CATEGORY = re.compile(rf"{_MARK}(?:[\w ]{{1,24}}:\s)?\s*")  # "Clothing: red scarf", if there are several lines
_HASHTAGS = re.compile(r"\s*(?:#\w+\s*){2,}\Z")


class Tags(CaptionFormat[list[str]]):
    """Tags on one line, each once, separated by a comma and a space."""

    name = "tags"

    def parse(self, answer: str, options: ParseOptions = DEFAULT_OPTIONS) -> list[str]:
        """Take tags from a line, a list or JSON; remove labels, categories, hash signs."""
        text = _FENCE.sub("", strip_template(answer)).strip()
        if options.ascii_punctuation and not options.keep_prose:
            text = to_ascii_punctuation(text)
        if text.startswith(("[", "{")):
            text = ",".join(_strings(text)) or text
        elif _HASHTAGS.fullmatch(text):
            text = text.replace("#", ",")
        lines = [line for line in text.splitlines() if line.strip() and not line.rstrip().endswith(":")]
        paragraphs = [(_CATEGORY if len(lines) > 1 else _LABEL).sub("", line) for line in lines]
        tags = [" ".join(tag.split()) for line in paragraphs for tag in line.split(",")]
        tags = [tag for tag in tags if tag]
        if tags and not re.search(r"[.!?]\s", text):
            tags[-1] = tags[-1].rstrip(".")
        long = [tag for tag in tags if len(tag.split()) > MAX_TAG_WORDS]
        if any(re.search(r"[^\W\d_]", tag) for tag in tags) and (len(tags) < _MIN_TAGS or long):
            raise FormatError(f"expected short tags separated by commas, got {(long or tags)[0][:60]!r}")
        return tags

    def texts(self, content: list[str]) -> list[str]:
        return [", ".join(content)]

    def add_affixes(self, content: list[str], *, trigger: str = "", prefix: str = "", suffix: str = "") -> list[str]:
        """The trigger becomes the first tag, unless the prefix or a longer tag has it. Affixes bring their commas."""
        once: dict[str, str] = {}
        is_missing = trigger and not _holds(content, trigger) and not contains_word(prefix, trigger)
        for tag in [trigger, *content] if is_missing else content:
            once.setdefault(tag.lower(), tag)
        affixed = apply_affixes(", ".join(once.values()), trigger=trigger, prefix=prefix, suffix=suffix)
        return [tag.strip() for tag in affixed.split(",") if tag.strip()]

    def render(self, content: list[str]) -> str:
        return encodable(", ".join(content))

    def drop_unfinished_end(self, content: list[str]) -> list[str]:
        return content[:-1] or content

    def shorter_versions(self, content: list[str]) -> Iterator[list[str]]:
        """Drop the last tags first."""
        for count in range(len(content) - 1, 0, -1):
            yield content[:count]


def _holds(tags: list[str], trigger: str) -> bool:
    """Return whether a longer tag contains the trigger. # ["a photo of sks"], "sks" -> True"""
    word = re.compile(whole_word(trigger), re.IGNORECASE)
    return any(word.search(tag) and tag.lower() != trigger.lower() for tag in tags)


def _strings(text: str) -> list[str]:
    """The strings in a JSON list or object, [] if it is neither."""
    try:
        found = parse_json(text)
    except ValueError:
        return []
    groups = found.values() if isinstance(found, dict) else [found]
    return [tag for group in groups for tag in (group if isinstance(group, list) else [group]) if isinstance(tag, str)]
