"""The current item: its picture or clip, the frames that the model saw, its caption, flags and provenance."""

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import background_tasks, ui
from nicegui.events import GenericEventArguments

from ...errors import ItemError
from ...text import counted, encodable
from ..caption_details import describe_provenance
from ..changes import Draft
from ..library import ReviewItem
from .caption_panel import CaptionPanel
from .components import CaptionEditor, DiffList, click_handler
from .review_state import ReviewState

_EMIT_NUMBER = "(event) => emit(event.target.dataset.number)"
_LOAD_DELAY_S = 0.12  # a held key skips over items without loading them
_MOVES = (("\u2039", "previous", "k", "Previous"), ("\u203a", "next", "j", "Next"))
_ACTIONS = (
    ("Approve", "approve", "a"),
    ("Reject", "reject", "r"),
    ("Undo", "undo", "u"),
    ("Recaption", "recaption", "c"),
    ("Trash", "trash", "d"),
)
_TOOLS = (("Tags", "tag_mode", ","),)


class Detail:
    """The right side of the page. filter_by: filters by a flag. empty_message: returns the text for an empty page."""

    def __init__(
        self, review_state: ReviewState, *, filter_by: Callable[..., None], empty_message: Callable[[], str]
    ) -> None:
        self._review_state = review_state
        self._empty_message = empty_message
        self._number: int | None = None
        self._entry: ReviewItem | None = None
        with ui.element("section").classes("detail").props('aria-label="Current item"'):
            with ui.element("div").classes("stage"):
                self._image = ui.element("img").on("error", self._explain_image_error, js_handler=_EMIT_NUMBER)
                self._video = ui.video("", loop=True, autoplay=True, muted=True).props("playsinline")
                with ui.element("div").classes("stage-state"):
                    self._state = ui.label().props("role=status")
                    self._offer = ui.button("Open the run").on("click", js_handler=click_handler("run_tab"))
                    self._offer.props("outline no-caps")
            self._strip = ui.element("div").classes("strip")
            self.caption = CaptionPanel(review_state, filter_by)
            with ui.element("div").classes("proposal").props('aria-label="New caption"') as self._proposal:
                self._sides = DiffList(labels=("Present caption", "New caption"))
                with ui.element("div").classes("actions"):
                    resolutions = self._buttons((("Accept new", "accept", "y"), ("Keep old", "keep", "n")))
            with ui.element("div").classes("actions") as self._actions:
                for sign, command, key, name in _MOVES:
                    button = ui.button(sign).on("click", js_handler=click_handler(command)).classes(f"do-{command}")
                    button.props(f'outline dense aria-label="{name}" aria-keyshortcuts="{key}"')
                self._targeted = resolutions | self._buttons(_ACTIONS)
                self._buttons(_TOOLS)
            self._provenance = ui.element("dl").classes("provenance")
            self._provenance.set_visibility(False)
        self._show_media()

    @property
    def editor(self) -> CaptionEditor:
        return self.caption.editor

    def _buttons(self, actions: tuple[tuple[str, str, str], ...]) -> dict[str, ui.button]:
        """actions: (label, command, key). Return the buttons by label."""
        buttons = {}
        for label, command, key in actions:
            with ui.button(label).on("click", js_handler=click_handler(command)) as button:
                ui.label(key).classes("kbd").props("aria-hidden=true")
            buttons[label] = button.props(f'outline dense no-caps aria-keyshortcuts="{key}"').classes(f"do-{command}")
        return buttons

    def show_targets(self, num_selected: int) -> None:
        """Let the buttons say that they apply to the selected items: "Trash 6"."""
        for label, button in self._targeted.items():
            if label != "Undo":
                button.text = f"{label} {num_selected:,}" if num_selected else label

    def show(self, entry: ReviewItem | None, fill: bool, draft: Draft | None = None) -> None:
        """fill: also put its caption, or the unsaved `draft`, into the editor."""
        is_other = entry is None or entry.number != self._number
        self._entry, self._number = entry, None if entry is None else entry.number
        self.caption.show(entry, fill=fill, draft=draft)
        self._actions.set_visibility(entry is not None)
        proposal = None if entry is None else self._review_state.proposals.of(entry.number)
        self._proposal.set_visibility(proposal is not None)
        self._proposal.props["data-digest"] = proposal.digest if proposal else None
        if entry is not None and proposal is not None:
            self._sides.show([("", entry.caption.text, proposal.text)])
        if self._provenance.visible:
            self._show_provenance()
        if is_other:
            self._show_media()

    def play(self) -> None:
        if self._entry is not None and self._entry.item.kind == "clip":
            ui.run_javascript(f"const v = getElement({self._video.id}).$el; v.paused ? v.play() : v.pause()")

    def toggle_provenance(self) -> None:
        self._provenance.set_visibility(not self._provenance.visible)
        self._show_provenance()

    def _show_provenance(self) -> None:
        self._provenance.clear()
        if self._entry is None or not self._provenance.visible:
            return
        with self._provenance:
            for term, description in describe_provenance(self._entry):
                with ui.element("dt"):
                    ui.label(term)
                with ui.element("dd"):
                    ui.label(description).props("dir=auto")

    # Picture or clip

    def _show_media(self) -> None:
        """The key makes a new element for each item, so that none shows the picture of the item before."""
        entry, session = self._entry, self._review_state.session
        is_shown = entry is not None and entry.access_error is None
        is_clip = entry is not None and entry.item.kind == "clip"
        self._strip.clear()
        self._strip.set_visibility(is_shown and is_clip)
        self._image.set_visibility(is_shown and not is_clip)
        self._video.set_visibility(is_shown and is_clip)
        self._set_status("" if entry else self._empty_message())
        if entry is None:
            return
        for element in (self._image, self._video):
            element.props(f"key={element.id}-{entry.number}")
        name = f"{entry.name}: {entry.caption.text}" if entry.caption.text else entry.name
        if entry.access_error is not None:
            self._set_status(f"Cannot display this file: {entry.access_error}")
        elif is_clip:
            self._video.props["aria-label"] = name
            self._video.props(f'poster="/thumb/{entry.number}?{session}"')
            self._video.set_source("")
            background_tasks.create(self._load_clip(entry))
        else:
            self._image.props(f'src="/picture/{entry.number}?{session}" data-number={entry.number}')
            self._image.props["alt"] = name

    async def _explain_image_error(self, event: GenericEventArguments) -> None:
        """The browser cannot display the image: report the error of our own decoder, if it has one."""
        entry, media = self._entry, self._review_state.media
        if entry is None or event.args != str(entry.number):
            return
        self._image.set_visibility(False)
        if await self._await_or_explain(entry, media.thumb(entry.number)) is not None:
            self._set_status("The browser cannot display this image: convert it to PNG or JPEG")

    async def _load_clip(self, entry: ReviewItem) -> None:
        review_state = self._review_state
        await asyncio.sleep(_LOAD_DELAY_S)
        if self._number != entry.number:
            return
        self._set_status("Preparing the clip")
        if await self._await_or_explain(entry, review_state.media.clip(entry.number)) is None:
            return
        self._video.set_source(f"/clip/{entry.number}?{review_state.session}")
        strip = await self._await_or_explain(entry, review_state.frame_strip(entry.number))
        if strip is not None:
            self._show_strip(entry, strip[1])

    async def _await_or_explain(self, entry: ReviewItem, pending: Any) -> Any:
        """Return the result, or None after an error or if another item is current by then."""
        try:
            found = await pending
        except ItemError as error:
            if self._number == entry.number:
                self._video.set_visibility(False)
                self._set_status(f"Cannot display this file: {error}")
            return None
        except LookupError:  # the file was removed
            return None
        if self._number != entry.number:
            return None
        self._set_status("")
        return found

    def _show_strip(self, entry: ReviewItem, times_s: list[float]) -> None:
        """Show the frames as one image, with a button over each frame that seeks to its time."""
        self._strip.clear()
        with self._strip, ui.element("div"):
            image = ui.element("img").props(f'src="/strip/{entry.number}?{self._review_state.session}"')
            image.props["alt"] = f"{counted(len(times_s), 'frame')} that the model saw"
            with ui.element("div").classes("times"):
                for time_s in times_s:
                    button = ui.button(f"{time_s:.2f}", on_click=lambda time_s=time_s: self._video.seek(time_s))
                    button.props(f'flat dense aria-label="Go to {time_s:.2f} seconds"').classes("frame-time")

    def _set_status(self, what: str) -> None:
        self._state.text = encodable(what)
        self._state.set_visibility(bool(what))
        self._offer.set_visibility(self._entry is None and not any(self._review_state.library.present()))
