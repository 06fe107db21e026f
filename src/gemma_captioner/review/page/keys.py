"""Every key once: what it does, and what the help sheet says of it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """keys: as browsers name them. moves: whether another item is shown then."""

    command: str
    keys: tuple[str, ...]
    help: str
    group: str
    moves: bool = False


_NAVIGATE, _DECIDE, _BULK, _GENERAL = "Look", "Decide", "Many", "Page"
KEYS = (
    Key("next", ("j", "ArrowRight"), "Next", _NAVIGATE, moves=True),
    Key("previous", ("k", "ArrowLeft"), "Previous", _NAVIGATE, moves=True),
    Key("down", ("ArrowDown",), "A row down", _NAVIGATE, moves=True),
    Key("up", ("ArrowUp",), "A row up", _NAVIGATE, moves=True),
    Key("first", ("Home",), "First", _NAVIGATE, moves=True),
    Key("last", ("End",), "Last", _NAVIGATE, moves=True),
    Key("next_flagged", ("f",), "Next flagged", _NAVIGATE, moves=True),
    Key("previous_flagged", ("F",), "Previous flagged", _NAVIGATE, moves=True),
    Key("next_open", ("o",), "Next that is not decided", _NAVIGATE, moves=True),
    Key("play", ("p",), "Play or pause the clip", _NAVIGATE),
    Key("provenance", ("i",), "Where the caption comes from", _NAVIGATE),
    Key("edit", ("e",), "Edit. In the box: Enter saves, Ctrl+Enter saves and approves, Esc drops", _DECIDE),
    Key("approve", ("a",), "Approve, and on to the next", _DECIDE, moves=True),
    Key("reject", ("r",), "Reject, and on to the next", _DECIDE, moves=True),
    Key("reopen", ("w",), "Withdraw the decision", _DECIDE),
    Key("trash", ("d", "Delete"), "Move to the trash, media and caption", _DECIDE, moves=True),
    Key("undo", ("u", "Ctrl+z"), "Undo, whatever it was", _DECIDE, moves=True),
    Key("redo", ("U", "Ctrl+Z", "Ctrl+y"), "Do it again", _DECIDE, moves=True),
    Key("recaption", ("c",), "Caption again: this one, the selection, or all shown", _DECIDE),
    Key("accept", ("y",), "Take the new caption", _DECIDE, moves=True),
    Key("keep", ("n",), "Keep the old caption", _DECIDE, moves=True),
    Key("select", ("x",), "Select or not", _BULK),
    Key("select_next", ("Shift+ArrowRight", "J"), "Select, and on to the next", _BULK, moves=True),
    Key("select_previous", ("Shift+ArrowLeft", "K"), "Select, and back", _BULK, moves=True),
    Key("select_all", ("Ctrl+a",), "Select all shown", _BULK),
    Key("clear", ("Escape",), "Select none; then show all", _BULK, moves=True),
    Key("bulk", ("b",), "Change the selection, or all shown", _BULK),
    Key("search", ("/",), "Search", _GENERAL),
    Key("refresh", ("g",), "Apply the filter anew", _GENERAL, moves=True),
    Key("captions_tab", ("1",), "Captions", _GENERAL),
    Key("overview_tab", ("2",), "Overview", _GENERAL),
    Key("run_tab", ("3",), "Run", _GENERAL),
    Key("dark", ("t",), "Light or dark", _GENERAL),
    Key("help", ("?",), "This sheet", _GENERAL),
)
FOCUS: Mapping[str, str] = {"edit": ".caption-box", "search": ".search input"}  # done in the browser
COMMANDS: Mapping[str, str] = {key: entry.command for entry in KEYS for key in entry.keys}
NAVIGATION_COMMANDS = tuple(entry.command for entry in KEYS if entry.moves)
