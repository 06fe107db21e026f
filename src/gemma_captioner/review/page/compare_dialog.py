"""A dialog that shows two items side by side: pictures, and captions with their differences."""

from typing import TYPE_CHECKING, Any

from nicegui import ui

from ...captions.length import describe_length
from ..library import ReviewItem
from .components import DiffList

if TYPE_CHECKING:
    from .tab import ReviewTab


class CompareDialog:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        with ui.dialog().props("full-width") as self._dialog, ui.card().classes("sheet compare"):
            with ui.element("div").classes("pair"):
                self._sides = [ui.element("figure") for _ in range(2)]
            self._captions = DiffList(labels=("Left", "Right"))
            with ui.element("div").classes("actions"):
                ui.button("Previous", on_click=lambda: self._step(-1)).props("outline dense no-caps")
                ui.button("Next", on_click=lambda: self._step(1)).props("outline dense no-caps").classes("do-next-pair")
                ui.button("Close", on_click=self._dialog.close).props("flat no-caps autofocus")
                ui.label("Previous and Next change the right one.").classes("muted")
        self._pair: list[int] = []

    def open(self) -> None:
        """Compare the two selected items; with others selected, the current one and the first other; else the next."""
        selection = self._tab.selection
        chosen = selection.selected_in_order
        if len(chosen) != 2:
            others = chosen or selection.shown[selection.place + 1 :] or selection.shown[: selection.place][-1:]
            current = [] if selection.current is None else [selection.current]
            chosen = [*current, *(number for number in others if number != selection.current)][:2]
        if len(chosen) < 2:
            ui.notify("there is no second item to compare: select two", position="bottom-left")
            return
        self._pair = chosen
        self._show()
        self._dialog.open()

    def _step(self, offset: int) -> None:
        """Show another item on the right, among those selected or else shown."""
        left, right = self._pair
        others = [number for number in self._tab.selection.many() if number != left]
        if len(others) < 2:
            others = [number for number in self._tab.selection.shown if number != left]
        place = others.index(right) if right in others else 0
        self._pair = [left, others[(place + offset) % len(others)]]
        self._show()

    def _show(self) -> None:
        left, right = (self._tab.review_state.library[number] for number in self._pair)
        for side, entry in zip(self._sides, (left, right), strict=True):
            side.clear()
            with side:
                self._media(entry)
                with ui.element("figcaption"):
                    ui.label(entry.name).classes("name").props("dir=auto")
                    parts = [entry.decision or "", describe_length(entry.caption.text), *entry.flags]
                    ui.label("  \u00b7  ".join(filter(None, parts))).classes("muted")
        self._captions.show([("", left.caption.text, right.caption.text)])

    def _media(self, entry: ReviewItem) -> None:
        session = self._tab.review_state.session
        element: Any
        if entry.item.kind == "clip":
            element = ui.video(f"/clip/{entry.number}?{session}", loop=True, autoplay=True, muted=True)
            element.props(f'playsinline poster="/thumb/{entry.number}?{session}"')
        else:
            element = ui.element("img").props(f'src="/picture/{entry.number}?{session}"')
        element.props["aria-label" if entry.item.kind == "clip" else "alt"] = entry.name
