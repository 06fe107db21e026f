"""The state that all browser tabs share. It notifies each tab of changes."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Protocol

from ...captions.limits import estimated_tokens
from ...config.precedence import without_prompts
from ...config.settings import Settings
from ...config.targets import token_limit
from ...engines.local.tokenizer import token_counter_at_hand
from ...errors import CaptionerError
from ..caption_details import decode_settings_for
from ..changes import Draft
from ..edits import Edits
from ..facts import FrameStrip
from ..library import Library
from ..media import Media, MediaFile
from ..phrases import PhraseIndex
from ..pixel_sizes import PixelSizes
from ..proposals import Proposals
from ..runs import RunController
from ..tags import TagCounts
from ..terms import FilterContext

_log = logging.getLogger(__name__)
_RESCAN_INTERVAL_S = 3.0
_MAX_CPU_SHARE = 0.05  # of one core, for rescans


class TabListener(Protocol):
    def changed(self, numbers: set[int]) -> None:
        """These items have changed."""
        ...

    async def save_unsaved(self) -> None:
        """Save the unsaved text."""
        ...

    def refresh_text(self) -> None:
        """The tokens can be counted exactly from now on."""
        ...


class ReviewState:
    def __init__(self, library: Library, settings: Settings, layers: Sequence[Mapping[str, Any]], media: Media) -> None:
        """settings: of the command line. layers: their sources, from which `settings_with` derives others."""
        self.library = library
        self.settings = settings
        self._layers = layers
        self.media = media
        self.sizes = PixelSizes(library, media.run_in_process)
        self.reading_sizes: tuple[int, int] | None = None  # (number that are read, number to read)
        self.edits = Edits(library)
        self.proposals = Proposals(library)
        self.runs = RunController(library, self.proposals)
        self.session = secrets.token_hex(4)
        self.tabs: list[TabListener] = []
        self.saved_views: dict[str, Any] = {}  # tab id -> (query, current item, selection), for a reload of the page
        self.tagging: set[str] = set()  # ids of the tabs in tag mode
        self.phrases = PhraseIndex()
        self.tags = TagCounts()
        self.count_tokens: Callable[[str], int] | None = None  # of the target's text encoder, if it is on this machine
        self.unsaved: list[Draft] = []  # drafts of closed tabs that conflict with the disk
        self._changes: set[int] = set()  # numbers of items, not yet sent to the tabs
        self._changes_lock = threading.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Call in the event loop of the server."""
        loop = asyncio.get_running_loop()

        def on_change(numbers: set[int]) -> None:
            """Send the tabs all changes since the last notification at once."""
            with self._changes_lock:
                is_scheduled = bool(self._changes)
                self._changes |= numbers
            if not is_scheduled:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self._notify_tabs)

        self.library.listeners.append(on_change)
        self._tasks += [loop.create_task(work()) for work in (self._watch_folder, self._update_phrases)]

    async def close(self) -> None:
        for tab in self.tabs:
            try:
                await tab.save_unsaved()
            except Exception:  # the other tabs must be saved, whatever fails in this one
                _log.exception("the unsaved text of a browser tab cannot be saved")
        for task in self._tasks:
            task.cancel()
        self.phrases.stop()
        await asyncio.to_thread(self.runs.close)
        await asyncio.to_thread(self.media.close)
        self.edits.close()

    def settings_with(self, chosen: Mapping[str, Any], *, replaces_prompts: bool) -> Settings:
        """The command line's settings (replaces_prompts: without prompts) below `chosen`. Raises `UsageError`."""
        layers = [without_prompts(layer) for layer in self._layers] if replaces_prompts else self._layers
        return Settings.from_dict(*layers, chosen)

    def filter_context(self) -> FilterContext:
        """Return what filters read beside the item itself."""
        limit = token_limit(self.settings.quality.target)
        count = None if limit is None else self.count_tokens or partial(_count_tokens, encoder=limit.encoder)
        flags = {flag for entry in self.library.present() for flag in entry.flags}
        return FilterContext(self.proposals, count, self.sizes.known, flags)

    def require_sizes(self) -> None:
        """Read the sizes that are not known, in the background. Call in the event loop of the server."""
        missing = self.sizes.missing(self.library.present())
        if missing and self.reading_sizes is None:
            self.reading_sizes = 0, len(missing)
            self._tasks.append(asyncio.get_running_loop().create_task(self._read_sizes(missing)))

    async def _read_sizes(self, numbers: list[int]) -> None:
        def on_progress(done: int) -> None:
            self.reading_sizes = done, len(numbers)

        try:
            await self.sizes.read(numbers, on_progress)
        finally:
            self.reading_sizes = None

    def _notify_tabs(self) -> None:
        with self._changes_lock:
            numbers, self._changes = self._changes, set()
        self._for_each_tab(lambda tab: tab.changed(numbers))

    def _for_each_tab(self, notify: Callable[[TabListener], None]) -> None:
        for tab in list(self.tabs):
            try:
                notify(tab)
            except Exception:  # the other tabs must be notified, whatever fails in this one
                _log.exception("a browser tab cannot display a change")

    async def _watch_folder(self) -> None:
        """Rescan for changes by other programs: a run from a terminal, an editor, another review server."""
        await self._find_tokenizer()  # first: the flags of captions without a record depend on it
        while True:
            wall_s = cpu_s = 0.0
            try:
                wall_s, cpu_s = await asyncio.to_thread(self._rescan)
            except Exception:  # the next rescan may succeed
                _log.exception("the folder cannot be scanned for changes")
            await asyncio.sleep(max(_RESCAN_INTERVAL_S, wall_s, cpu_s / _MAX_CPU_SHARE))

    async def _update_phrases(self) -> None:
        """Count the phrases that complete what is typed, and those of changed captions again."""
        while True:
            try:
                await asyncio.to_thread(self.phrases.update, self.library.present())
            except Exception:  # the next update may succeed
                _log.exception("the phrases of the captions cannot be counted")
            await asyncio.sleep(_RESCAN_INTERVAL_S)

    async def _find_tokenizer(self) -> None:
        """Load the tokenizer that counts exactly, if it is on this machine."""
        quality = self.settings.quality
        try:
            counter = await asyncio.to_thread(token_counter_at_hand, quality.tokenizer, quality.target)
        except Exception:  # whatever a broken file raises
            _log.exception("the tokenizer cannot be loaded: numbers of tokens are estimates")
            return
        if counter is None:
            return
        self.count_tokens = self.library.count_tokens = lru_cache(50_000)(counter)
        self._for_each_tab(lambda tab: tab.refresh_text())

    def _rescan(self) -> tuple[float, float]:
        """Return the seconds and CPU seconds that each rescan costs; flags are computed once."""
        started, cpu_started = time.monotonic(), time.thread_time()
        with suppress(CaptionerError, OSError):  # a network share may be briefly unavailable
            self.library.refresh()
        cost = time.monotonic() - started, time.thread_time() - cpu_started
        with suppress(CaptionerError, OSError):
            self.library.flag_unknown()
        return cost

    async def frame_strip(self, number: int) -> tuple[MediaFile, FrameStrip]:
        """Return the frames that the model saw or would see, and their times. Raises `ItemError`."""
        if not 0 <= number < len(self.library.entries):
            raise LookupError(number)
        settings = await asyncio.to_thread(decode_settings_for, self.library[number], self.settings)
        return await self.media.frame_strip(number, settings)


@lru_cache(100_000)
def _count_tokens(caption: str, encoder: str) -> int:
    return estimated_tokens(caption, encoder)
