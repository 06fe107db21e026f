"""Filters and sorts the items. Pure functions."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..dataset.discover import natural_sort_key
from ..types import Kind
from .library import ReviewItem
from .patterns import compile_pattern, search, with_time_limit
from .tags import split_tags

State = Literal["open", "approved", "rejected", "uncaptioned", "failed", "recaptioned", "by hand"]
Sort = Literal["name", "length", "flags"]
STATES: tuple[State, ...] = get_args(State)
SORTS: tuple[Sort, ...] = get_args(Sort)
ANY_FLAG = "any"


@dataclass(frozen=True, slots=True)
class Query:
    """A filter and a sort order."""

    text: str = ""  # searched in captions and names
    is_regex: bool = False
    tag: str = ""  # exactly
    flag: str = ""  # `any` for any flag, "" for no filter
    kind: Kind | None = None
    state: State | None = None
    folder: str | None = None
    min_words: int | None = None
    max_words: int | None = None
    only: frozenset[int] | None = None  # item numbers
    only_reason: str = ""  # "2 captions with the same text"
    sort: Sort = "name"
    is_reversed: bool = False

    @property
    def is_filter(self) -> bool:
        return self != self.without_filters()

    def without_filters(self) -> "Query":
        return Query(sort=self.sort, is_reversed=self.is_reversed)

    def without_one_filter(self) -> "Query":
        """Return the query without its first filter in the order of `_FILTERS`."""
        default = Query()
        for fields in _FILTERS:
            if any(getattr(self, name) != getattr(default, name) for name in fields):
                return replace(self, **{name: getattr(default, name) for name in fields})
        return self


_FILTERS = (
    ("text", "is_regex"), ("tag",), ("only", "only_reason"), ("flag",), ("folder",), ("min_words", "max_words"),
    ("kind",), ("state",),
)  # fmt: skip


_STATES: Mapping[State, Callable[[ReviewItem, bool], bool]] = {  # (item, whether it has a proposal)
    "open": lambda entry, proposed: entry.caption.digest is not None and entry.decision is None,
    "approved": lambda entry, proposed: entry.decision == "approved",
    "rejected": lambda entry, proposed: entry.decision == "rejected",
    "uncaptioned": lambda entry, proposed: entry.caption.digest is None,
    "failed": lambda entry, proposed: entry.failure is not None or entry.access_error is not None,
    "recaptioned": lambda entry, proposed: proposed,
    "by hand": lambda entry, proposed: entry.caption.digest is not None and entry.provenance is None,
}


def filter_items(entries: Iterable[ReviewItem], query: Query, proposed: Container[int] = ()) -> list[ReviewItem]:
    """Return the matching items in order. proposed: the numbers of items that have a proposal.

    Raises `UsageError` if the regular expression is invalid or takes too long.
    """
    expression = compile_pattern(query.text, is_regex=query.is_regex) if query.text else None

    def matches(entry: ReviewItem) -> bool:
        return (
            (query.only is None or entry.number in query.only)
            and (query.kind is None or entry.item.kind == query.kind)
            and (query.state is None or _STATES[query.state](entry, entry.number in proposed))
            and (not query.tag or query.tag in split_tags(entry.caption.text))
            and (not query.flag or (bool(entry.flags) if query.flag == ANY_FLAG else query.flag in entry.flags))
            and (query.folder is None or f"{entry.folder}/".startswith(f"{query.folder}/"))
            and (query.min_words is None or entry.caption.count >= query.min_words)
            and (query.max_words is None or entry.caption.count <= query.max_words)
            and (expression is None or search(expression, entry.caption.text) or search(expression, entry.name))
        )

    candidates = with_time_limit(entries, is_regex=query.is_regex)
    return sorted(filter(matches, candidates), key=_SORT_KEYS[query.sort], reverse=query.is_reversed)


def _name_key(entry: ReviewItem) -> tuple[str, str]:
    return natural_sort_key(entry.folder), natural_sort_key(entry.name)


_SORT_KEYS: Mapping[Sort, Callable[[ReviewItem], tuple[object, ...]]] = {
    "name": _name_key,
    "length": lambda entry: (entry.caption.count, *_name_key(entry)),
    "flags": lambda entry: (-len(entry.flags), *_name_key(entry)),
}
