"""The dialog with the keyboard shortcuts."""

from itertools import groupby

from nicegui import ui

from .keys import SHORTCUTS, SHOWN

_POINTER = (
    "Click opens an item, Shift+click selects a range, Ctrl+click adds or removes an item. "
    "On a touch screen, hold an item, or tap Select first. In the list, a click on a caption edits it. "
    "The wheel or two fingers zoom the picture, dragging moves it, a double click shows it one to one."
)


def help_dialog() -> ui.dialog:
    with ui.dialog() as dialog, ui.card().classes("sheet help"):
        ui.label("Keyboard shortcuts").classes("sheet-title").props("role=heading aria-level=1")
        with ui.element("div").classes("help-columns"):
            for group, keys in groupby(SHORTCUTS, key=lambda key: key.group):
                with ui.element("dl"):
                    ui.label(group).classes("muted")
                    for key in keys:
                        with ui.element("dt"):
                            for name in key.keys:
                                ui.label(SHOWN.get(name, name)).classes("kbd")
                        with ui.element("dd"):
                            ui.label(key.help)
        ui.label(_POINTER).classes("muted")
        ui.button("Close", on_click=dialog.close).props("flat no-caps autofocus")
    return dialog
