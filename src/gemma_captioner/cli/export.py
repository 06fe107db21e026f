"""`gemma-captioner export`: writes the existing captions in a trainer's format."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..config.precedence import option_name
from ..config.targets import get_target, is_auxiliary, trainers
from ..dataset.discover import Discovery, absolute_path, resolve_roots
from ..dataset.reader import CaptionedItem, read_captions
from ..dataset.unsearched import describe_unsearched
from ..errors import ItemError, StartError, UsageError
from ..export.control import require_readable_sources, write_control_folders
from ..export.entries import beside_media
from ..export.formats import EXPORTS, ExportFormat, export_format
from ..export.selected import FoundItem, ListedFiles, read_list
from ..export.settings import ExportSettings
from ..prompts.sources import Sources, exclude_control
from ..text import counted, listed, printable
from ..types import Failed, MediaItem
from .help import examples
from .options import LocalPathOption, Options, with_options
from .shell import app, err, out
from .targets import warn_if_unlisted


@app.command(help_epilogue=examples("export"))
@with_options(Options(ExportSettings))
def export(
    folder: Annotated[LocalPathOption, Parameter(help="The dataset to export.")],
    /,
    *,
    for_: Annotated[
        str,
        Parameter(help=f"The trainer or format: {', '.join(EXPORTS)}.", completer=lambda _: list(EXPORTS)),
    ],
    output: Annotated[
        LocalPathOption | None,
        Parameter(help="Write here. [default: the path that the trainer reads, inside or beside the folder]"),
    ] = None,
    **flags: Any,
) -> int:
    """Write the existing captions in the format that a trainer reads.

    Never leaves a half-written file. If the target exists with other content, renames it to `.bak` first. Never
    overwrites a `.bak`.
    """
    exporting = ExportSettings.from_dict(flags)
    trainer = for_.partition(":")[0]
    form = export_format(for_)
    one_caption_per_line = False
    if trainer in trainers():  # the others are formats that no trainer reads
        one_caption_per_line = get_target(for_).one_caption_per_line
        warn_if_unlisted(for_)
    if not folder.is_dir():
        raise StartError(f"{printable(folder)} is not a folder: give the folder of the dataset")
    if exporting.control and not form.control:
        able = ", ".join(name for name, other in EXPORTS.items() if other.control)
        raise UsageError(f"--control: the export for {trainer} has no sources of edits. Available: {able}")
    [root] = resolve_roots([folder], exporting.captions)
    sources = Sources(exporting.control)
    to = absolute_path(output) if output else form.default_path(root.folder)
    if output:
        form.check_output(output)
    selection = exclude_control(exporting.selection, [root], exporting.control)
    counts: Counter[str] = Counter()
    chosen = ListedFiles(None if exporting.files is None else read_list(exporting.files))
    discovery = Discovery([root], selection)
    read = chosen.select(read_captions(discovery, one_caption_per_line=one_caption_per_line))
    found = _captioned(read, form, for_, sources, to, counts)
    first = next(found, None)
    if first is None and (unread := counts["of a kind that it does not read"]):
        raise StartError(
            f"{printable(folder)} has {counted(unread, 'captioned file')}, all of a kind that {trainer} does not read: "
            "choose another trainer or folder"
        )
    if first is None and counts["failed"]:
        raise StartError(f"none of the {counted(counts['failed'], 'captioned file')} can be exported: see above")
    if first is None:
        given = [option_name(name) for name in _SELECTING if name in exporting.model_fields_set]
        remedy = f"change {', '.join(given)}" if given else "give their folder with --captions"
        raise StartError(
            f"{printable(folder)} has no captions for {trainer}: caption it first, or {remedy}"
            + (f". --files: not found: {listed(missing)}" if (missing := sorted(chosen.missing)) else "")
            + (f" ({unsearched})" if (unsearched := describe_unsearched(discovery.unsearched)) else "")
        )
    entries: list[CaptionedItem] = []  # only with sources
    found = chain([first], found)
    if exporting.control:
        entries = list(require_readable_sources(found, for_))
        found = iter(entries)
    if to is None:
        counts["there"] = sum(1 for _ in beside_media(found, trainer))
        del counts["written"]
        where = printable(root.folder)
        out.print(f"{trainer} reads the .txt files beside the media: {where} needs no export.")
        out.print("To write a separate folder with links to the media, add --output FOLDER.")
    else:
        for path in form.writer_for(to)(found, to):
            out.print(printable(path))
    if form.control == "folders":
        for path in write_control_folders(entries, trainer, beside=to if form.place is None and to else root.folder):
            out.print(printable(path))
    which = "only the first is in the .txt files" if to is None else form.several
    several = f" ({counted(counts['several'], 'file')} with several captions: {which})" if counts["several"] else ""
    err.print(", ".join(f"{counts[what]:,} {what}" for what in _COUNTED if counts[what]) + several)
    if missing := sorted(chosen.missing):
        err.print(f"--files: not found among the searched files: {listed(missing)}", style="yellow")
    if note := describe_unsearched(discovery.unsearched):
        err.print(note, style="yellow")
    return 3 if counts["failed"] else 0


_SELECTING = ("include", "exclude", "name", "captions", "files")
_COUNTED = (
    *("written", "there", "without a caption", "masks or control images", "of a kind that it does not read"),
    "failed",
)


def _captioned(
    found: Iterator[FoundItem],
    form: ExportFormat,
    for_: str,
    sources: Sources,
    to: Path | None,
    counts: Counter[str],
) -> Iterator[CaptionedItem]:
    """The entries that can be exported. Counts the others and reports the failures."""
    for one in found:
        media = one if isinstance(one, MediaItem) else one.item
        if to in media.path.parents and media.path.is_symlink():
            continue  # an earlier export into a folder of the dataset
        if isinstance(media, MediaItem) and is_auxiliary(media.name, for_):
            counts["masks or control images"] += 1
        elif isinstance(one, Failed):
            counts["failed"] += 1
            err.print(f"failed: {printable(one.item.path)}: {one.error}", style="red", soft_wrap=True)
        elif isinstance(one, MediaItem):
            counts["without a caption"] += 1
        elif form.kind not in (None, one.item.kind):
            counts["of a kind that it does not read"] += 1
        else:
            try:
                entry = replace(one, sources=tuple(sources.of(one.item)))
                form.check(entry)
            except ItemError as error:
                counts["failed"] += 1
                err.print(f"failed: {printable(one.item.path)}: {error}", style="red", soft_wrap=True)
                continue
            counts["written"] += 1
            counts["several"] += len(one.captions) > 1
            yield entry
