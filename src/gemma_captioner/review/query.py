"""Filters and sorts the items. Pure functions. terms.py holds the filter language."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..dataset.listing import natural_sort_key
from . import terms
from .library import ReviewItem
from .patterns import with_time_limit
from .terms import FilterContext, Term

Sort = Literal["name", "length", "flags", "time"]
SORTS: tuple[Sort, ...] = get_args(Sort)
ANY_FLAG = terms.ANY


@dataclass(frozen=True, slots=True)
class Query:
    """A filter and a sort order. text: the terms. is_regex: its words are one regular expression."""

    text: str = ""
    is_regex: bool = False
    only: frozenset[int] | None = None  # item numbers
    only_reason: str = ""  # "2 captions with the same text"
    sort: Sort = "name"
    is_reversed: bool = False

    @property
    def is_filter(self) -> bool:
        return bool(self.text.strip()) or self.only is not None

    @property
    def needs_sizes(self) -> bool:
        return any(term.key in terms.SIZE_KEYS for term in self.terms)

    @property
    def terms(self) -> list[Term]:
        return terms.parse(self.text, is_regex=self.is_regex)

    def value(self, key: str, operator: str = ":") -> str:
        """The value of the last term with this key, "" if there is none. For the fields beside the search."""
        return next((term.value for term in reversed(self.terms) if _is_term(term, key, operator)), "")

    def with_term(self, key: str, value: str, operator: str = ":") -> "Query":
        """Replace the terms with this key. value: "" removes them.

        # Query("cat state:open").with_term("state", "approved") -> Query("cat state:approved")
        """
        others = [term for term in self.terms if not _is_term(term, key, operator)]
        added = [terms.written(key, value, operator)] if value else []
        return replace(self, text=" ".join(filter(None, [terms.joined(others), *added])))

    def without_filters(self) -> "Query":
        return Query(sort=self.sort, is_reversed=self.is_reversed)

    def without_one_filter(self) -> "Query":
        """Return the query without `only`, else without its last term, or the words at its end."""
        if self.only is not None:
            return replace(self, only=None, only_reason="")
        kept = self.terms
        last = kept.pop()
        while last.key == terms.WORD and kept and kept[-1].key == terms.WORD:
            kept.pop()
        return replace(self, text=terms.joined(kept))


def _is_term(term: Term, key: str, operator: str) -> bool:
    return (term.key, term.operator) == (key, operator) and not term.is_negated


def filter_items(
    entries: Iterable[ReviewItem], query: Query, context: FilterContext = FilterContext()
) -> list[ReviewItem]:
    """Return the matching items in order.

    Raises `UsageError` if a term is invalid, or a regular expression takes too long.
    """
    found = terms.compile_terms(query.terms, context)
    candidates = with_time_limit(entries, is_regex=any(term.key == terms.EXPRESSION for term in query.terms))
    matching = (entry for entry in candidates if (query.only is None or entry.number in query.only) and found(entry))
    return sorted(matching, key=_SORT_KEYS[query.sort], reverse=query.is_reversed)


def _name_key(entry: ReviewItem) -> tuple[str, str]:
    return natural_sort_key(entry.folder), natural_sort_key(entry.name)


_SORT_KEYS: Mapping[Sort, Callable[[ReviewItem], tuple[object, ...]]] = {
    "name": _name_key,
    "length": lambda entry: (entry.caption.count, *_name_key(entry)),
    "flags": lambda entry: (-len(entry.flags), *_name_key(entry)),
    "time": lambda entry: (-(entry.caption.stamp or (0, 0))[0], *_name_key(entry)),  # the latest change first
}
