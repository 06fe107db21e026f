"""What all tabs share: the folder, its edits, its pictures; and what happens elsewhere, told to each of them."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from ...config.precedence import without_prompts
from ...config.settings import Settings
from ...errors import CaptionerError
from ..caption_details import decode_settings_for
from ..edits import Draft, Edits
from ..library import Library
from ..media import Media, MediaFile
from ..proposals import Proposals
from ..runs import RunController

_RESCAN_INTERVAL_S, _MAX_CPU_SHARE = (
    3.0,
    0.05,
)  # how often other programs' work is looked for; the most of a core for it


class TabListener(Protocol):
    def changed(self, numbers: set[int]) -> None:
        """These entries are not what they were."""
        ...

    async def keep_draft(self) -> None:
        """Save what was typed and not saved."""
        ...


class ReviewState:
    def __init__(self, library: Library, settings: Settings, layers: Sequence[Mapping[str, Any]], media: Media) -> None:
        """settings: the command's. layers: what they were made of, for those that are to differ from them."""
        self.library = library
        self.settings = settings
        self._layers = layers
        self.media = media
        self.edits = Edits(library)
        self.proposals = Proposals(library)
        self.runs = RunController(library, self.proposals)
        self.session = secrets.token_hex(4)
        self.tabs: list[TabListener] = []
        self.saved_views: dict[str, Any] = {}  # what a tab showed, by its id, for when it is loaded anew
        self.unsaved: list[Draft] = []  # of tabs that are gone, where somebody else had written meanwhile
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Within the server's loop."""
        loop = asyncio.get_running_loop()

        def on_change(numbers: set[int]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._notify_tabs, set(numbers))

        self.library.listeners.append(on_change)
        self._tasks.append(loop.create_task(self._watch_folder()))

    async def close(self) -> None:
        for tab in self.tabs:
            await tab.keep_draft()
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self.runs.close)
        await asyncio.to_thread(self.media.close)
        self.edits.close()

    def settings_with(self, chosen: Mapping[str, Any], *, replaces_prompts: bool) -> Settings:
        """The command's, what was chosen on the page above them. replaces_prompts: its prompts give way altogether.

        Raises `UsageError`.
        """
        layers = [without_prompts(layer) for layer in self._layers] if replaces_prompts else self._layers
        return Settings.from_dict(*layers, chosen)

    def _notify_tabs(self, numbers: set[int]) -> None:
        for tab in list(self.tabs):
            tab.changed(numbers)

    async def _watch_folder(self) -> None:
        """Other programs write here too: a run from a terminal, an editor, another reviewer's server."""
        while True:
            started = time.monotonic()
            with suppress(CaptionerError, OSError):  # a share that is gone for a moment
                await asyncio.to_thread(self._rescan)
            await asyncio.sleep(max(_RESCAN_INTERVAL_S, (time.monotonic() - started) / _MAX_CPU_SHARE))

    def _rescan(self) -> None:
        self.library.refresh()
        self.library.flag_unknown()

    async def strip(self, number: int) -> tuple[MediaFile, list[float]]:
        """The frames of a clip that the model saw, or would see, and their times in seconds. Raises `ItemError`."""
        if not 0 <= number < len(self.library.entries):
            raise LookupError(number)
        settings = await asyncio.to_thread(decode_settings_for, self.library[number], self.settings)
        return await self.media.strip(number, settings)

    async def run_blocking(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Work that touches the disk, off the loop that all tabs share."""
        return await asyncio.to_thread(work, *arguments, **named)
