"""Regular expressions typed by a user: errors have clear messages, and every match has a time limit."""

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

import regex

from ..errors import UsageError

ITEM_TIMEOUT_S = 0.5  # per caption: `(a+)+$` could block the page for hours
TOTAL_TIMEOUT_S = 5.0  # for all captions

T = TypeVar("T")


@lru_cache(64)
def compile_pattern(text: str, *, is_regex: bool, ignore_case: bool = True) -> "regex.Pattern[str]":
    """Raises `UsageError` for an invalid expression."""
    flags = regex.IGNORECASE if ignore_case else 0
    try:
        return regex.compile(text if is_regex else regex.escape(text), flags)
    except regex.error as error:
        raise UsageError(f"{text!r} is not a valid regular expression: {error}") from error


def search(pattern: "regex.Pattern[str]", text: str) -> bool:
    """Raises `UsageError` if the search takes too long."""
    try:
        return pattern.search(text, timeout=ITEM_TIMEOUT_S) is not None
    except TimeoutError:
        raise UsageError(_too_slow(pattern)) from None


def substitute(pattern: "regex.Pattern[str]", replacement: str, text: str, *, is_regex: bool) -> str:
    """replacement: may refer to groups as `\\1` if `is_regex`. Raises `UsageError`."""
    try:
        return pattern.sub(replacement if is_regex else lambda match: replacement, text, timeout=ITEM_TIMEOUT_S)
    except TimeoutError:
        raise UsageError(_too_slow(pattern)) from None
    except (regex.error, IndexError) as error:
        raise UsageError(f"{replacement!r} is not a valid replacement: {error}") from error


def with_time_limit(entries: Iterable[T], *, is_regex: bool) -> Iterator[T]:
    """Yield the entries. Raises `UsageError` once `TOTAL_TIMEOUT_S` have passed."""
    until = time.monotonic() + TOTAL_TIMEOUT_S
    for entry in entries:
        if is_regex and time.monotonic() > until:
            raise UsageError("the expression takes too long for this many captions: simplify it or select fewer")
        yield entry


def _too_slow(pattern: "regex.Pattern[str]") -> str:
    return f"{pattern.pattern!r} takes too long: simplify it"
