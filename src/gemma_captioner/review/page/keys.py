"""The table of keyboard shortcuts: keys, commands and help texts."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A shortcut. keys: as browsers name them. moves: whether it may change the current item. opens: a dialog."""

    command: str
    keys: tuple[str, ...]
    help: str
    group: str
    moves: bool = False
    opens: bool = False


_NAVIGATE, _DECIDE, _BULK, _GENERAL = "Navigate", "Review", "Several items", "Page"
SHORTCUTS = (
    Shortcut("next", ("j", "ArrowRight"), "Next", _NAVIGATE, moves=True),
    Shortcut("previous", ("k", "ArrowLeft"), "Previous", _NAVIGATE, moves=True),
    Shortcut("down", ("ArrowDown",), "Row down", _NAVIGATE, moves=True),
    Shortcut("up", ("ArrowUp",), "Row up", _NAVIGATE, moves=True),
    Shortcut("first", ("Home",), "First", _NAVIGATE, moves=True),
    Shortcut("last", ("End",), "Last", _NAVIGATE, moves=True),
    Shortcut("next_flagged", ("f",), "Next flagged", _NAVIGATE, moves=True),
    Shortcut("previous_flagged", ("F",), "Previous flagged", _NAVIGATE, moves=True),
    Shortcut("next_open", ("o",), "Next undecided", _NAVIGATE, moves=True),
    Shortcut("play", ("p",), "Play or pause the clip", _NAVIGATE),
    Shortcut("zoom", ("z",), "One pixel of the file as one of the screen, or fit", _NAVIGATE),
    Shortcut("fullscreen", ("Shift+Enter",), "Full screen", _NAVIGATE),
    Shortcut("provenance", ("i",), "Show how the caption was made", _NAVIGATE),
    Shortcut("edit", ("e",), "Edit. Then Enter saves, Ctrl+Enter saves and approves, Esc discards", _DECIDE),
    Shortcut("approve", ("a",), "Approve and go to the next", _DECIDE, moves=True),
    Shortcut("reject", ("r",), "Reject and go to the next", _DECIDE, moves=True),
    Shortcut("reopen", ("w",), "Withdraw the decision", _DECIDE),
    Shortcut("trash", ("d", "Delete"), "Move the file and its caption to the trash", _DECIDE, moves=True),
    Shortcut("undo", ("u", "Ctrl+z"), "Undo", _DECIDE, moves=True),
    Shortcut("redo", ("U", "Ctrl+Z", "Ctrl+y"), "Redo", _DECIDE, moves=True),
    Shortcut("recaption", ("c",), "Recaption this item, the selection or all shown", _DECIDE, opens=True),
    Shortcut("accept", ("y",), "Accept the new caption", _DECIDE, moves=True),
    Shortcut("keep", ("n",), "Keep the old caption", _DECIDE, moves=True),
    Shortcut("select", ("x",), "Select or deselect", _BULK),
    Shortcut("selecting", ("s",), "Select with a plain click or tap", _BULK),
    Shortcut("select_next", ("Shift+ArrowRight", "J"), "Select and go to the next", _BULK, moves=True),
    Shortcut("select_previous", ("Shift+ArrowLeft", "K"), "Select and go to the previous", _BULK, moves=True),
    Shortcut("select_all", ("Ctrl+a",), "Select all shown", _BULK),
    Shortcut("clear", ("Escape",), "Clear the selection, then one filter after the other", _BULK, moves=True),
    Shortcut("compare", ("v",), "Compare two selected items, or this one and the next", _BULK, opens=True),
    Shortcut("export_selection", ("X",), "Export the selection or all shown", _BULK, opens=True),
    Shortcut("bulk", ("b",), "Change the captions of the selection or of all shown", _BULK, opens=True),
    Shortcut(
        "tag_mode",
        (",",),
        "The caption as tags, and all tags of the folder. In the empty field: back to the text",
        _BULK,
    ),
    Shortcut("search", ("/",), "Search", _GENERAL),
    Shortcut("list", ("m",), "List or grid", _GENERAL),
    Shortcut("larger", ("=", "+"), "Larger tiles", _GENERAL),
    Shortcut("smaller", ("-",), "Smaller tiles", _GENERAL),
    Shortcut("refresh", ("g",), "Refresh the filter", _GENERAL, moves=True),
    Shortcut("captions_tab", ("1",), "Captions", _GENERAL),
    Shortcut("overview_tab", ("2",), "Overview", _GENERAL),
    Shortcut("run_tab", ("3",), "Run", _GENERAL),
    Shortcut("dark", ("t",), "Light or dark", _GENERAL),
    Shortcut("help", ("?",), "Keyboard shortcuts", _GENERAL, opens=True),
)
# How keys are shown, where not by the browsers' names.
SHOWN: Mapping[str, str] = {
    "ArrowRight": "\u2192", "ArrowLeft": "\u2190", "ArrowDown": "\u2193", "ArrowUp": "\u2191", "Escape": "Esc",
    "Delete": "Del", "Shift+ArrowRight": "Shift+\u2192", "Shift+ArrowLeft": "Shift+\u2190",
}  # fmt: skip
# The browser runs these, without the server.
LOCAL_COMMANDS = ("play", "zoom", "fullscreen")
# keys.js focuses these, without the server.
FOCUS: Mapping[str, str] = {
    "edit": ".gallery.list .tile.current .tile-caption, .gallery.list .tile.current .tile-box, "
    ".caption-fields.active .field-input, .caption-editor",
    "search": ".search input",
    "tag_mode": ".tag-input",
}
COMMANDS: Mapping[str, str] = {key: entry.command for entry in SHORTCUTS for key in entry.keys}
NAVIGATION_COMMANDS = tuple(entry.command for entry in SHORTCUTS if entry.moves)
OPENING_COMMANDS = tuple(entry.command for entry in SHORTCUTS if entry.opens)
