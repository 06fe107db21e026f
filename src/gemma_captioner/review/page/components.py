"""Custom NiceGUI elements: the gallery, the caption editor, keyboard shortcuts and the list of differences."""

from collections.abc import Iterable, Mapping
from typing import Any

from nicegui import ui

from ...text import encodable
from ..bulk import word_diff
from ..changes import Draft
from ..library import CaptionText, ReviewItem

Tile = tuple[int, str, str]  # number, name, marks
MARKS = {
    "c": "clip",
    "a": "approved",
    "r": "rejected",
    "f": "flagged",
    "n": "no caption",
    "e": "has an error",
    "p": "has a new caption",
}


def tile(entry: ReviewItem, *, has_proposal: bool) -> Tile:
    """has_proposal: whether the item has a proposal."""
    marks = (
        ("c", entry.item.kind == "clip"),
        ("a", entry.decision == "approved"),
        ("r", entry.decision == "rejected"),
        ("f", bool(entry.flags)),
        ("n", entry.caption.digest is None),
        ("p", has_proposal),
        ("e", entry.access_error is not None or entry.failure is not None),
    )
    return entry.number, entry.name, "".join(mark for mark, is_so in marks if is_so)


class Gallery(ui.element, component="gallery.js"):
    """The grid of thumbnails, or the list of captions.

    It emits `pick` {number, shift, ctrl}, `columns`, and `want`, the numbers of items whose captions it shows. From the
    list, it emits the events `draft`, `save` and `discard` of the caption editor.
    """

    def __init__(self, session: str, *, lang: str = "en") -> None:
        """session: unique per server process, so that browsers do not reuse thumbnails of another server.

        lang: of the captions.
        """
        super().__init__()
        self._props["session"] = session
        self._props["lang"] = lang
        self._props["names"] = MARKS

    def show(self, tiles: list[Tile]) -> None:
        self.run_method("show", tiles)

    def patch(self, tiles: list[Tile]) -> None:
        self.run_method("patch", tiles)

    def highlight(self, number: int | None) -> None:
        self.run_method("highlight", number)

    def select(self, numbers: Iterable[int], *, is_selecting: bool) -> None:
        """is_selecting: whether a plain click selects."""
        self.run_method("select", list(numbers), is_selecting)

    def fill(self, captions: Iterable[tuple[ReviewItem, Draft | None]]) -> None:
        """Send captions, each with its unsaved text if there is one."""
        rows = [
            (
                entry.number, entry.caption.digest, encodable(entry.caption.text), entry.access_error is None,
                draft and {"base": draft.base, "text": encodable(draft.text)},
            )
            for entry, draft in captions
        ]  # fmt: skip
        if rows:
            self.run_method("fill", rows)

    def highlight_words(self, words: list[str]) -> None:
        """Highlight these words in all captions."""
        self.run_method("mark", words)

    def rebase(self, draft: Draft, caption: CaptionText) -> None:
        """The draft was saved as `caption`: later drafts start from it."""
        self.run_method("rebase", draft.number, caption.digest, encodable(draft.text), caption.text)

    def arrived(self) -> None:
        """Confirm one navigation command."""
        self.run_method("arrived")

    def resize(self, step: int) -> None:
        """Make the tiles larger (1) or smaller (-1)."""
        self.run_method("resize", step)

    def toggle_list(self) -> None:
        self.run_method("toggleList")


