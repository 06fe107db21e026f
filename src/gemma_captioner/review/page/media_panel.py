"""The media of the current item: the stage, the player, the facts of the file and the frames that the model saw."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nicegui import background_tasks, ui
from nicegui.events import GenericEventArguments

from ...errors import ItemError
from ...text import counted, encodable
from ...types import Kind
from ..facts import FrameStrip, describe_facts
from ..library import ReviewItem
from .components import click_handler
from .media_elements import Pane, Player, Stage
from .review_state import ReviewState

T = TypeVar("T")
_LOAD_DELAY_S = 0.12  # a held key skips over items without loading them
_CANNOT: dict[Kind, str] = {
    "image": "display this image: convert it to PNG or JPEG",
    "clip": "play this clip: convert it to MP4 with H.264",
}
_SEEK = "() => document.dispatchEvent(new CustomEvent('captioner-seek', {{ detail: {time_s} }}))"


class MediaPanel:
    """empty_message: returns the text for an empty page. on_duration: called when `duration_s` is known."""

    def __init__(
        self, review_state: ReviewState, *, empty_message: Callable[[], str], on_duration: Callable[[], None]
    ) -> None:
        self._review_state = review_state
        self._empty_message = empty_message
        self._on_duration = on_duration
        self._entry: ReviewItem | None = None
        self._sources: list[Pane] = []
        self.duration_s: float | None = None  # of the clip, once it is known
        with ui.element("div").classes("stage"):
            self._stage = Stage().on("broken", self._explain_broken)
            self._player = Player()
            with ui.element("div").classes("stage-state"):
                self._state = ui.label().props("role=status")
                self._offer = ui.button("Open the run").on("click", js_handler=click_handler("run_tab"))
                self._offer.props("outline no-caps")
        self._facts = ui.label().classes("facts")
        self._fault = ui.label().classes("source-fault").props("role=alert")
        with ui.element("section").classes("strip-box") as self._strip_box:
            self._strip_label = ui.label().classes("strip-label")
            self._strip = ui.element("div").classes("strip")
        self.show(None)

    def show(self, entry: ReviewItem | None) -> None:
        self._entry, self._sources, self.duration_s = entry, [], None
        is_shown = entry is not None and entry.access_error is None
        is_clip = is_shown and entry is not None and entry.item.kind == "clip"
        self._strip.clear()
        self._strip_box.set_visibility(is_clip)
        self._strip_label.text = "Reading the frames" if is_clip else ""
        self._player.set_visibility(is_clip)
        self._player.reset()
        self._facts.text = self._fault.text = ""
        self._set_status("" if entry else self._empty_message())
        has_sources = bool(self._review_state.library.sources.folders)
        self._stage.show([] if entry is None or not is_shown or has_sources else [self._pane(entry)])
        if entry is None:
            return
        if not is_shown:
            self._set_status(f"Cannot display this file: {entry.access_error}")
            return
        background_tasks.create(self._load(entry))

    async def _load(self, entry: ReviewItem) -> None:
        media, number = self._review_state.media, entry.number
        if self._review_state.library.sources.folders:
            await self._show_sources(entry)
        await asyncio.sleep(_LOAD_DELAY_S)
        if self._entry is not entry:
            return
        if entry.item.kind == "clip":
            self._set_status("Preparing the clip")
            if await self._await_or_explain(entry, media.clip(number)) is None:
                return
            self._stage.show([*self._sources, self._pane(entry, is_ready=True)])
        facts = await self._await_or_explain(entry, media.facts(number), is_vital=False)
        if facts is not None:
            self._facts.text = describe_facts(facts)
            self._stage.show_size(facts.width, facts.height)
        if entry.item.kind != "clip":
            return
        if facts is not None:
            self._player.show_facts(facts)
            self.duration_s = facts.duration_s
            self._on_duration()
        strip = await self._await_or_explain(entry, self._review_state.frame_strip(number))
        if strip is not None:
            self._player.show_span(strip[1])
            self._show_strip(entry, strip[1])
        if facts is not None and facts.audio is not None:
            levels = await self._await_or_explain(entry, media.waveform(number), is_vital=False)
            self._player.show_levels(levels or ())

    async def _show_sources(self, entry: ReviewItem) -> None:
        """Show the sources of an edit before its target; an error does not hide the target."""
        library, session = self._review_state.library, self._review_state.session
        sources, fault = [], ""
        try:
            sources = await asyncio.to_thread(library.sources.of, entry.item)
        except ItemError as error:
            fault = encodable(str(error))
        if self._entry is not entry:
            return
        self._fault.text = fault
        self._sources = []
        for place, (_, source) in enumerate(sources):
            number = f" {place + 1}" if len(sources) > 1 else ""
            label, address = encodable(f"Source{number}: {source.name}"), f"{entry.number}/{place}?{session}"
            self._sources.append(_pane(source.kind, f"{entry.number}-{place}", address, alt=label, label=label))
        self._stage.show([*self._sources, self._pane(entry)])

    def _pane(self, entry: ReviewItem, *, is_ready: bool = False) -> Pane:
        """is_ready: whether the clip can be sent."""
        name = f"{entry.name}: {entry.caption.text}" if entry.caption.text else entry.name
        address = f"{entry.number}?{self._review_state.session}"
        label = f"Target: {entry.name}" if self._sources else ""
        pane = _pane(entry.item.kind, str(entry.number), address, alt=name, label=label)
        return pane if is_ready or entry.item.kind == "image" else {**pane, "src": ""}

    def _show_strip(self, entry: ReviewItem, strip: FrameStrip) -> None:
        """Show the frames as one image, with a button over each frame that stops the clip at its time."""
        verb = "saw" if entry.provenance is not None else "would see"
        label = f"{counted(len(strip.times_s), 'frame')} that the model {verb}"
        begin, end = strip.span_s
        part = f", of {begin:.2f} to {end:.2f} s" if strip.is_part else ""
        self._strip_label.text = f"{label}{part}"
        self._strip.clear()
        with self._strip, ui.element("div"):
            image = ui.element("img").props(f'src="/strip/{entry.number}?{self._review_state.session}"')
            image.props["alt"] = label
            with ui.element("div").classes("times"):
                for time_s in strip.times_s:
                    button = ui.button(f"{time_s:.2f}").on("click", js_handler=_SEEK.format(time_s=time_s))
                    button.props(f'flat dense aria-label="Stop at {time_s:.2f} seconds"').classes("frame-time")

    # Errors

    async def _await_or_explain(self, entry: ReviewItem, pending: Awaitable[T], *, is_vital: bool = True) -> T | None:
        """Return the result, or None after an error or if another item is current by then.

        is_vital: whether an error means that the file cannot be shown.
        """
        try:
            found = await pending
        except ItemError as error:
            if self._entry is entry and is_vital:
                self._hide(f"Cannot display this file: {error}")
            return None
        except (LookupError, OSError):  # the file was removed
            return None
        if self._entry is not entry:
            return None
        if is_vital:
            self._set_status("")
        return found

    async def _explain_broken(self, event: GenericEventArguments) -> None:
        """The browser cannot display a file: report the error of our own decoder, if it has one."""
        entry, media = self._entry, self._review_state.media
        if entry is None or event.args != str(entry.number):
            return
        if await self._await_or_explain(entry, media.thumb(entry.number)) is not None:
            self._hide(f"The browser cannot {_CANNOT[entry.item.kind]}")

    def _hide(self, reason: str) -> None:
        self._stage.show(self._sources)
        self._player.set_visibility(False)
        self._strip_box.set_visibility(False)
        self._set_status(reason)

    def _set_status(self, what: str) -> None:
        self._state.text = encodable(what)
        self._state.set_visibility(bool(what))
        self._offer.set_visibility(self._entry is None and not any(self._review_state.library.present()))


def _pane(kind: str, key: str, address: str, *, alt: str, label: str) -> Pane:
    """address: the item's number, or that of a source, with the session."""
    return {
        "key": key,
        "kind": kind,
        "src": f"/{'clip' if kind == 'clip' else 'picture'}/{address}",
        "full": f"/full/{address}",
        "poster": f"/thumb/{address}",
        "alt": alt,
        "label": label,
    }
