"""Buttons above the gallery: grid or list, and the size of the tiles."""

from nicegui import ui

from .components import click_handler

_BUTTONS = (  # label, command, key, name
    ("List", "list", "m", "List or grid"),
    ("\u2212", "smaller", "-", "Smaller tiles"),
    ("+", "larger", "=", "Larger tiles"),
)


def view_buttons() -> None:
    for label, command, key, name in _BUTTONS:
        button = ui.button(label).on("click", js_handler=click_handler(command)).classes(f"do-{command}")
        button.props(f'flat dense no-caps aria-label="{name}" aria-keyshortcuts="{key}"').tooltip(f"{name} ( {key} )")
