"""A bar that shows the progress of a long edit of many items, and cancels it."""

import asyncio
from collections.abc import Callable

from nicegui import ui

from ..changes import EditResult
from ..edits import Progress

_DELAY_S = 0.4  # a short edit needs no bar
_INTERVAL_S = 0.2


class ProgressBar:
    def __init__(self) -> None:
        self._done, self._is_canceled = 0, False
        with ui.element("div").classes("busy").props("role=status") as self._bar:
            self._label = ui.label()
            self._value = ui.linear_progress(show_value=False).props('aria-label="Progress"')
            ui.button("Cancel", on_click=self._cancel).props("outline dense no-caps")
        self._bar.set_visibility(False)

    def _cancel(self) -> None:
        self._is_canceled = True

    async def run(self, work: Callable[[Progress], EditResult | None], total: int) -> EditResult | None:
        """Run an edit of `total` items in a thread."""

        def on_progress(done: int) -> bool:
            self._done = done
            return not self._is_canceled

        self._done, self._is_canceled = 0, False
        running = asyncio.create_task(asyncio.to_thread(work, on_progress))
        await asyncio.wait({running}, timeout=_DELAY_S)
        while not running.done():
            self._label.text = f"{self._done:,} of {total:,}" + (", canceling" if self._is_canceled else "")
            self._value.value = self._done / max(total, 1)
            self._bar.set_visibility(True)
            await asyncio.wait({running}, timeout=_INTERVAL_S)
        self._bar.set_visibility(False)
        return running.result()
