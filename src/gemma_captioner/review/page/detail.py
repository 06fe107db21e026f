"""The current item: its picture or clip, the frames that the model saw, its caption, flags and provenance."""

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import background_tasks, ui

from ...captions.limits import estimated_tokens
from ...config.languages import LANGUAGES
from ...config.targets import token_limit
from ...errors import ItemError
from ...text import counted, encodable
from ..caption_details import describe_provenance
from ..library import ReviewItem
from .components import CaptionEditor, DiffList, click_handler
from .review_state import ReviewState

_LOAD_DELAY_S = 0.12  # a held key skips over items without loading them
_ACTIONS = (
    ("Approve", "approve", "a"),
    ("Reject", "reject", "r"),
    ("Undo", "undo", "u"),
    ("Recaption", "recaption", "c"),
    ("Trash", "trash", "d"),
)


class Detail:
    """The right side of the page. filter_by: filters by a flag. empty_message: returns the text for an empty page."""

    def __init__(
        self, review_state: ReviewState, *, filter_by: Callable[..., None], empty_message: Callable[[], str]
    ) -> None:
        self._review_state = review_state
        self._filter_by = filter_by
        self._empty_message = empty_message
        self._number: int | None = None
        self._entry: ReviewItem | None = None
        with ui.element("section").classes("detail").props('aria-label="Current item"'):
            with ui.element("div").classes("stage"):
                self._image = ui.element("img").on("error", self._explain_image_error)
                self._video = ui.video("", loop=True, autoplay=True, muted=True).props("playsinline")
                self._state = ui.label().classes("stage-state").props("role=status")
            self._strip = ui.element("div").classes("strip")
            with ui.element("div").classes("line"):
                self._name = ui.label().classes("name")
                self._decision = ui.label()
                self._count = ui.label().props("aria-live=polite")
            self.editor = CaptionEditor(str(review_state.library.root.folder))
            self.editor.props(f'lang="{LANGUAGES[review_state.settings.quality.language]}"')
            with ui.element("div").classes("proposal").props('aria-label="New caption"') as self._proposal:
                self._sides = DiffList(sides=True)
                with ui.element("div").classes("actions"):
                    self._buttons((("Accept new", "accept", "y"), ("Keep old", "keep", "n")))
            self._flags = ui.element("div").classes("flags")
            with ui.element("div").classes("actions"):
                self._buttons(_ACTIONS)
            self._provenance = ui.element("dl").classes("provenance")
            self._provenance.set_visibility(False)
        self._show_media()

    def _buttons(self, actions: tuple[tuple[str, str, str], ...]) -> None:
        """actions: (label, command, key)."""
        for label, command, key in actions:
            with ui.button(label).on("click", js_handler=click_handler(command)) as button:
                ui.label(key).classes("kbd").props("aria-hidden=true")
            button.props(f'outline dense no-caps aria-keyshortcuts="{key}"').classes(f"do-{command}")

    def show(self, entry: ReviewItem | None, fill: bool) -> None:
        """fill: also put its caption into the editor, over unsaved text."""
        is_other = entry is None or entry.number != self._number
        self._entry, self._number = entry, None if entry is None else entry.number
        if fill:
            caption = entry.caption if entry else None
            text, base = (caption.text, caption.digest) if caption else ("", None)
            name, editable = (entry.name, entry.access_error is None) if entry else ("", False)
            self.editor.show(self._number, base, text, editable=editable, name=name)
            self.show_length(text)
        self._name.text = entry.name if entry else ""
        self._decision.text = (entry.decision or "") if entry else ""
        self._decision.classes(replace=f"decision {self._decision.text}")
        self._show_flags()
        proposal = None if entry is None else self._review_state.proposals.of(entry.number)
        self._proposal.set_visibility(proposal is not None)
        if entry is not None and proposal is not None:
            self._sides.show([("", entry.caption.text, proposal.text)])
        if self._provenance.visible:
            self._show_provenance()
        if is_other:
            self._show_media()

    def show_length(self, text: str) -> None:
        """Show the number of words, and of tokens against the limit of the target's text encoder."""
        words, target = len(text.split()), self._review_state.settings.quality.target
        length = counted(words, "word")
        if (limit := token_limit(target)) is not None:
            tokens = estimated_tokens(text, limit.encoder)
            length += f", about {tokens} of {limit.max_tokens} tokens ({target})"
            self._count.classes(replace="count over" if tokens > limit.max_tokens else "count")
        else:
            self._count.classes(replace="count")
        self._count.text = length

    def play(self) -> None:
        if self._entry is not None and self._entry.item.kind == "clip":
            ui.run_javascript(f"const v = getElement({self._video.id}).$el; v.paused ? v.play() : v.pause()")

    def toggle_provenance(self) -> None:
        self._provenance.set_visibility(not self._provenance.visible)
        self._show_provenance()

    def _show_flags(self) -> None:
        self._flags.clear()
        entry = self._entry
        if entry is None:
            return
        with self._flags:
            for flag in entry.flags:
                button = ui.button(flag.replace("_", " "), on_click=lambda flag=flag: self._filter_by(flag=flag))
                button.props("flat dense no-caps").classes("flag").tooltip("show all items with this flag")
            for error in filter(None, (entry.access_error, entry.failure)):
                ui.label(error).classes("fault").props("role=alert")

    def _show_provenance(self) -> None:
        self._provenance.clear()
        if self._entry is None or not self._provenance.visible:
            return
        with self._provenance:
            for term, description in describe_provenance(self._entry):
                with ui.element("dt"):
                    ui.label(term)
                with ui.element("dd"):
                    ui.label(description)

    # Picture or clip

    def _show_media(self) -> None:
        entry, session = self._entry, self._review_state.session
        is_clip = entry is not None and entry.item.kind == "clip"
        self._strip.clear()
        self._strip.set_visibility(is_clip)
        self._image.set_visibility(entry is not None and not is_clip)
        self._video.set_visibility(is_clip)
        self._set_status("" if entry else self._empty_message())
        if entry is None:
            return
        if entry.access_error is not None:
            self._set_status(f"Cannot display this file: {entry.access_error}")
        elif is_clip:
            self._video.props(f'poster="/thumb/{entry.number}?{session}"')
            self._video.set_source("")
            background_tasks.create(self._load_clip(entry))
        else:
            self._image.props(f'src="/picture/{entry.number}?{session}"')
            self._image.props["alt"] = entry.caption.text or entry.name

    async def _explain_image_error(self) -> None:
        """The browser cannot display the image: report the error of our own decoder, if it has one."""
        entry, media = self._entry, self._review_state.media
        if entry is None or entry.item.kind == "clip":
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
