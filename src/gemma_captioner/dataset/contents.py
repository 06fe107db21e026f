"""Captions as they stand on disk, edits included, with what the journal still knows of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..config.selection import Selection
from ..errors import ItemError
from ..types import Failed, MediaItem
from . import sidecar
from .discover import Discovery, Root
from .journal import History


@dataclass(frozen=True, slots=True)
class Entry:
    """A media file and its captions, at least one: of several prompts, or of several lines, all of them."""

    item: MediaItem
    captions: tuple[str, ...]


def entries(roots: list[Root], selection: Selection, *, takes_lines: bool) -> Iterator[Entry | MediaItem | Failed]:
    """What is captioned, as entries; media without a caption as items; collisions and what cannot be read as failures.

    takes_lines: whether each line of a `.txt` is a caption; else its lines are one caption, broken where none should.
    """
    histories = {root.store: History(root.store) for root in roots}
    for found in Discovery(roots, selection):
        if isinstance(found, Failed):
            yield found
            continue
        item = found.item
        try:
            content = sidecar.read(item.caption_path) or b""
            text = content.decode("utf-8-sig")
        except (ItemError, UnicodeDecodeError) as error:
            yield Failed(item, f"{item.caption_path.name}: {error}. `gemma-captioner check` says more, --fix mends it")
            continue
        lines = [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
        made = histories[item.store].made(item.caption_file, sidecar.digest(content))
        if not lines:
            yield item
        elif made is not None and made.captions:
            yield Entry(item, made.captions)
        else:
            yield Entry(item, tuple(lines) if takes_lines else (" ".join(lines),))
