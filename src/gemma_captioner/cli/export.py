"""`gemma-captioner export`: the captions on disk, as a trainer reads them."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any

from cyclopts import Parameter

from ..config.targets import TRAINERS, get_trainer
from ..dataset.discover import resolve_roots
from ..dataset.reader import CaptionedItem, read_captions
from ..errors import StartError, UsageError
from ..export.entries import beside_media
from ..export.formats import EXPORTS, ExportFormat
from ..export.settings import ExportSettings
from ..text import printable
from ..types import Failed, MediaItem
from .options import LocalPathOption, Options, with_options
from .shell import app, err, out


@app.command
@with_options(Options(ExportSettings))
def export(
    folder: Annotated[LocalPathOption, Parameter(help="The dataset.")],
    /,
    *,
    for_: Annotated[str, Parameter(name="--for", help=f"What is to read it: {', '.join(EXPORTS)}.")],
    output: Annotated[
        LocalPathOption | None,
        Parameter(help="Where to. [default: where the trainer looks in the folder, else beside the folder]"),
    ] = None,
    **flags: Any,
) -> int:
    """Write the captions as a trainer reads them: those on disk, edits included.

    A file is written whole or not at all, and one that is there and differs is kept as `.bak`, no `.bak` replaced.
    """
    exporting = ExportSettings.from_dict(flags)
    trainer = for_.partition(":")[0]
    if trainer not in EXPORTS:
        raise UsageError(f"--for {for_}: there is no export of that name. Known: {', '.join(EXPORTS)}")
    one_caption_per_line = trainer in TRAINERS and get_trainer(for_).one_caption_per_line
    form = EXPORTS[trainer]
    if not folder.is_dir():
        raise StartError(f"{folder} is no folder: give the one that holds the media")
    [root] = resolve_roots([folder], exporting.captions)
    counts: Counter[str] = Counter()
    found = _captioned(
        read_captions([root], exporting.selection, one_caption_per_line=one_caption_per_line), form, counts
    )
    first = next(found, None)
    if first is None:
        raise StartError(f"{folder} holds no captions for {trainer}: caption it first, or say where with --captions")
    found = chain([first], found)
    to = output.absolute() if output else form.default_path(root.folder)
    if to is None:
        counts["there"] = sum(1 for _ in beside_media(found, trainer))
        del counts["written"]
        out.print(
            f"{trainer} reads the .txt beside the media: {printable(root.folder)} is as it wants it.", markup=False
        )
        out.print("With --output FOLDER, its media are linked there, with captions of its own.", markup=False)
    else:
        for path in form.writer_for(to)(found, to):
            out.print(printable(path), markup=False)
    several = f" ({counts['several']} files have several captions: {form.several})" if counts["several"] else ""
    err.print(", ".join(f"{counts[what]} {what}" for what in _COUNTED if counts[what]) + several, markup=False)
    return 3 if counts["failed"] else 0


_COUNTED = ("written", "there", "without a caption", "left out, as it takes no such media", "failed")


def _captioned(
    found: Iterator[CaptionedItem | MediaItem | Failed], form: ExportFormat, counts: Counter[str]
) -> Iterator[CaptionedItem]:
    """What can be exported; the rest is counted, failures told."""
    for one in found:
        if isinstance(one, Failed):
            counts["failed"] += 1
            err.print(f"failed: {printable(one.item.path)}: {one.error}", markup=False, style="red", soft_wrap=True)
        elif isinstance(one, MediaItem):
            counts["without a caption"] += 1
        elif form.kind not in (None, one.item.kind):
            counts["left out, as it takes no such media"] += 1
        else:
            counts["written"] += 1
            counts["several"] += len(one.captions) > 1
            yield one
