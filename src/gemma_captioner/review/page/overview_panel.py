"""The overview: charts whose bars open the matching items; export and check."""

import asyncio
from typing import TYPE_CHECKING

from nicegui import ui

from ...export.formats import EXPORTS
from ..overview import ChartBar, overview
from .cli_command import command_words, run_command
from .components import StatusLine

if TYPE_CHECKING:
    from .tab import ReviewTab


class OverviewPanel:
    def __init__(self, tab: "ReviewTab") -> None:
        self._tab = tab
        with ui.element("div").classes("panel").props('aria-label="Overview"') as self.element:
            with ui.element("div").classes("actions"):
                self._trainer = ui.select(list(EXPORTS), value="csv").props('dense outlined aria-label="Export for"')
                self._trainer.classes("choice")
                ui.button("Export", on_click=self._export).props("outline dense no-caps").classes("do-export")
                ui.button("Check", on_click=lambda: self._command("check")).props("outline dense no-caps")
            self._status = StatusLine("output")
            self._charts = ui.element("div").classes("charts")

    async def show(self) -> None:
        entries = list(self._tab.review_state.library.present())
        self._charts.clear()
        with self._charts:
            ui.label("Counting" if entries else "There are no items yet").classes("muted")
        if not entries:
            return
        charts = await asyncio.to_thread(overview, entries)
        self._charts.clear()
        with self._charts:
            for title, bars in charts:
                if bars:
                    self._chart(title, bars)

    def _chart(self, title: str, bars: tuple[ChartBar, ...]) -> None:
        most = max(bar.count for bar in bars)
        with ui.element("section").classes("chart"):
            ui.label(title).classes("muted").props("role=heading aria-level=2")
            for bar in bars:
                with ui.element("button").classes("bar").on("click", lambda bar=bar: self._click(bar)):
                    ui.label(bar.label).classes("bar-label").props("dir=auto")
                    ui.label(f"{bar.count:,}").classes("bar-count")
                    ui.element("span").classes("bar-fill").style(f"width: {100 * bar.count / max(most, 1):.1f}%")

    async def _click(self, bar: ChartBar) -> None:
        self._tab.apply_query(bar.query)
        await self._tab.command("captions_tab")

    async def _export(self) -> None:
        await self._command("export", "--for", self._trainer.value)

    async def _command(self, name: str, *arguments: str) -> None:
        """Run a command of the command line and display its output."""
        words = command_words(self._tab, name, *arguments)
        self._status.report(f"gemma-captioner {' '.join(words)} ...")
        self._status.report(await run_command(words))
