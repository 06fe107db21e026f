"""The current item: its picture or clip, the frames that the model saw, its caption, flags and provenance."""

from collections.abc import Callable

from nicegui import ui

from ..caption_details import describe_provenance
from ..changes import Draft
from ..library import ReviewItem
from .caption_panel import CaptionPanel
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
_TOOLS = (("Tags", "tag_mode", ","),)


class Detail:
    """The right side of the page. filter_by: filters by a flag. empty_message: returns the text for an empty page."""

    def __init__(
        self, review_state: ReviewState, *, filter_by: Callable[..., None], empty_message: Callable[[], str]
    ) -> None:
        self._review_state = review_state
        self._number: int | None = None
        self._entry: ReviewItem | None = None
        with ui.element("section").classes("detail").props('aria-label="Current item"'):
            self._media = MediaPanel(
                review_state, empty_message=empty_message, on_duration=lambda: self.caption.show_fields()
            )
            self.caption = CaptionPanel(review_state, filter_by, duration_s=lambda: self._media.duration_s)
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
        """Show on the buttons that they apply to the selected items: "Trash 6"."""
        for label, button in self._targeted.items():
            if label != "Undo":
                button.text = f"{label} {num_selected:,}" if num_selected else label

    def show(self, entry: ReviewItem | None, fill: bool, draft: Draft | None = None) -> None:
        """fill: also put its caption, or the unsaved `draft`, into the editor."""
        is_other = entry is None or entry.number != self._number
        self._entry, self._number = entry, None if entry is None else entry.number
        if is_other:
            self._media.show(entry)
        self.caption.show(entry, fill=fill, draft=draft)
        self._actions.set_visibility(entry is not None)
        proposal = None if entry is None else self._review_state.proposals.of(entry.number)
        self._proposal.set_visibility(proposal is not None)
        self._proposal.props["data-digest"] = proposal.digest if proposal else None
        if entry is not None and proposal is not None:
            self._sides.show([("", entry.caption.text, proposal.text)])
        if self._provenance.visible:
            self._show_provenance()

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
