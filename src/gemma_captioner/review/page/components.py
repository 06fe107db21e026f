"""The pieces that NiceGUI does not have: the grid, the edit box, the keyboard, captions before and after."""

from collections.abc import Iterable, Mapping
from typing import Any

from nicegui import ui

from ..bulk import word_diff
from ..edits import Draft
from ..library import CaptionText, ReviewItem, readable

Tile = tuple[int, str, str]  # number, name, marks
MARKS = {
    "c": "clip",
    "a": "approved",
    "r": "rejected",
    "f": "flagged",
    "n": "no caption",
    "e": "cannot be shown or captioned",
    "p": "a new caption is offered",
}


def tile(entry: ReviewItem, *, is_offered: bool) -> Tile:
    """is_offered: there is a new caption, neither taken nor declined."""
    marks = (
        ("c", entry.item.kind == "clip"),
        ("a", entry.decision == "approved"),
        ("r", entry.decision == "rejected"),
        ("f", bool(entry.flags)),
        ("n", entry.words.digest is None),
        ("p", is_offered),
        ("e", entry.access_error is not None or entry.failure is not None),
    )
    return entry.number, entry.name, "".join(mark for mark, is_so in marks if is_so)


class Gallery(ui.element, component="gallery.js"):
    """Emits `pick` {number, shift, ctrl} and `columns`."""

    def __init__(self, session: str) -> None:
        """session: differs from server to server, so that a browser keeps a thumbnail no longer than one lives."""
        super().__init__()
        self._props["session"] = session
        self._props["names"] = MARKS

    def show(self, tiles: list[Tile]) -> None:
        self.run_method("show", tiles)

    def patch(self, tiles: list[Tile]) -> None:
        self.run_method("patch", tiles)

    def point(self, number: int | None) -> None:
        self.run_method("point", number)

    def select(self, numbers: Iterable[int]) -> None:
        self.run_method("select", list(numbers))


class CaptionEditor(ui.element, component="box.js"):
    """Emits `draft` {number, base, text} as one types, and `save` with `how`: stay, approve, or left.

    Where the page had to be loaded anew, `left` {name, base, text}: what was typed and never reached the server.
    """

    def __init__(self, folder: str) -> None:
        """folder: of what is typed; another one's may be served at the same address later."""
        super().__init__()
        self._props["folder"] = readable(folder)

    def show(self, number: int | None, base: str | None, text: str, *, editable: bool, name: str) -> None:
        """Not where more has been typed meanwhile."""
        self.run_method("show", number, base, text, editable, name)

    def arrived(self) -> None:
        """One of the commands that lead to another item is obeyed."""
        self.run_method("arrived")

    def rebase(self, draft: Draft, words: CaptionText) -> None:
        """The draft was saved, as this: what is typed from then on starts from it."""
        self.run_method("rebase", draft.number, words.digest, readable(draft.text), words.text)

    def drop(self) -> None:
        """What was typed is not to stand."""
        self.run_method("drop")


class Keys(ui.element, component="keys.js"):
    """Emits `command`."""

    def __init__(self, keys: Mapping[str, str], focus: Mapping[str, str], moves: Iterable[str]) -> None:
        """keys: -> command. focus: command -> the field that it goes to. moves: commands that show another item."""
        super().__init__()
        self._props["keys"] = dict(keys)
        self._props["focus"] = dict(focus)
        self._props["moves"] = list(moves)


def click_handler(command: str) -> str:
    """What a button does that stands for a key, in JavaScript."""
    return f"() => document.dispatchEvent(new CustomEvent('captioner-command', {{ detail: '{command}' }}))"


class DiffList(ui.element, component="changes.js"):
    def __init__(self, *, sides: bool = False) -> None:
        """sides: before and after beside each other, not within each other."""
        super().__init__()
        self._props["sides"] = sides
        self._props["changes"] = []

    def show(self, changes: Iterable[tuple[str, str, str]]) -> None:
        """(name, before, after) of each."""
        self._props["changes"] = [_diff_props(*change) for change in changes]
        self.update()


def _diff_props(name: str, before: str, after: str) -> dict[str, Any]:
    parts = [(kind, readable(text)) for kind, text in word_diff(before, after)]
    return {"name": name, "parts": parts}
