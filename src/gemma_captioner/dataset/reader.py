"""Captions as they stand on disk, edits included, with what the journal still knows of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..config.selection import SelectionSettings
from ..errors import ItemError
from ..types import Failed, MediaItem
from . import sidecar
from .discover import Discovery, Root
from .journal import History


@dataclass(frozen=True, slots=True)
class CaptionedItem:
    """A media file and its captions, at least one: of several prompts, or of several lines, all of them."""

    item: MediaItem
    captions: tuple[str, ...]


def read_captions(
    roots: list[Root], selection: SelectionSettings, *, one_caption_per_line: bool
) -> Iterator[CaptionedItem | MediaItem | Failed]:
    """What is captioned, as entries; media without a caption as items; collisions and what cannot be read as failures.

    one_caption_per_line: whether each line of a `.txt` is a caption; else its lines are one caption, broken where none should.
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
        record = histories[item.store].caption_record(item.caption_file, sidecar.digest(content))
        if not lines:
            yield item
        elif record is not None and record.captions:
            yield CaptionedItem(item, record.captions)
        else:
            yield CaptionedItem(item, tuple(lines) if one_caption_per_line else (" ".join(lines),))
