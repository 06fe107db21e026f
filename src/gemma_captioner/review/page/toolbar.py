"""The bar over the page: the folder, the panels, how far the review is, and what concerns all of it."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nicegui import ui

from ...dataset.listing import natural_sort_key
from ...text import counted, encodable
from ..library import ReviewItem
from .components import click_handler
from .run_panel import run_line

if TYPE_CHECKING:
    from .tab import ReviewTab

_PANELS = {"captions_tab": "Captions", "overview_tab": "Overview", "run_tab": "Run"}
_MAX_FOLDERS = 200  # in the dialog
_TOOLS = (  # label, command, key, icon, description
    ("Change many", "bulk", "b", "edit_note", "Change the captions of the selection or of all shown"),
    ("Recaption", "recaption", "c", "refresh", "Caption this item, the selection or all shown again"),
    ("Theme", "dark", "t", "contrast", "Light or dark"),
    ("Help", "help", "?", "help_outline", "Keyboard shortcuts"),
)


class Toolbar:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        with ui.element("nav").classes("tabs").props('aria-label="Page"'):
            name = encodable(tab.review_state.library.root.folder.name)
            self._folder = ui.label(name).classes("folder ellipsis").props("role=heading aria-level=1 dir=auto")
            self._folders = FoldersDialog(tab)
            change = _tool("Change", "folder_open", "Change the folder").on("click", self._folders.open)
            change.classes("opens do-change").props('aria-label="Change the folder"')
            self._panels = {
                name: ui.button(label, on_click=lambda name=name: tab.command(name)).props("flat dense no-caps")
                for name, label in _PANELS.items()
            }
            self._run = ui.label().classes("run-line ellipsis").props("role=status")
            with ui.element("div").classes("reviewed"):
                self._reviewed = ui.label()
                self._bar = ui.linear_progress(show_value=False, size="3px").props('aria-label="Reviewed"')
            for label, command, key, icon, description in _TOOLS:
                tool = _tool(label, icon, f"{description} ({key})").on("click", js_handler=click_handler(command))
                tool.classes(f"do-{command}").props(f'aria-label="{label}" aria-keyshortcuts="{key}"')
        tab.on_view.append(self._refresh)

    def show_panel(self, name: str) -> None:
        for other, button in self._panels.items():
            button.props(f"aria-pressed={str(other == name).lower()}")

    def show_run(self) -> None:
        self._run.text = run_line(self._tab) if self._tab.review_state.runs.state != "idle" else ""

    def _refresh(self) -> None:
        tab = self._tab
        names = tab.review_state.library.root.folder.name, tab.query.value("folder")
        self._folder.text = encodable("/".join(filter(None, names)))
        totals = tab.totals()
        self._reviewed.text = f"{totals.reviewed:,} of {totals.files:,} reviewed"
        self._bar.value = totals.reviewed / totals.files if totals.files else 0.0


def _tool(label: str, icon: str, description: str) -> ui.button:
    """A button that shows its label where there is room."""
    with ui.button(icon=icon).props("flat dense no-caps").classes("tool").tooltip(description) as button:
        ui.label(label).classes("tool-label")
    return button


def folder_counts(entries: Iterable[ReviewItem]) -> list[tuple[str, int]]:
    """Return the folders inside the reviewed one with the number of their items, those in their subfolders included.

    # a.png, day1/b.png, day1/cut/c.png -> (day1, 2), (day1/cut, 1)
    """
    counts = Counter[str]()
    for entry in entries:
        parts = entry.folder.split("/") if entry.folder else []
        counts.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return sorted(counts.items(), key=lambda found: natural_sort_key(found[0]))


class FoldersDialog:
    """Chooses a folder inside the opened one. Another one is for the person who runs the server to open."""

    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        with ui.dialog() as self._dialog, ui.card().classes("sheet folders"):
            ui.label("Change the folder").classes("sheet-title").props("role=heading aria-level=1")
            self._list = ui.element("div").classes("folder-list")
            ui.label("To review another folder, run this on the machine that serves the page:").classes("muted")
            ui.label("gemma-captioner review FOLDER").classes("output")
            ui.button("Close", on_click=self._dialog.close).props("flat no-caps autofocus")

    def open(self) -> None:
        tab = self._tab
        entries = list(tab.review_state.library.present())
        top = encodable(tab.review_state.library.root.folder.name)
        folders = folder_counts(entries)
        self._list.clear()
        with self._list:
            for folder, count in [("", len(entries)), *folders[:_MAX_FOLDERS]]:
                name = f"{top}/{folder}" if folder else top
                button = ui.button(f"{name} \u00b7 {counted(count, 'file')}", on_click=lambda f=folder: self._choose(f))
                is_current = tab.query.value("folder") == folder
                button.props(f"flat no-caps align=left aria-pressed={str(is_current).lower()}")
            if more := max(0, len(folders) - _MAX_FOLDERS):
                ui.label(f"and {counted(more, 'folder')} more: the filter of folders has them all").classes("muted")
        self._dialog.open()

    def _choose(self, folder: str) -> None:
        self._tab.filter_by(folder=folder)
        self._dialog.close()
