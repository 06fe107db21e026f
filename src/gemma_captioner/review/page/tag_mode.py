"""Tag mode: the caption as chips, and beside the thumbnails all tags of the folder with their counts."""

from functools import partial
from typing import TYPE_CHECKING

from nicegui import ui
from nicegui.events import GenericEventArguments

from ...text import counted
from .bulk_edit_dialog import BulkEditDialog
from .components import TagList
from .latest import LatestOnly

if TYPE_CHECKING:
    from .tab import ReviewTab

_MAX_SHOWN = 200  # tags in the list at once
_OPERATIONS = (("Add", "add tag"), ("Remove", "remove tag"), ("Rename", "rename tag"))


class TagMode:
    """Its panel belongs beside the gallery."""

    def __init__(self, tab: "ReviewTab", bulk: BulkEditDialog) -> None:
        self._tab = tab
        self._bulk = bulk
        library, tags = tab.review_state.library, tab.review_state.tags
        self._tags = LatestOnly(lambda: partial(tags.update, list(library.present()), self._captions()), self._show)
        self._scope_size: int | None = None
        self._shown_at: tuple[object, ...] = ()  # when it was last shown: changes, filter, scope
        with ui.element("section").classes("tag-panel").props('aria-label="All tags"') as self._panel:
            self._typed = ui.input(placeholder="Find or name a tag", on_change=self._tags.request)
            self._typed.props('dense outlined clearable debounce=150 dir=auto aria-label="Find or name a tag"')
            with ui.element("div").classes("actions"):
                for label, operation in _OPERATIONS:
                    button = ui.button(f"{label} \u2026", on_click=lambda operation=operation: self._change(operation))
                    button.props("outline dense no-caps").classes(f"opens do-{operation.replace(' ', '-')}")
            self._status = ui.label().classes("muted").props("role=status")
            self._list = TagList().on("pick", self._pick)
        self._panel.set_visibility(False)
        tab.on_view.append(self._refresh)

    def toggle(self) -> None:
        tab = self._tab
        is_on = not self._panel.visible
        self._panel.set_visibility(is_on)
        tab.detail.caption.chips.set_visibility(is_on)
        (tab.review_state.tagging.add if is_on else tab.review_state.tagging.discard)(tab.tab_id)
        self._refresh()

    def restore(self) -> None:
        """Switch it on if it was on before the page was reloaded."""
        if self._tab.tab_id in self._tab.review_state.tagging:
            self.toggle()

    def _scope(self) -> list[int] | None:
        """What "Add" and "Remove" change, if that is not the whole folder: the selection, or the shown items."""
        tab = self._tab
        return tab.selection.selected_in_order or (tab.selection.shown if tab.query.is_filter else None)

    def _captions(self) -> list[str] | None:
        """The captions that the next counts are of."""
        scope = self._scope()
        self._scope_size = None if scope is None else len(scope)
        return None if scope is None else [self._tab.review_state.library[number].caption.text for number in scope]

    def _refresh(self) -> None:
        if not self._panel.visible:
            return
        state = self._tab.changes, self._tab.query.value("tag"), self._scope()
        if self._shown_at != state:
            self._shown_at = state
            self._tags.request()

    def _show(self, counts: list[tuple[str, int, int | None]]) -> None:
        typed = (self._typed.value or "").strip().casefold()
        found = [entry for entry in counts if typed in entry[0].casefold()]
        self._list.show(found[:_MAX_SHOWN], chosen=self._tab.query.value("tag"), more=max(0, len(found) - _MAX_SHOWN))
        self._status.text = counted(len(found), "tag")
        if self._scope_size:
            present = sum(bool(entry[2]) for entry in found)
            self._status.text = f"{present:,} of {self._status.text} in {counted(self._scope_size, 'caption')}"

    def _pick(self, event: GenericEventArguments) -> None:
        """Filter by the tag, or no longer."""
        self._tab.filter_by(tag="" if event.args == self._tab.query.value("tag") else str(event.args))

    def _change(self, operation: str) -> None:
        """Open the dialog with the typed tag, else the one that is filtered by."""
        self._bulk.open(operation, (self._typed.value or "").strip() or self._tab.query.value("tag"))
