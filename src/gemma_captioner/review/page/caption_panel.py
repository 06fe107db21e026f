"""The caption of the current item: its editor with marks and completions, its tags, its length and its flags."""

from collections.abc import Callable
from functools import partial

from nicegui import ui
from nicegui.events import GenericEventArguments

from ...captions.flags import part_rules
from ...captions.length import describe_length
from ...captions.limits import estimated_tokens
from ...captions.marks import flag_marks, marked_parts, unread_mark
from ...config.languages import LANGUAGES
from ...config.targets import TokenLimit, states_silence, token_limit
from ..changes import Draft
from ..library import ReviewItem
from .caption_fields import CaptionFields
from .components import CaptionEditor, Completions, TagChips
from .latest import LatestOnly
from .review_state import ReviewState

_MAX_MARKED = 6_000  # characters: the rules take too long on more with each typed letter


class CaptionPanel:
    """filter_by: filters the items by a flag. duration_s: returns that of the current clip, None if it is unknown."""

    def __init__(
        self, review_state: ReviewState, filter_by: Callable[..., None], *, duration_s: Callable[[], float | None]
    ) -> None:
        self._review_state = review_state
        self._filter_by = filter_by
        self._duration_s = duration_s
        self._entry: ReviewItem | None = None
        self._text = ""
        self._target = review_state.settings.quality.target
        self._marks = LatestOnly(
            lambda: partial(self._marked, self._entry, self._text), lambda marked: self.editor.show_marks(*marked)
        )
        with ui.element("div").classes("line"):
            self._name = ui.label().classes("name").props("role=heading aria-level=2 dir=auto")
            self._decision = ui.label()
            self._count = ui.label().props("aria-live=polite")
        self.chips = TagChips()
        self.chips.set_visibility(False)
        self._fields = CaptionFields(review_state.settings.format)
        self.editor = CaptionEditor(str(review_state.library.root.folder))
        self.editor.props(f'lang="{LANGUAGES[review_state.settings.quality.language]}"')
        self._completions = Completions().on("complete", self._complete)
        self._flags = ui.element("div").classes("flags")

    def show(self, entry: ReviewItem | None, *, fill: bool, draft: Draft | None = None) -> None:
        """fill: also put its caption, or the unsaved `draft`, into the editor."""
        self._entry = entry
        self._name.text = entry.name if entry else ""
        for part in (self._fields, self.editor):
            part.set_visibility(entry is not None)
        if fill:
            caption = entry.caption if entry else None
            on_disk, base = (caption.text, caption.digest) if caption else ("", None)
            text, base = (draft.text, draft.base) if draft else (on_disk, base)
            name, editable = (entry.name, entry.access_error is None) if entry else ("", False)
            number = entry.number if entry else None
            self.editor.show(number, base, text, on_disk=on_disk, editable=editable, name=name)
            self.show_text(text)
            self.show_decision(has_draft=draft is not None)
        self._show_flags()

    def show_decision(self, *, has_draft: bool = False) -> None:
        """has_draft: whether the editor holds text that was not saved because of a conflict."""
        decision = (self._entry.decision or "") if self._entry else ""
        self._decision.text = "not saved" if has_draft else decision
        self._decision.classes(replace=f"decision {'rejected' if has_draft else decision}")

    def show_text(self, text: str) -> None:
        """Describe the text in the editor: its words, tokens against the limit of the target, marks and fields."""
        length, is_over = describe_length(text), False
        if (limit := token_limit(self._target)) is not None:
            tokens = self._counter(limit)(text)
            is_over = tokens > limit.max_tokens
            about = "" if self._review_state.count_tokens else "about "
            length += f", {about}{tokens} of {limit.max_tokens} tokens ({self._target})"
        self._text, self._count.text = text, length
        self._count.classes(replace="count over" if is_over else "count")
        self._marks.request()
        self.show_fields()

    def show_fields(self) -> None:
        """Show the fields of a structured caption, and what is wrong with it."""
        is_image = self._entry is not None and self._entry.item.kind == "image"
        self._fields.show(self._text, 0.0 if is_image else self._duration_s())

    def _marked(self, entry: ReviewItem | None, text: str) -> tuple[int | None, list[tuple[str, str]]]:
        """Return the item's number and the text in parts with their CSS classes."""
        if entry is None:
            return None, []
        marks = flag_marks(text, self._rules(entry, text))
        if (limit := token_limit(self._target)) is not None:
            marks += filter(None, [unread_mark(text, limit.max_tokens, self._counter(limit))])
        parts = marked_parts(text, marks)
        classes = [" ".join(f"marked marked-{flag}" for flag in flags.split()) for flags, _ in parts]
        return entry.number, list(zip(classes, (part for _, part in parts), strict=True))

    def _counter(self, limit: TokenLimit) -> Callable[[str], int]:
        return self._review_state.count_tokens or partial(estimated_tokens, encoder=limit.encoder)

    def refresh_text(self) -> None:
        """Describe the same text again, with a tokenizer that was loaded since."""
        self.show_text(self._text)

    def _rules(self, entry: ReviewItem, text: str) -> dict[str, Callable[[str], bool]]:
        """The rules that may have raised the caption's flags, or for an edited text all."""
        is_edited = text != entry.caption.text
        is_prose = len(text) <= _MAX_MARKED and not text.lstrip().startswith("{")
        rules = part_rules(states_silence=states_silence(self._target))
        return {flag: rule for flag, rule in rules.items() if (is_edited and is_prose) or flag in entry.flags}

    def _complete(self, event: GenericEventArguments) -> None:
        request, before, is_tag = (event.args[key] for key in ("id", "before", "tags"))
        self._completions.offer(request, self._review_state.phrases.complete(str(before), is_tag=bool(is_tag)))

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
