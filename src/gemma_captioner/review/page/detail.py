"""The current item: its picture or clip, the frames that the model saw, its caption, flags and provenance."""

from collections.abc import Callable

from nicegui import ui

from ...captions.length import describe_length
from ...captions.limits import estimated_tokens
from ...config.languages import LANGUAGES
from ...config.targets import token_limit
from ..caption_details import describe_provenance
from ..changes import Draft
from ..library import ReviewItem
from .caption_fields import CaptionFields
from .components import CaptionEditor, DiffList, click_handler
from .media_panel import MediaPanel
from .review_state import ReviewState

_MOVES = (("\u2039", "previous", "k", "Previous"), ("\u203a", "next", "j", "Next"))
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
        self._number: int | None = None
        self._entry: ReviewItem | None = None
        self._text = ""  # in the editor
        with ui.element("section").classes("detail").props('aria-label="Current item"'):
            self._media = MediaPanel(review_state, empty_message=empty_message, on_duration=self._show_fields)
            with ui.element("div").classes("line"):
                self._name = ui.label().classes("name").props("role=heading aria-level=2 dir=auto")
                self._decision = ui.label()
                self._count = ui.label().props("aria-live=polite")
            self._fields = CaptionFields(review_state.settings.format)
            self.editor = CaptionEditor(str(review_state.library.root.folder))
            self.editor.props(f'lang="{LANGUAGES[review_state.settings.quality.language]}"')
            with ui.element("div").classes("proposal").props('aria-label="New caption"') as self._proposal:
                self._sides = DiffList(labels=("Present caption", "New caption"))
                with ui.element("div").classes("actions"):
                    resolutions = self._buttons((("Accept new", "accept", "y"), ("Keep old", "keep", "n")))
            self._flags = ui.element("div").classes("flags")
            with ui.element("div").classes("actions") as self._actions:
                for sign, command, key, name in _MOVES:
                    button = ui.button(sign).on("click", js_handler=click_handler(command)).classes(f"do-{command}")
                    button.props(f'outline dense aria-label="{name}" aria-keyshortcuts="{key}"')
                self._targeted = resolutions | self._buttons(_ACTIONS)
            self._provenance = ui.element("dl").classes("provenance")
            self._provenance.set_visibility(False)

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
        if is_other:
            self._media.show(entry)
        if fill:
            caption = entry.caption if entry else None
            on_disk, base = (caption.text, caption.digest) if caption else ("", None)
            text, base = (draft.text, draft.base) if draft else (on_disk, base)
            name, editable = (entry.name, entry.access_error is None) if entry else ("", False)
            self.editor.show(self._number, base, text, on_disk=on_disk, editable=editable, name=name)
            self.show_text(text)
            self.show_decision(has_draft=draft is not None)
        self._name.text = entry.name if entry else ""
        for part in (self._fields, self.editor, self._actions):
            part.set_visibility(entry is not None)
        self._show_flags()
        proposal = None if entry is None else self._review_state.proposals.of(entry.number)
        self._proposal.set_visibility(proposal is not None)
        if entry is not None and proposal is not None:
            self._sides.show([("", entry.caption.text, proposal.text)])
        if self._provenance.visible:
            self._show_provenance()

    def show_decision(self, *, has_draft: bool = False) -> None:
        """has_draft: whether the editor holds text that was not saved because of a conflict."""
        decision = (self._entry.decision or "") if self._entry else ""
        self._decision.text = "not saved" if has_draft else decision
        self._decision.classes(replace=f"decision {'rejected' if has_draft else decision}")

    def show_text(self, text: str) -> None:
        """Show the length of the text, and if it is structured, its fields and what is wrong with it."""
        self._text = text
        self.show_length(text)
        self._show_fields()

    def _show_fields(self) -> None:
        is_image = self._entry is not None and self._entry.item.kind == "image"
        self._fields.show(self._text, 0.0 if is_image else self._media.duration_s)

    def show_length(self, text: str) -> None:
        """Show the number of words, and of tokens against the limit of the target's text encoder."""
        target = self._review_state.settings.quality.target
        length = describe_length(text)
        if (limit := token_limit(target)) is not None:
            tokens = estimated_tokens(text, limit.encoder)
            length += f", about {tokens} of {limit.max_tokens} tokens ({target})"
            self._count.classes(replace="count over" if tokens > limit.max_tokens else "count")
        else:
            self._count.classes(replace="count")
        self._count.text = length

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
                    ui.label(description).props("dir=auto")
