"""Regular expressions as a person types them: said plainly what is wrong with one, and none that runs for ever."""

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

import regex

from ..errors import UsageError

ITEM_TIMEOUT_S = 0.5  # for one caption: `(a+)+$` would hold up the page for hours
TOTAL_TIMEOUT_S = 5.0  # for all of them

T = TypeVar("T")


@lru_cache(64)
def compile_pattern(text: str, *, is_regex: bool, ignore_case: bool = True) -> "regex.Pattern[str]":
    """Raises `UsageError` for an expression that is none."""
    flags = regex.IGNORECASE if ignore_case else 0
    try:
        return regex.compile(text if is_regex else regex.escape(text), flags)
    except regex.error as error:
        raise UsageError(f"{text!r} is no regular expression: {error}") from error


def search(wanted: "regex.Pattern[str]", text: str) -> bool:
    """Raises `UsageError` where looking takes too long."""
    try:
        return wanted.search(text, timeout=ITEM_TIMEOUT_S) is not None
    except TimeoutError:
        raise UsageError(_too_slow(wanted)) from None


def substitute(wanted: "regex.Pattern[str]", by: str, text: str, *, is_regex: bool) -> str:
    """by: with `\\1` for groups, where it is a regular expression. Raises `UsageError`."""
    try:
        return wanted.sub(by if is_regex else lambda match: by, text, timeout=ITEM_TIMEOUT_S)
    except TimeoutError:
        raise UsageError(_too_slow(wanted)) from None
    except (regex.error, IndexError) as error:
        raise UsageError(f"{by!r} cannot be put in its place: {error}") from error


def with_time_limit(entries: Iterable[T], *, is_regex: bool) -> Iterator[T]:
    """As they are, for `TOTAL_TIMEOUT_S`. Raises `UsageError` then."""
    until = time.monotonic() + TOTAL_TIMEOUT_S
    for entry in entries:
        if is_regex and time.monotonic() > until:
            raise UsageError("the expression takes too long on so many: make it simpler, or show fewer")
        yield entry


def _too_slow(wanted: "regex.Pattern[str]") -> str:
    return f"{wanted.pattern!r} takes too long: make it simpler"
