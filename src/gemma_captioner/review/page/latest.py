"""Work in a thread for what changes faster than it is done: only the latest request is shown."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from nicegui import background_tasks

T = TypeVar("T")


class LatestOnly(Generic[T]):
    """prepare: returns the work for the present state, which a thread does. show: displays its result."""

    def __init__(self, prepare: Callable[[], Callable[[], T]], show: Callable[[T], None]) -> None:
        self._prepare = prepare
        self._show = show
        self._is_requested = self._is_running = False

    def request(self) -> None:
        """The state changed. While work is running, it is done once more after that, however many requests come."""
        self._is_requested = True
        if not self._is_running:
            self._is_running = True
            background_tasks.create(self._run())

    async def _run(self) -> None:
        try:
            while self._is_requested:
                self._is_requested = False
                result = await asyncio.to_thread(self._prepare())
            self._show(result)
        finally:
            self._is_running = False
