"""A dataset -> the file that a trainer reads its captions from. What each reads: docs/trainers.md.

JSON is plain ASCII (some trainers open it in the machine's own encoding), and no line of a JSONL is empty.
"""

import csv
import filecmp
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, groupby, islice
from pathlib import Path
from typing import Any, BinaryIO

from ..dataset import sidecar
from ..dataset.contents import Entry
from ..dataset.discover import is_media
from ..errors import StartError
from ..storage.atomic import atomic
from ..types import Kind

Write = Callable[[Iterator[Entry], Path], Iterator[Path]]
_SHARD_BYTES = 1 << 30  # of media in one tar
_ROWS = 10_000  # that a parquet file is written in


@dataclass(frozen=True, slots=True)
class Format:
    """write: (entries in the order of their folders, where to) -> the files that came of it, each whole when it comes.

    place: where to, unless the user says: {folder} is the media folder, {parent} what it lies in, {name} its name;
    None: the trainer reads the `.txt` beside the media, and --output is a folder to lay both in.
    several: what becomes of several captions of one file. kind: the only one that it takes.
    """

    write: Write
    place: str | None
    several: str
    kind: Kind | None = None
    suffixes: Mapping[str, Write] | None = None  # other ways, by the ending of --output


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name once it is whole and synced; what was there and differs is kept beside it.

    Raises what `sidecar.storage_error` says.
    """
    try:
        with atomic(path, rename=_replace_keeping) as unfinished, unfinished.open("wb") as file:
            yield file
    except OSError as error:
        raise sidecar.storage_error(error, path) from error


def _replace_keeping(unfinished: Path, path: Path) -> None:
    if path.exists() and not filecmp.cmp(unfinished, path, shallow=False):
        os.replace(path, _backup(path))
    os.replace(unfinished, path)


def _backup(path: Path) -> Path:
    """x.json.bak, x.json.2.bak and so on: the first that is free. All end in what trainers pass over."""
    names = chain([f"{path.name}.bak"], (f"{path.name}.{number}.bak" for number in count(2)))
    return next(backup for name in names if not os.path.lexists(backup := path.with_name(name)))


Row = dict[str, Any]


def _json_lines(rows: Iterable[Row], to: Path) -> Path:
    with _whole(to) as file:
        for row in rows:
            file.write(json.dumps(row).encode() + b"\n")
    return to


def _json_list(rows: Iterable[Row], to: Path) -> Path:
    with _whole(to) as file:
        opening = b"["
        for row in rows:
            file.write(opening + b"\n" + json.dumps(row).encode())
            opening = b","
        file.write((b"[" if opening == b"[" else b"") + b"\n]\n")
    return to


def _table(rows: Iterable[Row], to: Path) -> Path:
    with _whole(to) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(text, list(row))
                writer.writeheader()
            writer.writerow(row)
        text.detach()
    return to


def _columns(rows: Iterable[Row], to: Path) -> Path:
    """Parquet; a column of lists where a row holds one. Raises `StartError` without pyarrow."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise StartError("parquet needs pyarrow: pip install 'gemma-captioner[export]'") from error
    with _whole(to) as file:
        writer, rest = None, iter(rows)
        while some := list(islice(rest, _ROWS)):
            table = pa.Table.from_pylist(some, schema=writer and writer.schema)
            writer = writer or parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return to


def _rows(save: Callable[[Iterable[Row], Path], Path], row: Callable[[Entry, Path], Iterable[Row]]) -> Write:
    """Entries as rows of one file."""

    def write(entries: Iterator[Entry], to: Path) -> Iterator[Path]:
        yield save((each for entry in entries for each in row(entry, to.parent)), to)

    return write


def _inside(entry: Entry, folder: Path) -> str:
    """Its media's path within `folder`. Raises `StartError` where it lies elsewhere."""
    try:
        return entry.item.path.relative_to(folder.absolute()).as_posix()
    except ValueError:
        raise StartError(
            f"{entry.item.path} is not inside {folder}, which this trainer asks for: move --output"
        ) from None


def _see_that_it_is_read(to: Path, name: str, is_there: bool = True) -> None:
    if to.name != name or not is_there:
        raise StartError(f"{to} would not be read: this trainer reads {name} in the media folder. Leave --output out")


