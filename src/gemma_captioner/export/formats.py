"""Table of the export formats: which rows each trainer reads, and from which file. Details: docs/trainers.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.targets import get_target, trainers
from ..dataset.discover import EXTENSIONS
from ..dataset.reader import CaptionedItem
from ..errors import StartError, UsageError
from ..text import printable, suggest
from ..types import Kind, MediaItem
from .control import diffsynth_columns, huggingface_columns, musubi_columns
from .entries import distinct, path_inside, require_one_kind, require_one_line, require_usable, without_suffix
from .folders import write_fibo_folder, write_folder
from .shards import require_readable, write_shards
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

if TYPE_CHECKING:
    from ..media.probe import Probe

_FIRST, _ALL, _LINES = "only the first is written", "all are written", "all are written as lines; training picks one"
ExportWriter = Callable[[Iterator[CaptionedItem], Path], Iterator[Path]]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """How to export for one trainer.

    `place` is the default target path: {folder} is the media folder, {parent} its parent, {name} its name. None: the
    trainer reads the `.txt` beside the media, and --output is a folder for both.
    """

    write: ExportWriter  # (entries in folder order, target path) -> paths of the complete files
    place: str | None
    several: str  # what happens to several captions of one file
    kind: Kind | None = None  # the only kind that the trainer reads, None for both
    suffixes: Mapping[str, ExportWriter] = field(default_factory=dict)  # other writers, by the suffix of --output
    probe: Callable[[MediaItem], object] = lambda item: None  # raises `ItemError` for media that cannot be exported
    control: str = ""  # the trainer reads sources of edits from "columns" of the rows, or from "folders" of their own

    def default_path(self, folder: Path) -> Path | None:
        """Default target path for this media folder; None if the trainer reads the `.txt` beside the media."""
        if self.place is None:
            return None
        return Path(self.place.format(folder=folder, parent=folder.parent, name=folder.name))

    def check(self, entry: CaptionedItem) -> None:
        """Raises `ItemError` if this entry alone cannot be exported."""
        require_usable(entry, names_are_text=self.place is not None)
        self.probe(entry.item)

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of the files that it writes; none if it writes a folder."""
        default = Path(self.place or "").suffix
        return (default, *self.suffixes) if default else ()

    def check_output(self, path: Path) -> None:
        """Raise `UsageError` for the ending of captions, media or another format. .json and .jsonl are taken as one."""
        ending = path.suffix.lower()
        if self.place is not None and ending.lstrip(".") in {"txt", *EXTENSIONS}:
            raise UsageError(
                f"--output {printable(path)}: {path.suffix} is the ending of captions or media: choose another one"
            )
        if ending in _ENDINGS and not {ending, ending.removesuffix("l"), f"{ending}l"} & set(self.endings):
            raise UsageError(
                f"--output {printable(path)}: this export writes {', '.join(self.endings) or 'a folder'}: choose "
                "another ending, or another format with --for"
            )

    def writer_for(self, path: Path) -> ExportWriter:
        return self.suffixes.get(path.suffix.lower(), self.write)


