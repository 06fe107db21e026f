"""Reads the captions on disk, edits included, and the journal's records of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..captions.formats import detect
from ..errors import ItemError
from ..text import file_error
from ..types import Failed, MediaItem
from . import sidecar
from .discover import Discovery
from .journal import History


@dataclass(frozen=True, slots=True)
class CaptionedItem:
    """A media file and its captions, at least one. Several prompts or several lines give several captions."""

    item: MediaItem
    captions: tuple[str, ...]
    sources: tuple[MediaItem, ...] = ()  # the source images of an edit, if the caller has found them


def read_captions(discovery: Discovery, *, one_caption_per_line: bool) -> Iterator[CaptionedItem | MediaItem | Failed]:
    """Read the captions of the media files.

    Args:
        one_caption_per_line: Whether each line of a `.txt` is a caption. Otherwise its lines are joined into one. The
            lines of a structured caption stay as they are.

    Yields:
        A `CaptionedItem`, a `MediaItem` without a caption, or a `Failed` for an unreadable or shared caption.
    """
    histories = {root.store: History(root.store) for root in discovery.roots}
    for found in discovery:
        if isinstance(found, Failed):
            yield found
            continue
        item = found.item
        try:
            content = sidecar.read(item.caption_path) or b""
            text = content.decode("utf-8-sig")
        except (ItemError, UnicodeDecodeError) as error:
            yield Failed(
                item,
                f"{item.caption_path.name} cannot be read: {file_error(error)}. Or run `gemma-captioner check --fix`",
            )
            continue
        lines = [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
        if detect(text).name != "prose":
            lines = [text.strip()]
        record = histories[item.store].caption_record(item.caption_file, sidecar.digest(content))
        if not lines:
            yield item
        elif record is not None and record.captions:
            yield CaptionedItem(item, record.captions)
        else:
            yield CaptionedItem(item, tuple(lines) if one_caption_per_line else (" ".join(lines),))
