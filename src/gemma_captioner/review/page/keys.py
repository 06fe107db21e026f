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


_GO, _SAY, _MANY, _MORE = "Look", "Decide", "Many", "Page"
KEYS = (
    Key("next", ("j", "ArrowRight"), "Next", _GO, moves=True),
    Key("previous", ("k", "ArrowLeft"), "Previous", _GO, moves=True),
    Key("down", ("ArrowDown",), "A row down", _GO, moves=True),
    Key("up", ("ArrowUp",), "A row up", _GO, moves=True),
    Key("first", ("Home",), "First", _GO, moves=True),
    Key("last", ("End",), "Last", _GO, moves=True),
    Key("next_flagged", ("f",), "Next flagged", _GO, moves=True),
    Key("previous_flagged", ("F",), "Previous flagged", _GO, moves=True),
    Key("next_open", ("o",), "Next that is not decided", _GO, moves=True),
    Key("play", ("p",), "Play or pause the clip", _GO),
    Key("provenance", ("i",), "Where the caption comes from", _GO),
    Key("edit", ("e",), "Edit. In the box: Enter saves, Ctrl+Enter saves and approves, Esc drops", _SAY),
    Key("approve", ("a",), "Approve, and on to the next", _SAY, moves=True),
    Key("reject", ("r",), "Reject, and on to the next", _SAY, moves=True),
    Key("reopen", ("w",), "Withdraw the decision", _SAY),
    Key("trash", ("d", "Delete"), "Move to the trash, media and caption", _SAY, moves=True),
    Key("undo", ("u", "Ctrl+z"), "Undo, whatever it was", _SAY, moves=True),
    Key("redo", ("U", "Ctrl+Z", "Ctrl+y"), "Do it again", _SAY, moves=True),
    Key("recaption", ("c",), "Caption again: this one, the selection, or all shown", _SAY),
    Key("accept", ("y",), "Take the new caption", _SAY, moves=True),
    Key("keep", ("n",), "Keep the old caption", _SAY, moves=True),
    Key("select", ("x",), "Select or not", _MANY),
    Key("select_next", ("Shift+ArrowRight", "J"), "Select, and on to the next", _MANY, moves=True),
    Key("select_previous", ("Shift+ArrowLeft", "K"), "Select, and back", _MANY, moves=True),
    Key("select_all", ("Ctrl+a",), "Select all shown", _MANY),
    Key("clear", ("Escape",), "Select none; then show all", _MANY, moves=True),
    Key("bulk", ("b",), "Change the selection, or all shown", _MANY),
    Key("search", ("/",), "Search", _MORE),
    Key("refresh", ("g",), "Apply the filter anew", _MORE, moves=True),
    Key("captions_tab", ("1",), "Captions", _MORE),
    Key("overview_tab", ("2",), "Overview", _MORE),
    Key("run_tab", ("3",), "Run", _MORE),
    Key("dark", ("t",), "Light or dark", _MORE),
    Key("help", ("?",), "This sheet", _MORE),
)
FOCUS: Mapping[str, str] = {"edit": ".caption-box", "search": ".search input"}  # done in the browser
COMMANDS: Mapping[str, str] = {key: entry.command for entry in KEYS for key in entry.keys}
MOVES = tuple(entry.command for entry in KEYS if entry.moves)
