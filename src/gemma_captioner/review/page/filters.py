"""The bar above the gallery: search, filters, sort order and counts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import ui

from ...text import counted
from ..library import ReviewItem
from ..query import ANY_FLAG, SORTS, STATES
from .components import click_handler

if TYPE_CHECKING:
    from .tab import ReviewTab

_ALL = ""
# Shows the filters on a narrow screen.
_TOGGLE_FILTERS = """(event) => {
    const button = event.currentTarget;
    button.setAttribute("aria-expanded", button.parentElement.classList.toggle("open"));
}"""
# After a choice, the keys are commands again.
_LEAVE_LIST = """() => {
    if (document.activeElement?.closest(".filters .choice")) document.querySelector(".gallery").focus();
}"""


def _count(entries: Iterable[ReviewItem]) -> tuple[Counter[str], set[str], Counter[str | None], int]:
    """Count flags, folders, decisions and captions. Too slow for 20,000 items on every key press."""
    flags, folders, decided, captions = Counter[str](), set(), Counter[str | None](), 0
    for entry in entries:
        flags.update(entry.flags)
        folders.add(entry.folder)
        decided[entry.decision] += 1
        captions += entry.caption.digest is not None
    return flags, folders, decided, captions


class Filters:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        self._is_filling = False
        self._counted_at = -1
        self._counted = _count(())
        with ui.element("search").classes("filters"):
            self._more = ui.button("Filters").props("outline dense no-caps aria-expanded=false").classes("more-filters")
            self._more.on("click", js_handler=_TOGGLE_FILTERS)
            self._text = ui.input(placeholder="Search captions and names  ( / )", on_change=self._apply)
            self._text.props('dense outlined clearable debounce=250 aria-label="Search" dir=auto').classes("search")
            with self._text.add_slot("append"):
                self._regex = ui.checkbox(".*", on_change=self._apply).props('dense aria-label="Regular expression"')
                self._regex.tooltip("regular expression")
            self._state = self._choice("state", {_ALL: "any state", **{state: state for state in STATES}})
            self._flag = self._choice("flag", {_ALL: "flagged or not", ANY_FLAG: "flagged"})
            self._kind = self._choice("kind", {_ALL: "all media", "image": "images", "clip": "clips"})
            self._folder = self._choice("folder", {_ALL: "all folders"})
            self._least = self._words("from", "words \u2265")
            self._most = self._words("to", "words \u2264")
            self._sort = self._choice("sort", {sort: f"by {sort}" for sort in SORTS}, "name")
            self._reverse = ui.checkbox("\u2193", on_change=self._apply).props('dense aria-label="Reverse order"')
            self._reverse.tooltip("reverse order")
        with ui.element("div").classes("counts").props("role=status aria-live=polite"):
            self._counts = ui.label()
            self._all = ui.button("Show all").on("click", js_handler=click_handler("show_all"))
            self._caption = ui.button().on("click", js_handler=click_handler("run_tab")).classes("do-caption-all")
            self._select = ui.button("Select").on("click", js_handler=click_handler("selecting"))
            for button in (self._all, self._caption, self._select):
                button.props("flat dense no-caps")
        tab.on_view.append(self._refresh)

    def _choice(self, name: str, options: dict[Any, str], value: Any = _ALL) -> ui.select:
        select = ui.select(options, value=value, on_change=self._apply)
        select.props(f'dense outlined options-dense aria-label="{name}"').classes("choice")
        return select.on("popup-hide", js_handler=_LEAVE_LIST)

    def _words(self, name: str, hint: str) -> ui.number:
        number = ui.number(placeholder=hint, min=0, precision=0, on_change=self._apply)
        return number.props(f'dense outlined debounce=250 aria-label="words {name}"').classes("words")

    def _apply(self) -> None:
        if self._is_filling:
            return
        min_words, max_words = self._least.value, self._most.value
        self._tab.apply_query(
            replace(
                self._tab.query,
                text=self._text.value or "",
                is_regex=bool(self._regex.value),
                flag=self._flag.value,
                kind=self._kind.value or None,
                state=self._state.value or None,
                folder=self._folder.value or None,
                min_words=None if min_words is None else int(min_words),
                max_words=None if max_words is None else int(max_words),
                sort=self._sort.value,
                is_reversed=bool(self._reverse.value),
            )
        )

    def _refresh(self) -> None:
        """Update the fields from the query, which other parts of the page may have set, and the options and counts."""
        tab, query = self._tab, self._tab.query
        if self._counted_at != tab.changes:
            self._counted_at, self._counted = tab.changes, _count(tab.review_state.library.present())
        flags, folders, decided, captions = self._counted
        named = {flag: f"{flag.replace('_', ' ')} ({times:,})" for flag, times in sorted(flags.items())}
        self._is_filling = True
        try:
            self._set_options(self._flag, {_ALL: "flagged or not", ANY_FLAG: "flagged", **named}, query.flag)
            self._set_options(
                self._folder, {_ALL: "all folders", **{f: f for f in sorted(folders - {""})}}, query.folder
            )
            self._folder.set_visibility(len(folders) > 1)
            for field, value in (
                (self._text, query.text),
                (self._regex, query.is_regex),
                (self._state, query.state or _ALL),
                (self._kind, query.kind or _ALL),
                (self._least, query.min_words),
                (self._most, query.max_words),
                (self._sort, query.sort),
                (self._reverse, query.is_reversed),
            ):
                if field.value != value and (field.value or value):
                    field.value = value
        finally:
            self._is_filling = False
        place = f"No. {tab.selection.place + 1:,} of " if tab.selection.current is not None else ""
        parts = [
            f"{place}{len(tab.selection.shown):,} shown",
            f"{decided['approved']:,} approved",
            f"{decided['rejected']:,} rejected",
        ]
        if query.only_reason:
            parts.insert(1, query.only_reason)
        if query.tag:
            parts.insert(1, f"with the tag {query.tag}")
        self._counts.text = "  \u00b7  ".join([*parts, *tab.review_state.library.problems])
        self._all.set_visibility(query.is_filter)
        files = decided.total()
        self._caption.set_visibility(files > 0 and not captions)
        self._caption.text = f"Caption {counted(files, 'file')}"
        self._select.set_visibility(files > 0)
        self._select.props(f"aria-pressed={str(tab.is_selecting).lower()}")

    def _set_options(self, select: ui.select, options: dict[str, str], value: str | None) -> None:
        value = value or _ALL
        options.setdefault(value, f"{value} (0)")
        if select.options != options or select.value != value:
            select.set_options(options, value=value)
