"""A dialog that exports the captions of the selection, or of all shown items."""

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import ui

from ...export.formats import EXPORTS
from ...export.selected import path_for_selection, write_list
from ...text import counted, encodable
from .cli_command import command_words, run_command
from .components import StatusLine

if TYPE_CHECKING:
    from .tab import ReviewTab


class ExportDialog:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        self._numbers: list[int] = []
        with ui.dialog() as self._dialog, ui.card().classes("sheet"):
            self._title = ui.label().classes("sheet-title").props("role=heading aria-level=1")
            with ui.element("div").classes("actions"):
                self._trainer = ui.select(list(EXPORTS), value="csv", on_change=self._show_target)
                self._trainer.props('dense outlined aria-label="Export for"').classes("choice")
                self._export = ui.button("Export", on_click=self._run).props("unelevated dense no-caps autofocus")
                self._export.classes("do-write-export")
                ui.button("Close", on_click=self._dialog.close).props("flat no-caps")
            self._target = ui.label().classes("muted").props("dir=auto")
            self._output = StatusLine("output")

    def open(self) -> None:
        selection = self._tab.selection
        self._numbers = selection.many()
        what = "selected" if selection.selected else "shown"
        self._title.text = f"Export {counted(len(self._numbers), 'caption')} ({what})"
        self._output.report("")
        self._show_target()
        self._dialog.open()

    @property
    def _path(self) -> Path:
        return path_for_selection(EXPORTS[self._trainer.value], self._tab.review_state.library.root.folder)

    def _show_target(self) -> None:
        self._target.text = encodable(f"Writes {self._path}. What is there with other content is renamed to .bak.")

    async def _run(self) -> None:
        self._export.set_enabled(False)
        self._output.report("Writing")
        try:
            library = self._tab.review_state.library
            names = [library[number].item.name for number in self._numbers]
            with tempfile.TemporaryDirectory() as temporary:
                listed = await asyncio.to_thread(write_list, names, Path(temporary) / "files.txt")
                target = ["--for", self._trainer.value, "--output", str(self._path), "--files", str(listed)]
                self._output.report(await run_command(command_words(self._tab, "export", *target)))
        finally:
            self._export.set_enabled(True)
