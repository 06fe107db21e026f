"""The table of keyboard shortcuts: keys, commands and help texts."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """A shortcut. keys: as browsers name them. moves: whether it may change the current item. opens: a dialog."""

    command: str
    keys: tuple[str, ...]
    help: str
    group: str
    moves: bool = False
    opens: bool = False


_NAVIGATE, _DECIDE, _BULK, _GENERAL = "Navigate", "Review", "Several items", "Page"
KEYS = (
    Key("next", ("j", "ArrowRight"), "Next", _NAVIGATE, moves=True),
    Key("previous", ("k", "ArrowLeft"), "Previous", _NAVIGATE, moves=True),
    Key("down", ("ArrowDown",), "Row down", _NAVIGATE, moves=True),
    Key("up", ("ArrowUp",), "Row up", _NAVIGATE, moves=True),
    Key("first", ("Home",), "First", _NAVIGATE, moves=True),
    Key("last", ("End",), "Last", _NAVIGATE, moves=True),
    Key("next_flagged", ("f",), "Next flagged", _NAVIGATE, moves=True),
    Key("previous_flagged", ("F",), "Previous flagged", _NAVIGATE, moves=True),
    Key("next_open", ("o",), "Next undecided", _NAVIGATE, moves=True),
    Key("play", ("p",), "Play or pause the clip", _NAVIGATE),
    Key("zoom", ("z",), "One pixel of the file as one of the screen, or fit", _NAVIGATE),
    Key("fullscreen", ("Shift+Enter",), "Full screen", _NAVIGATE),
    Key("provenance", ("i",), "Show how the caption was made", _NAVIGATE),
    Key("edit", ("e",), "Edit. Then Enter saves, Ctrl+Enter saves and approves, Esc discards", _DECIDE),
    Key("approve", ("a",), "Approve and go to the next", _DECIDE, moves=True),
    Key("reject", ("r",), "Reject and go to the next", _DECIDE, moves=True),
    Key("reopen", ("w",), "Withdraw the decision", _DECIDE),
    Key("trash", ("d", "Delete"), "Move the file and its caption to the trash", _DECIDE, moves=True),
    Key("undo", ("u", "Ctrl+z"), "Undo", _DECIDE, moves=True),
    Key("redo", ("U", "Ctrl+Z", "Ctrl+y"), "Redo", _DECIDE, moves=True),
    Key("recaption", ("c",), "Recaption this item, the selection or all shown", _DECIDE, opens=True),
    Key("accept", ("y",), "Accept the new caption", _DECIDE, moves=True),
    Key("keep", ("n",), "Keep the old caption", _DECIDE, moves=True),
    Key("select", ("x",), "Select or deselect", _BULK),
    Key("selecting", ("s",), "Select with a plain click or tap", _BULK),
    Key("select_next", ("Shift+ArrowRight", "J"), "Select and go to the next", _BULK, moves=True),
    Key("select_previous", ("Shift+ArrowLeft", "K"), "Select and go to the previous", _BULK, moves=True),
    Key("select_all", ("Ctrl+a",), "Select all shown", _BULK),
    Key("clear", ("Escape",), "Clear the selection, then one filter after the other", _BULK, moves=True),
    Key("compare", ("v",), "Compare two selected items, or this one and the next", _BULK, opens=True),
    Key("export_selection", ("X",), "Export the selection or all shown", _BULK, opens=True),
    Key("bulk", ("b",), "Change the captions of the selection or of all shown", _BULK, opens=True),
    Key("tag_mode", (",",), "Tags: the caption as chips, and all tags of the folder. In the empty field, back", _BULK),
    Key("search", ("/",), "Search", _GENERAL),
    Key("list", ("m",), "List or grid", _GENERAL),
    Key("larger", ("=", "+"), "Larger tiles", _GENERAL),
    Key("smaller", ("-",), "Smaller tiles", _GENERAL),
    Key("refresh", ("g",), "Refresh the filter", _GENERAL, moves=True),
    Key("captions_tab", ("1",), "Captions", _GENERAL),
    Key("overview_tab", ("2",), "Overview", _GENERAL),
    Key("run_tab", ("3",), "Run", _GENERAL),
    Key("dark", ("t",), "Light or dark", _GENERAL),
    Key("help", ("?",), "Keyboard shortcuts", _GENERAL, opens=True),
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
COMMANDS: Mapping[str, str] = {key: entry.command for entry in KEYS for key in entry.keys}
NAVIGATION_COMMANDS = tuple(entry.command for entry in KEYS if entry.moves)
OPENING_COMMANDS = tuple(entry.command for entry in KEYS if entry.opens)