class CaptionEditor(ui.element, component="editor.js"):
    """The text area of the caption.

    It emits `draft` {number, base, text} on input, `save`, a draft with `how`: stay, approve or blur, and `discard`, an
    item number. After a page reload it emits `unsent` {name, base, text} for text that never reached the server.
    """

    def __init__(self, folder: str) -> None:
        """folder: the key of the draft in the browser, since another server may use the same address later."""
        super().__init__()
        self._props["folder"] = encodable(folder)

    def show(self, number: int | None, base: str | None, text: str, *, on_disk: str, editable: bool, name: str) -> None:
        """Fill the editor, unless the user is typing in it. on_disk: the caption; an unsaved text differs from it."""
        self.run_method("show", number, base, text, on_disk, editable, name)

    def arrived(self) -> None:
        """Confirm one navigation command."""
        self.run_method("arrived")

    def show_marks(self, number: int | None, parts: list[tuple[str, str]]) -> None:
        """Mark the text of an item. parts: (classes, text); "" for text without a mark."""
        self.run_method("showMarks", number, [(classes, encodable(text)) for classes, text in parts])

    def rebase(self, draft: Draft, caption: CaptionText) -> None:
        """The draft was saved as `caption`: later drafts start from it."""
        self.run_method("rebase", draft.number, caption.digest, encodable(draft.text), caption.text)

    def drop(self) -> None:
        """Discard the unsaved text."""
        self.run_method("drop")


class StatusLine(ui.label):
    """A message for the user, hidden while it is empty."""

    def __init__(self, classes: str) -> None:
        super().__init__()
        self.classes(classes).props("role=status").set_visibility(False)

    def report(self, text: str) -> None:
        self.text = encodable(text)
        self.set_visibility(bool(text))


class TagChips(ui.element, component="chips.js"):
    """The tags of the caption in the editor, which saves what they change."""


class TagList(ui.element, component="tag_list.js"):
    """All tags. It emits `pick`, a tag."""

    def show(self, tags: Iterable[tuple[str, int, int | None]], *, chosen: str, more: int) -> None:
        """tags: as `TagCounts.update` returns them. chosen: the one to filter by. more: how many are not shown."""
        self._props["tags"] = [(encodable(tag), *counts) for tag, *counts in tags]
        self._props["chosen"] = encodable(chosen)
        self._props["more"] = more
        self.update()


class Completions(ui.element, component="completions.js"):
    """A list of phrases for the field that is typed in. It emits `complete` {id, before, tags}."""

    def offer(self, request: int, phrases: Iterable[tuple[str, str]]) -> None:
        """request: the `id` of the event. phrases: (phrase, what of it is typed)."""
        self.run_method("offer", request, [(encodable(phrase), encodable(typed)) for phrase, typed in phrases])


class Keys(ui.element, component="keys.js"):
    """Keyboard shortcuts and the theme. It emits `command` {name, number, base, proposal}: what the page shows then.

    number, base: the item and the digest of its caption. proposal: the digest of its new caption, if there is one.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        focus: Mapping[str, str],
        moves: Iterable[str],
        opens: Iterable[str],
        local: Iterable[str],
    ) -> None:
        """keys: key -> command. focus: command -> selector of the field to focus. moves: navigation commands.

        opens: commands that open a dialog. After one, the keys do nothing until `opened`.
        local: commands that other elements of the page run, on an event `captioner-NAME` of the document.
        """
        super().__init__()
        self._props["keys"] = dict(keys)
        self._props["focus"] = dict(focus)
        self._props["moves"] = list(moves)
        self._props["opens"] = list(opens)
        self._props["local"] = list(local)

    def opened(self) -> None:
        """The command has opened its dialog, or there was none to open."""
        self.run_method("opened")


def click_handler(command: str) -> str:
    """Return the JavaScript handler of a button that runs a command."""
    return f"() => document.dispatchEvent(new CustomEvent('captioner-command', {{ detail: '{command}' }}))"


class DiffList(ui.element, component="changes.js"):
    def __init__(self, *, labels: tuple[str, str] | None = None) -> None:
        """labels: of the old and the new text, which are then shown side by side instead of inline."""
        super().__init__()
        self._props["labels"] = labels
        self._props["changes"] = []

    def show(self, changes: Iterable[tuple[str, str, str]]) -> None:
        """changes: (name, before, after)."""
        self._props["changes"] = [_diff_props(*change) for change in changes]
        self.update()


def _diff_props(name: str, before: str, after: str) -> dict[str, Any]:
    parts = [(kind, encodable(text)) for kind, text in word_diff(before, after)]
    return {"name": name, "parts": parts}
