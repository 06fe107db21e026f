"""The bar above the gallery: how many items are selected, and what can be done with them."""

from typing import TYPE_CHECKING

from nicegui import ui

from .components import click_handler

if TYPE_CHECKING:
    from .tab import ReviewTab

_ACTIONS = (
    ("Approve", "approve"),
    ("Reject", "reject"),
    ("Recaption", "recaption"),
    ("Change", "bulk"),
    ("Compare", "compare"),
    ("Export", "export_selection"),
    ("Trash", "trash"),
)


class SelectionBar:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        with (
            ui.element("div").classes("selection-bar actions").props('role=toolbar aria-label="Selection"') as self._bar
        ):
            self._count = ui.label().classes("selection-count").props("role=status")
            with ui.element("div").classes("actions") as self._actions:
                self._buttons = {}
                for label, command in _ACTIONS:
                    button = ui.button().on("click", js_handler=click_handler(command))
                    self._buttons[label] = button.props("outline dense no-caps").classes(f"do-{command}")
            ui.button("All shown").on("click", js_handler=click_handler("select_all")).props("flat dense no-caps")
            ui.button("Done").on("click", js_handler=click_handler("deselect")).props("flat dense no-caps")
        tab.on_view.append(self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        count = len(self._tab.selection.selected)
        self._bar.set_visibility(count > 0 or self._tab.is_selecting)
        self._actions.set_visibility(count > 0)
        self._count.text = f"{count:,} selected" if count else "Click or tap items to select them"
        for label, button in self._buttons.items():
            button.text = label if label == "Compare" else f"{label} {count:,}"
        self._buttons["Compare"].set_visibility(count <= 2)
