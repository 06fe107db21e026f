"""A dialog that changes many captions: choose an operation, preview it, apply it as one undo step."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from nicegui import ui

from ...errors import UsageError
from ...text import counted, encodable
from ..bulk import OPERATIONS, BulkPlan, Inputs, plan_changes
from .components import DiffList
from .latest import LatestOnly

if TYPE_CHECKING:
    from .tab import ReviewTab

_PAGE = 50  # changes per page of the preview


class BulkEditDialog:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        self._numbers: list[int] = []
        self._plan = BulkPlan()
        self._plans: LatestOnly[BulkPlan | str] = LatestOnly(self._prepare, self._show)
        self._first = 0
        with ui.dialog() as self._dialog, ui.card().classes("sheet"):
            self._title = ui.label().classes("sheet-title").props("role=heading aria-level=1")
            with ui.element("div").classes("fields"):
                self._name = ui.select(list(OPERATIONS), value="find and replace", on_change=self._preview)
                self._text = ui.input("Find", on_change=self._preview).props("autofocus")
                self._replacement = ui.input("Replace with", on_change=self._preview)
                for field in (self._name, self._text, self._replacement):
                    field.props("dense outlined debounce=200")
                self._regex = ui.checkbox("regular expression", on_change=self._preview).props("dense")
                self._case = ui.checkbox("ignore case", on_change=self._preview).props("dense")
            self._status = ui.label().classes("muted").props("role=status aria-live=polite")
            with ui.element("div").classes("bulk-changes"):
                self._changes = DiffList()
            with ui.element("div").classes("actions"):
                self._apply = ui.button(on_click=self._do).props("unelevated no-caps").classes("do-apply")
                self._earlier = ui.button("Previous", on_click=lambda: self._turn(-_PAGE)).props("flat no-caps")
                self._later = ui.button("Next", on_click=lambda: self._turn(_PAGE)).props("flat no-caps")
                ui.button("Close", on_click=self._dialog.close).props("flat no-caps")

    def open(self, operation: str = "", text: str = "") -> None:
        """operation: to choose, with this text; by default, the last ones stay."""
        self._numbers = []  # no preview while the fields are filled
        if operation:
            self._name.value, self._text.value, self._replacement.value = operation, text, ""
        self._numbers = self._tab.selection.many()
        what = "selected" if self._tab.selection.selected else "shown"
        self._title.text = f"Change captions: {len(self._numbers):,} {what}"
        self._preview()
        self._dialog.open()

    def _preview(self) -> None:
        operation = OPERATIONS[self._name.value]
        self._text.props["label"], self._replacement.props["label"] = operation.text_label, operation.replacement_label
        self._text.set_visibility(bool(operation.text_label))
        for field in (self._text, self._replacement):
            field.props["data-completes"] = "tags" if operation.takes_tags else None
        self._replacement.set_visibility(bool(operation.replacement_label))
        self._regex.set_visibility(operation.searches)
        self._case.set_visibility(operation.searches)
        self._apply.set_enabled(False)  # until its plan is shown
        self._plans.request()

    def _prepare(self) -> Callable[[], BulkPlan | str]:
        """Return the work, in a thread, that plans what the fields say now: its result is a plan or an error."""
        name, review_state = self._name.value, self._tab.review_state
        inputs = Inputs(self._text.value or "", self._replacement.value or "", self._regex.value, self._case.value)
        entries = [review_state.library[number] for number in self._numbers]

        def work() -> BulkPlan | str:
            if not inputs.text and not OPERATIONS[name].bare:
                return "Enter a text to preview the changes"
            try:
                return plan_changes(entries, name, inputs, review_state.settings.format)
            except UsageError as error:
                return str(error)

        return work

    def _show(self, planned: BulkPlan | str) -> None:
        self._plan = planned if isinstance(planned, BulkPlan) else BulkPlan()
        self._status.text = encodable(self._summary() if isinstance(planned, BulkPlan) else planned)
        self._apply.set_enabled(bool(self._plan.changes))
        self._apply.text = f"Change {counted(len(self._plan.changes), 'caption')}"
        self._turn(-self._first)

    def _summary(self) -> str:
        """# 3 captions would change; left out: 2 structured captions (a.png: the result is not valid JSON)"""
        summary = f"{counted(len(self._plan.changes), 'caption')} would change"
        if not (left_out := self._plan.left_out):
            return summary
        number, reason = next(iter(left_out.items()))
        example = f"{self._tab.review_state.library[number].name}: {reason}"
        return f"{summary}; left out: {counted(len(left_out), 'structured caption')} ({example})"

    def _turn(self, offset: int) -> None:
        self._first += offset
        part = self._plan.changes[self._first : self._first + _PAGE]
        self._changes.show([(plan.entry.name, plan.before, plan.draft.text) for plan in part])
        self._earlier.set_visibility(self._first > 0)
        self._later.set_visibility(self._first + _PAGE < len(self._plan.changes))

    async def _do(self) -> None:
        if not self._apply.enabled:  # pressed before the browser knew that the fields have changed
            return
        tab, plan = self._tab, self._plan
        drafts = [change.draft for change in plan.changes]
        self._dialog.close()
        async with tab.command_lock:
            done = await tab.run_edit(tab.review_state.edits.save, drafts, count=len(drafts), summary="changed")
            tab.notify(replace(done, refused=plan.left_out | done.refused))
            tab.show(tab.selection.current)
