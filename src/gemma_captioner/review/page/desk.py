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
from ..edits import Draft, Edits
from ..library import Library
from ..media import Media, Shown
from ..proposals import Proposals
from ..provenance import way_of_seeing
from ..runs import Runs

_LOOK_AGAIN_S, _SHARE_OF_TIME = 3.0, 0.05  # how often other programs' work is looked for; the most of a core for it


class Tab(Protocol):
    def changed(self, numbers: set[int]) -> None:
        """These entries are not what they were."""
        ...

    async def keep_draft(self) -> None:
        """Save what was typed and not saved."""
        ...


class Desk:
    def __init__(self, library: Library, settings: Settings, layers: Sequence[Mapping[str, Any]], media: Media) -> None:
        """settings: the command's. layers: what they were made of, for those that are to differ from them."""
        self.library = library
        self.settings = settings
        self._layers = layers
        self.media = media
        self.edits = Edits(library)
        self.proposals = Proposals(library)
        self.runs = Runs(library, self.proposals)
        self.session = secrets.token_hex(4)
        self.tabs: list[Tab] = []
        self.places: dict[str, Any] = {}  # what a tab showed, by its id, for when it is loaded anew
        self.unsaved: list[Draft] = []  # of tabs that are gone, where somebody else had written meanwhile
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Within the server's loop."""
        loop = asyncio.get_running_loop()

        def told(numbers: set[int]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._spread, set(numbers))

        self.library.listeners.append(told)
        self._tasks.append(loop.create_task(self._watch()))

    async def close(self) -> None:
        for tab in self.tabs:
            await tab.keep_draft()
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self.runs.close)
        await asyncio.to_thread(self.media.close)
        self.edits.close()

    def settings_with(self, chosen: Mapping[str, Any], *, asks_otherwise: bool) -> Settings:
        """The command's, what was chosen on the page above them. asks_otherwise: its prompts give way altogether.

        Raises `UsageError`.
        """
        beneath = [without_prompts(layer) for layer in self._layers] if asks_otherwise else self._layers
        return Settings.from_dict(*beneath, chosen)

    def _spread(self, numbers: set[int]) -> None:
        for tab in list(self.tabs):
            tab.changed(numbers)

    async def _watch(self) -> None:
        """Other programs write here too: a run from a terminal, an editor, another reviewer's server."""
        while True:
            began = time.monotonic()
            with suppress(CaptionerError, OSError):  # a share that is gone for a moment
                await asyncio.to_thread(self._look)
            await asyncio.sleep(max(_LOOK_AGAIN_S, (time.monotonic() - began) / _SHARE_OF_TIME))

    def _look(self) -> None:
        self.library.refresh()
        self.library.judge_unknown()

    async def strip(self, number: int) -> tuple[Shown, list[float]]:
        """The frames of a clip that the model saw, or would see, and their times in seconds. Raises `ItemError`."""
        if not 0 <= number < len(self.library.entries):
            raise LookupError(number)
        way = await asyncio.to_thread(way_of_seeing, self.library[number], self.settings)
        return await self.media.strip(number, way)

    async def do(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Work that touches the disk, off the loop that all tabs share."""
        return await asyncio.to_thread(work, *arguments, **named)