def _of_one_kind(entries: Iterator[Entry]) -> Iterator[Entry]:
    first = next(entries, None)
    if first is None:
        return
    for entry in chain([first], entries):
        if entry.item.kind != first.item.kind:
            raise StartError("images and clips are mixed, and this trainer takes one kind: --include '*.mp4', say")
        yield entry


def _distinct(entries: Iterator[Entry], key: Callable[[Entry], Any]) -> Iterator[Entry]:
    seen: dict[Any, Path] = {}
    for entry in entries:
        other = seen.setdefault(key(entry), entry.item.path)
        if other != entry.item.path:
            raise StartError(f"{other} and {entry.item.path} would be taken for one by this trainer: rename one")
        yield entry


def _without_suffix(entry: Entry) -> Path:
    """What tells a file from others to a trainer that puts an ending of its own there."""
    return entry.item.path.with_suffix("")


# The trainers


def _diffusion_pipe(entries: Iterator[Entry], to: Path) -> Iterator[Path]:
    """A captions.json in every folder: it reads none but that of a folder given."""
    for folder, together in groupby(entries, key=lambda entry: entry.item.path.parent):
        _see_that_it_is_read(to, "captions.json", folder.is_relative_to(to.parent))
        captions = {entry.item.path.name: list(entry.captions) for entry in together}
        path = folder / to.name
        with _whole(path) as file:
            file.write(json.dumps(captions, indent=1).encode())
        yield path


def _musubi(entries: Iterator[Entry], to: Path) -> Iterator[Path]:
    """A file for images and one for clips. Its caches are named after stems alone, wherever a file lies."""
    rows: dict[Kind, list[Row]] = {"image": [], "clip": []}
    for entry in _distinct(entries, lambda entry: (entry.item.kind, entry.item.path.stem)):
        path, kind = entry.item.path, entry.item.kind
        rows[kind].append({"image_path" if kind == "image" else "video_path": str(path), "caption": entry.captions[0]})
    for kind, ending in (("image", "images"), ("clip", "videos")):
        if rows[kind]:
            yield _json_lines(rows[kind], to.with_name(f"{to.stem}-{ending}{to.suffix}"))


def _sd_scripts(entries: Iterator[Entry], to: Path) -> Iterator[Path]:
    """It takes the first line, and any of them with `enable_wildcard`."""
    with _whole(to) as file:
        opening = b"{"
        for entry in entries:
            key, value = json.dumps(str(entry.item.path)), json.dumps({"caption": "\n".join(entry.captions)})
            file.write(opening + f"\n{key}: {value}".encode())
            opening = b","
        file.write(b"\n}\n")
    yield to


def _simpletuner(entry: Entry, folder: Path) -> Iterable[Row]:
    from ..media.probe import probe  # the decoders, which no other format needs

    seen = probe(entry.item)
    size = {"width": seen.width, "height": seen.height, "num_frames": seen.frames, "fps": seen.fps}
    # Its name within the folder that was given, which is to be the instance_data_dir.
    yield {"filename": entry.item.name, "caption": list(entry.captions), **size}


def _ltx(save: Callable[[Iterable[Row], Path], Path]) -> Write:
    def row(entry: Entry, folder: Path) -> Iterable[Row]:
        yield {"caption": entry.captions[0], "media_path": _inside(entry, folder)}

    return lambda entries, to: _rows(save, row)(_distinct(entries, _without_suffix), to)


def _metadata(column: str) -> Write:
    def row(entry: Entry, folder: Path) -> Iterable[Row]:
        yield {"file_name": _inside(entry, folder), column: entry.captions[0]}

    def write(entries: Iterator[Entry], to: Path) -> Iterator[Path]:
        _see_that_it_is_read(to, "metadata.jsonl")
        yield from _rows(_json_lines, row)(_of_one_kind(entries), to)

    return write


def _plain(entry: Entry, folder: Path) -> Iterable[Row]:
    for caption in entry.captions:
        yield {"file_name": entry.item.name, "path": str(entry.item.path), "kind": entry.item.kind, "caption": caption}


def _plain_list(entry: Entry, folder: Path) -> Iterable[Row]:
    [first, *_] = _plain(entry, folder)
    yield first | {"captions": list(entry.captions)}


