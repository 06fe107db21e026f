"""What each trainer reads its captions from, as a table: which rows, in which file. Details: docs/trainers.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

from ..dataset.reader import CaptionedItem
from ..errors import StartError
from ..types import Kind
from .entries import distinct, path_inside, require_one_kind, without_suffix
from .folders import write_folder
from .shards import write_shards
from .writers import (
    Row,
    Writer,
    write_csv,
    write_json,
    write_json_lines,
    write_json_list,
    write_json_object,
    write_parquet,
)

ExportWriter = Callable[[Iterator[CaptionedItem], Path], Iterator[Path]]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """write: (entries in the order of their folders, where to) -> the files that came of it, each whole when it comes.

    place: where to, unless the user says: {folder} is the media folder, {parent} what it lies in, {name} its name;
    None: the trainer reads the `.txt` beside the media, and --output is a folder to lay both in.
    several: what becomes of several captions of one file. kind: the only one that it takes.
    """

    write: ExportWriter
    place: str | None
    several: str
    kind: Kind | None = None
    suffixes: Mapping[str, ExportWriter] = field(default_factory=dict)  # other ways, by the ending of --output

    def default_path(self, folder: Path) -> Path | None:
        """Where to, for this media folder. None where the trainer reads the `.txt` beside the media."""
        if self.place is None:
            return None
        return Path(self.place.format(folder=folder, parent=folder.parent, name=folder.name))

    def writer_for(self, path: Path) -> ExportWriter:
        return self.suffixes.get(path.suffix, self.write)


def _rows(writer: Writer, rows_of: Callable[[CaptionedItem, Path], Iterable[Row]]) -> ExportWriter:
    """Entries as rows of one file. rows_of: (entry, the file's folder) -> its rows."""

    def write(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
        writer((row for entry in entries for row in rows_of(entry, to.parent)), to)
        yield to

    return write


def _require_path_is_read(to: Path, name: str, is_there: bool = True) -> None:
    if to.name != name or not is_there:
        raise StartError(f"{to} would not be read: this trainer reads {name} in the media folder. Leave --output out")


def _diffusion_pipe(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
    """A captions.json in every folder: it reads none but that of a folder given."""
    for folder, group in groupby(entries, key=lambda entry: entry.item.path.parent):
        _require_path_is_read(to, "captions.json", folder.is_relative_to(to.parent))
        path = folder / to.name
        write_json({entry.item.path.name: list(entry.captions) for entry in group}, path)
        yield path


def _musubi(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
    """A file for images and one for clips. Its caches are named after stems alone, wherever a file lies."""
    rows: dict[Kind, list[Row]] = {"image": [], "clip": []}
    for entry in distinct(entries, lambda entry: (entry.item.kind, entry.item.path.stem)):
        path, kind = entry.item.path, entry.item.kind
        rows[kind].append({"image_path" if kind == "image" else "video_path": str(path), "caption": entry.captions[0]})
    for kind, ending in (("image", "images"), ("clip", "videos")):
        if rows[kind]:
            path = to.with_name(f"{to.stem}-{ending}{to.suffix}")
            write_json_lines(rows[kind], path)
            yield path


def _sd_scripts(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
    """It takes the first line, and any of them with `enable_wildcard`."""
    write_json_object(((str(entry.item.path), {"caption": "\n".join(entry.captions)}) for entry in entries), to)
    yield to


def _simpletuner(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    from ..media.probe import probe  # the decoders, which no other format needs

    info = probe(entry.item)
    size = {"width": info.width, "height": info.height, "num_frames": info.frames, "fps": info.fps}
    # Its name within the folder that was given, which is to be the instance_data_dir.
    yield {"filename": entry.item.name, "caption": list(entry.captions), **size}


def _ltx(writer: Writer) -> ExportWriter:
    def row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
        yield {"caption": entry.captions[0], "media_path": path_inside(entry, folder)}

    return lambda entries, to: _rows(writer, row)(distinct(entries, without_suffix), to)


def _metadata(column: str) -> ExportWriter:
    def row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
        yield {"file_name": path_inside(entry, folder), column: entry.captions[0]}

    def write(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
        _require_path_is_read(to, "metadata.jsonl")
        yield from _rows(write_json_lines, row)(require_one_kind(entries), to)

    return write


def _generic_row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    for caption in entry.captions:
        yield {"file_name": entry.item.name, "path": str(entry.item.path), "kind": entry.item.kind, "caption": caption}


def _generic_list_row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    [first, *_] = _generic_row(entry, folder)
    yield first | {"captions": list(entry.captions)}


_FIRST, _ALL, _LINES = "the first is written", "all are written", "as lines, of which it takes one at a time"
EXPORTS: Mapping[str, ExportFormat] = {
    "diffusion-pipe": ExportFormat(_diffusion_pipe, "{folder}/captions.json", _ALL),
    "musubi": ExportFormat(_musubi, "{parent}/{name}-musubi.jsonl", _FIRST),
    "ai-toolkit": ExportFormat(write_folder, None, _FIRST),
    "simpletuner": ExportFormat(
        _rows(write_json_lines, _simpletuner),
        "{parent}/{name}-simpletuner.jsonl",
        _ALL,
        suffixes={".parquet": _rows(write_parquet, _simpletuner)},
    ),
    "finetrainers": ExportFormat(_metadata("caption"), "{folder}/metadata.jsonl", _FIRST),
    "ltx": ExportFormat(
        _ltx(write_json_list),
        "{parent}/{name}-ltx.json",
        _FIRST,
        suffixes={".csv": _ltx(write_csv), ".jsonl": _ltx(write_json_lines)},
    ),
    "onetrainer": ExportFormat(partial(write_folder, lines=True), None, _LINES),
    "sd-scripts": ExportFormat(_sd_scripts, "{parent}/{name}-sd-scripts.json", _LINES, kind="image"),
    "mochi": ExportFormat(write_folder, None, _FIRST, kind="clip"),
    "huggingface": ExportFormat(_metadata("text"), "{folder}/metadata.jsonl", _FIRST),
    "webdataset": ExportFormat(write_shards, "{parent}/{name}.tar", _ALL),
    "csv": ExportFormat(_rows(write_csv, _generic_row), "{parent}/{name}.csv", "a row each"),
    "parquet": ExportFormat(_rows(write_parquet, _generic_list_row), "{parent}/{name}.parquet", _ALL),
}
