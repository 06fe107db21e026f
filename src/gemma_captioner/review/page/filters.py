"""The bar above the gallery: search, filters, sort order and counts."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from ...text import counted, encodable
from ..query import ANY_FLAG, SORTS, Query
from ..terms import FILTERS, PLAIN_TERMS, STATES
from .components import click_handler
from .view_buttons import view_buttons

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
# The items of another filter come from the server: until then, the editor shows one that is about to go.
_LOCK_EDITOR = """() => { document.dispatchEvent(new Event("captioner-moving")); emit(); }"""
_INSERTED = "() => setTimeout(() => document.querySelector('.search input').focus(), 50)"


def _number(text: str) -> int | None:
    return int(float(text)) if re.fullmatch(r"\d+(\.\d+)?", text) else None


class TermMenu:
    """A button with the list of all terms. A click on one puts it into the search."""

    def __init__(self, add: Callable[[str], None]) -> None:
        with (
            ui.button("+").props('flat dense no-caps aria-label="Add a filter"').classes("add-term"),
            ui.menu().props("auto-close no-refocus transition-duration=0").classes("terms"),
            ui.element("div").classes("term-list"),
        ):
            for example, help in (*PLAIN_TERMS, *((term.example, term.help) for term in FILTERS.values())):
                item = ui.item(on_click=partial(add, example)).props("dense clickable")
                with item.on("click", js_handler=_INSERTED):
                    ui.label(example).classes("term")
                    ui.label(help).classes("muted")


class Filters:
    """The fields beside the search write terms into it, and show those that are there."""

    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        self._is_filling = False
        with ui.element("search").classes("filters"):
            self._more = ui.button("Filters").props("outline dense no-caps aria-expanded=false").classes("more-filters")
            self._more.on("click", js_handler=_TOGGLE_FILTERS)
            self._text = ui.input(placeholder="Search, or a filter such as words>20  ( / )", on_change=self._apply)
            self._text.props('dense outlined clearable debounce=250 aria-label="Search" dir=auto').classes("search")
            with self._text.add_slot("append"):
                self._regex = ui.checkbox("regex", on_change=self._apply).props('dense aria-label="Regular expression"')
                self._regex.tooltip("regular expression")
                TermMenu(self._add)
            self._state = self._choice("state", {_ALL: "any state", **{state: state for state in STATES}})
            self._flag = self._choice("flag", {_ALL: "flagged or not", ANY_FLAG: "flagged"})
            self._kind = self._choice("kind", {_ALL: "all media", "image": "images", "clip": "clips"})
            self._folder = self._choice("folder", {_ALL: "all folders"})
            self._least = self._words("from", "words \u2265", ">=")
            self._most = self._words("to", "words \u2264", "<=")
            self._sort = self._list("sort", {sort: f"by {sort}" for sort in SORTS}, "name", self._apply)
            self._reverse = ui.checkbox("reverse", on_change=self._apply).props('dense aria-label="Reverse order"')
            self._reverse.tooltip("reverse order")
        for field in (
            self._text, self._regex, self._state, self._flag, self._kind, self._folder, self._least, self._most,
            self._sort, self._reverse,
        ):  # fmt: skip
            field.on(f"update:{field.VALUE_PROP}", tab.arrived, js_handler=_LOCK_EDITOR)
        self._error = ui.label().classes("query-error").props("role=alert")
        with ui.element("div").classes("counts").props("role=status aria-live=polite"):
            self._counts = ui.label()
            self._all = ui.button("Show all").on("click", js_handler=click_handler("show_all"))
            self._caption = ui.button().on("click", js_handler=click_handler("run_tab")).classes("do-caption-all")
            self._select = ui.button("Select").on("click", js_handler=click_handler("selecting"))
            for button in (self._all, self._caption, self._select):
                button.props("flat dense no-caps")
            view_buttons()
        tab.on_view.append(self._refresh)

    def _choice(self, key: str, options: dict[Any, str]) -> ui.select:
        return self._list(key, options, _ALL, lambda event: self._set_term(key, event.value or ""))

    def _list(self, name: str, options: dict[Any, str], value: str, on_change: Callable[..., None]) -> ui.select:
        select = ui.select(options, value=value, on_change=on_change)
        select.props(f'dense outlined options-dense aria-label="{name}"').classes("choice")
        return select.on("popup-hide", js_handler=_LEAVE_LIST)

    def _words(self, name: str, hint: str, operator: str) -> ui.number:
        def set_term(event: ValueChangeEventArguments[Any]) -> None:
            self._set_term("words", "" if event.value is None else str(int(event.value)), operator)

        number = ui.number(placeholder=hint, min=0, precision=0, on_change=set_term)
        return number.props(f'dense outlined debounce=250 aria-label="words {name}"').classes("words")

    @property
    def _query(self) -> Query:
        """What the fields show: the query, or one that is invalid and still typed."""
        return self._tab.rejected[0] if self._tab.rejected else self._tab.query

    def _set_term(self, key: str, value: str, operator: str = ":") -> None:
        if not self._is_filling:
            self._tab.apply_query(self._query.with_term(key, value, operator))

    def _add(self, term: str) -> None:
        """Add a term from the menu. The user then edits it."""
        self._text.value = f"{(self._text.value or '').strip()} {term}".strip()

    def _apply(self) -> None:
        if self._is_filling:
            return
        self._tab.apply_query(
            replace(
                self._query,
                text=self._text.value or "",
                is_regex=bool(self._regex.value),
                sort=self._sort.value,
                is_reversed=bool(self._reverse.value),
            )
        )

    def _refresh(self) -> None:
        """Update the fields from the query, which other parts of the page may have set, and the options and counts."""
        tab, query = self._tab, self._query
        totals = tab.totals()
        named = {flag: f"{flag.replace('_', ' ')} ({times:,})" for flag, times in sorted(totals.flags.items())}
        self._is_filling = True
        try:
            self._set_options(
                self._flag, {_ALL: "flagged or not", ANY_FLAG: "flagged", **named}, query.value("flag").lower()
            )
            folders = {folder: folder for folder in sorted(totals.folders - {""})}
            self._set_options(self._folder, {_ALL: "all folders", **folders}, query.value("folder"))
            self._folder.set_visibility(len(totals.folders) > 1)
            state, kind = (re.sub("[-_]", " ", query.value(key).lower()) for key in ("state", "kind"))
            for field, value in (
                (self._text, query.text),
                (self._regex, query.is_regex),
                (self._state, state if state in STATES else _ALL),
                (self._kind, kind if kind in ("image", "clip") else _ALL),
                (self._least, _number(query.value("words", ">="))),
                (self._most, _number(query.value("words", "<="))),
                (self._sort, query.sort),
                (self._reverse, query.is_reversed),
            ):
                if field.value != value and (field.value or value):
                    field.value = value
        finally:
            self._is_filling = False
        self._error.text = encodable(tab.rejected[1]) if tab.rejected else ""
        self._error.set_visibility(bool(tab.rejected))
        place = f"No. {tab.selection.place + 1:,} of " if tab.selection.current is not None else ""
        parts = [
            f"{place}{len(tab.selection.shown):,} shown",
            f"{totals.decisions['approved']:,} approved",
            f"{totals.decisions['rejected']:,} rejected",
        ]
        if query.only_reason:
            parts.insert(1, query.only_reason)
        if query.needs_sizes and (reading := tab.review_state.reading_sizes):
            parts.insert(0, f"reading sizes: {reading[0]:,} of {reading[1]:,}")
        self._counts.text = "  \u00b7  ".join([*parts, *tab.review_state.library.problems])
        self._all.set_visibility(query.is_filter)
        self._caption.set_visibility(totals.files > 0 and not totals.captions)
        self._caption.text = f"Caption {counted(totals.files, 'file')}"
        self._select.set_visibility(totals.files > 0)
        self._select.props(f"aria-pressed={str(tab.is_selecting).lower()}")

    def _set_options(self, select: ui.select, options: dict[str, str], value: str | None) -> None:
        value = value or _ALL
        options.setdefault(value, f"{value} (0)")
        if select.options != options or select.value != value:
            select.set_options(options, value=value)