def _shards(entries: Iterator[Entry], to: Path) -> Iterator[Path]:
    """Tars of samples `00000000.png`, `.txt`, `.json`; one extension a tar, as `datasets` wants it."""
    by_suffix: dict[str, list[Entry]] = {}
    for entry in entries:
        by_suffix.setdefault(entry.item.path.suffix.lower(), []).append(entry)
    number = 0
    for suffix, alike in by_suffix.items():
        for shard, together in enumerate(_by_size(alike)):
            path = to.with_name(f"{to.stem}{suffix.replace('.', '-')}-{shard:06d}.tar")
            with _whole(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
                for entry in together:
                    known = {"file_name": entry.item.name, "caption": entry.captions[0], "captions": entry.captions}
                    tar.add(entry.item.path, f"{number:08d}{suffix}", recursive=False, filter=_as_file)
                    _add(tar, f"{number:08d}.txt", entry.captions[0].encode())
                    _add(tar, f"{number:08d}.json", json.dumps(known).encode())
                    number += 1
            yield path


def _by_size(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    shard: list[Entry] = []
    size = 0
    for entry in entries:
        shard.append(entry)
        size += entry.item.path.stat().st_size
        if size >= _SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _as_file(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _folder(*, lines: bool) -> Write:
    """Media, linked, and a `.txt` beside each, as these trainers find it whatever ours is called."""

    def write(entries: Iterator[Entry], to: Path) -> Iterator[Path]:
        laid = [(entry, to / entry.item.name) for entry in _distinct(entries, _without_suffix)]
        _see_that_captions_stay_apart(laid)
        for entry, media in laid:
            media.parent.mkdir(parents=True, exist_ok=True)
            if not media.exists():
                media.unlink(missing_ok=True)  # a link to where the dataset was
                _link(entry.item.path, media)
            with _whole(media.with_suffix(".txt")) as file:
                file.write("\n".join(dict.fromkeys(entry.captions) if lines else entry.captions[:1]).encode())
        yield to

    return write


def _see_that_captions_stay_apart(laid: Sequence[tuple[Entry, Path]]) -> None:
    """Raises `StartError` where other media than an entry's lies where its caption would be taken for theirs."""
    there: dict[Path, list[Path]] = {}
    for folder in {media.parent for _, media in laid}:
        for path in folder.iterdir() if folder.is_dir() else ():
            if is_media(path.name) and path.exists():
                there.setdefault(path.with_suffix(""), []).append(path)
    for entry, media in laid:
        for other in there.get(media.with_suffix(""), ()):
            same = other.samefile(entry.item.path) or filecmp.cmp(other, entry.item.path, shallow=False)
            if other != media or not same:
                raise StartError(
                    f"{other} is not {entry.item.path}, and would have its caption: remove it, or name another --output"
                )


def _link(media: Path, at: Path) -> None:
    for way in (os.symlink, os.link):
        try:
            way(media, at)
            return
        except OSError:
            continue  # a file system, or a Windows, that does not allow it
    shutil.copy2(media, at)


_FIRST, _ALL, _LINES = "the first is written", "all are written", "as lines, of which it takes one at a time"
EXPORTS: Mapping[str, Format] = {
    "diffusion-pipe": Format(_diffusion_pipe, "{folder}/captions.json", _ALL),
    "musubi": Format(_musubi, "{parent}/{name}-musubi.jsonl", _FIRST),
    "ai-toolkit": Format(_folder(lines=False), None, _FIRST),
    "simpletuner": Format(
        _rows(_json_lines, _simpletuner),
        "{parent}/{name}-simpletuner.jsonl",
        _ALL,
        suffixes={".parquet": _rows(_columns, _simpletuner)},
    ),
    "finetrainers": Format(_metadata("caption"), "{folder}/metadata.jsonl", _FIRST),
    "ltx": Format(
        _ltx(_json_list),
        "{parent}/{name}-ltx.json",
        _FIRST,
        suffixes={".csv": _ltx(_table), ".jsonl": _ltx(_json_lines)},
    ),
    "onetrainer": Format(_folder(lines=True), None, _LINES),
    "sd-scripts": Format(_sd_scripts, "{parent}/{name}-sd-scripts.json", _LINES, kind="image"),
    "mochi": Format(_folder(lines=False), None, _FIRST, kind="clip"),
    "huggingface": Format(_metadata("text"), "{folder}/metadata.jsonl", _FIRST),
    "webdataset": Format(_shards, "{parent}/{name}.tar", _ALL),
    "csv": Format(_rows(_table, _plain), "{parent}/{name}.csv", "a row each"),
    "parquet": Format(_rows(_columns, _plain_list), "{parent}/{name}.parquet", _ALL),
}