def _rows(writer: Writer, rows_of: Callable[[CaptionedItem, Path], Iterable[Row]]) -> ExportWriter:
    """Write entries as rows of one file. rows_of: (entry, folder of that file) -> rows."""

    def write(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
        writer((row for entry in entries for row in rows_of(entry, to.parent)), to)
        yield to

    return write


def _require_path_is_read(to: Path, name: str, is_media_folder: bool = True) -> None:
    if to.name != name or not is_media_folder:
        raise StartError(f"this trainer would not read {to}, only {name} in the media folder: omit --output")


def _diffusion_pipe(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
    """Write captions.json in every folder: diffusion-pipe reads only the one of each configured folder."""
    for folder, group in groupby(entries, key=lambda entry: entry.item.path.parent):
        _require_path_is_read(to, "captions.json", folder.is_relative_to(to.parent))
        path = folder / to.name
        write_json({entry.item.path.name: list(entry.captions) for entry in group}, path)
        yield path


def _musubi(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
    """Write one file for images and one for clips. Stems must be distinct: musubi names its caches after them."""
    rows: dict[Kind, list[Row]] = {"image": [], "clip": []}
    for entry in distinct(entries, lambda entry: (entry.item.kind, entry.item.path.stem)):
        path, kind = entry.item.path, entry.item.kind
        row = {"image_path" if kind == "image" else "video_path": str(path), "caption": entry.captions[0]}
        rows[kind].append(row | musubi_columns(entry))
    for kind, ending in (("image", "images"), ("clip", "videos")):
        if rows[kind]:
            path = to.with_name(f"{to.stem}-{ending}{to.suffix}")
            write_json_lines(rows[kind], path)
            yield path


def _sd_scripts(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
    """Write all captions as lines. sd-scripts reads the first, or a random one with `enable_wildcard`."""
    rows = ((str(entry.item.path), {"caption": "\n".join(entry.captions)}) for entry in require_one_line(entries))
    write_json_object(rows, to)
    yield to


@lru_cache(maxsize=1)  # without sources, the row is written right after the check
def _probe_as_stored(item: MediaItem) -> "Probe":
    """SimpleTuner does not turn images by EXIF, but stretches them to the size in the table."""
    from ..media.header import read_header
    from ..media.probe import probe  # slow import that other formats do not need

    found, header = probe(item), read_header(item.path) if item.kind == "image" else None
    return replace(found, width=header.stored_size[0], height=header.stored_size[1]) if header else found


def _simpletuner(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    info = _probe_as_stored(entry.item)
    size = {"width": info.width, "height": info.height, "num_frames": info.frames, "fps": info.fps}
    # The name is relative to the dataset folder, which must be the instance_data_dir.
    yield {"filename": entry.item.name, "caption": list(entry.captions), **size}


def _ltx(writer: Writer) -> ExportWriter:
    def row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
        yield {"caption": entry.captions[0], "media_path": path_inside(entry.item.path, folder)}

    return lambda entries, to: _rows(writer, row)(distinct(entries, without_suffix), to)


def _diffsynth(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    # The name is relative to the dataset folder, which must be the --dataset_base_path.
    row = {"image" if entry.item.kind == "image" else "video": entry.item.name, "prompt": entry.captions[0]}
    yield row | diffsynth_columns(entry)


def _diffsynth_with_sound(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    """Every clip has the column, even without a track: a row without it ends the training."""
    [row] = _diffsynth(entry, folder)
    yield row | ({"input_audio": row["video"]} if "video" in row else {})


def _diffsynth_export(rows_of: Callable[[CaptionedItem, Path], Iterable[Row]]) -> ExportFormat:
    def one_source(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
        if len(entry.sources) > 1:
            raise StartError(f"{entry.item.path} has several sources, which a .csv cannot hold: write .json or .jsonl")
        return rows_of(entry, folder)

    write_list, lines = (_of_one_kind(_rows(writer, rows_of)) for writer in (write_json_list, write_json_lines))
    suffixes = {".csv": _of_one_kind(_rows(write_csv, one_source)), ".jsonl": lines}
    return ExportFormat(write_list, "{parent}/{name}-diffsynth.json", _FIRST, suffixes=suffixes, control="columns")


def _of_one_kind(write: ExportWriter) -> ExportWriter:
    return lambda entries, to: write(require_one_kind(entries), to)


def _metadata(column: str) -> ExportWriter:
    def row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
        row = {"file_name": path_inside(entry.item.path, folder), column: entry.captions[0]}
        yield row | huggingface_columns(entry, folder)

    def write(entries: Iterator[CaptionedItem], to: Path) -> Iterator[Path]:
        _require_path_is_read(to, "metadata.jsonl")
        yield from _of_one_kind(_rows(write_json_lines, row))(entries, to)

    return write


def _generic_row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    for caption in entry.captions:
        yield {"file_name": entry.item.name, "path": str(entry.item.path), "kind": entry.item.kind, "caption": caption}


def _generic_list_row(entry: CaptionedItem, folder: Path) -> Iterable[Row]:
    [first, *_] = _generic_row(entry, folder)
    yield first | {"captions": list(entry.captions)}


EXPORTS: Mapping[str, ExportFormat] = {
    "diffusion-pipe": ExportFormat(_diffusion_pipe, "{folder}/captions.json", _ALL, control="folders"),
    "musubi": ExportFormat(_musubi, "{parent}/{name}-musubi.jsonl", _FIRST, control="columns"),
    "ai-toolkit": ExportFormat(write_folder, None, _FIRST, control="folders"),
    "simpletuner": ExportFormat(
        _rows(write_json_lines, _simpletuner),
        "{parent}/{name}-simpletuner.jsonl",
        _ALL,
        suffixes={".parquet": _rows(write_parquet, _simpletuner)},
        probe=_probe_as_stored,
        control="folders",
    ),
    "finetrainers": ExportFormat(_metadata("caption"), "{folder}/metadata.jsonl", _FIRST),
    "ltx": ExportFormat(
        _ltx(write_json_list),
        "{parent}/{name}-ltx.json",
        _FIRST,
        suffixes={".csv": _ltx(write_csv), ".jsonl": _ltx(write_json_lines)},
    ),
    "onetrainer": ExportFormat(
        partial(write_folder, lines=True, companions=("-masklabel.png", "-condlabel.png")), None, _LINES
    ),
    "sd-scripts": ExportFormat(_sd_scripts, "{parent}/{name}-sd-scripts.json", _LINES, kind="image"),
    "mochi": ExportFormat(write_folder, None, _FIRST, kind="clip"),
    "diffsynth": _diffsynth_export(_diffsynth),
    "fibo": ExportFormat(write_fibo_folder, "{parent}/{name}-fibo", _FIRST, kind="image"),
    "huggingface": ExportFormat(_metadata("text"), "{folder}/metadata.jsonl", _FIRST, control="columns"),
    "webdataset": ExportFormat(write_shards, "{parent}/{name}.tar", _ALL, probe=require_readable),
    "csv": ExportFormat(_rows(write_csv, _generic_row), "{parent}/{name}.csv", "one row per caption"),
    "parquet": ExportFormat(_rows(write_parquet, _generic_list_row), "{parent}/{name}.parquet", _ALL),
}
_ENDINGS = frozenset(ending for form in EXPORTS.values() for ending in form.endings)
# For models that are trained on sound. Other trainers read the sound from the clip itself.
_WITH_SOUND: Mapping[str, ExportFormat] = {"diffsynth": _diffsynth_export(_diffsynth_with_sound)}


def export_format(target: str) -> ExportFormat:
    """Return the format for `TRAINER[:MODEL]`, or of that name. Raises `UsageError` if it is unknown."""
    name, _, model = target.partition(":")
    if name not in EXPORTS:
        raise UsageError(f"--for {target}: unknown trainer or format. {suggest(name, EXPORTS)}")
    if model and name not in trainers():
        raise UsageError(f"--for {target}: {name} is a format without models: use --for {name}")
    has_sound = name in trainers() and get_target(target).sound
    return _WITH_SOUND.get(name, EXPORTS[name]) if has_sound else EXPORTS[name]
