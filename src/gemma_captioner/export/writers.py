"""Writes rows to one file: JSON, JSON Lines, CSV, Parquet. formats.py defines the rows.

JSON is ASCII only, because some trainers open it in the system encoding. JSON Lines files have no empty lines.
"""

import csv
import filecmp
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, BinaryIO

from ..dataset import sidecar
from ..dataset.parquet import import_pyarrow
from ..errors import StartError
from ..storage.atomic import atomic_write
from ..storage.filesystem import is_device

Row = dict[str, Any]
Writer = Callable[[Iterable[Row], Path], None]
_PARQUET_ROWS = 10_000  # rows per write


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its final name when it is complete and synced. A different existing file is backed up.

    Raises the errors of `sidecar.storage_error`, and `StartError` if the path is a folder, a pipe or a device, which a
    rename would replace.
    """
    if path.is_dir():
        raise StartError(f"{path} is a folder: name a file in it, for example --output {path / 'captions'}")
    if is_device(path):
        raise StartError(f"{path} is a pipe or a device: name a regular file with --output")
    with (
        sidecar.map_storage_errors(path),
        atomic_write(path, rename=_replace_with_backup) as unfinished,
        unfinished.open("wb") as file,
    ):
        yield file


def _replace_with_backup(unfinished: Path, path: Path) -> None:
    if path.exists() and not filecmp.cmp(unfinished, path, shallow=False):
        os.replace(path, _backup(path))
    os.replace(unfinished, path)


def _backup(path: Path) -> Path:
    """The first free name of x.json.bak, x.json.2.bak, ... Trainers skip this extension."""
    names = chain([f"{path.name}.bak"], (f"{path.name}.{number}.bak" for number in count(2)))
    return next(backup for name in names if not os.path.lexists(backup := path.with_name(name)))


def write_json(value: Any, path: Path) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def write_json_lines(rows: Iterable[Row], path: Path) -> None:
    with whole_file(path) as file:
        for row in rows:
            file.write(json.dumps(row).encode() + b"\n")


def write_json_list(rows: Iterable[Row], path: Path) -> None:
    _write_json_parts("[]", (json.dumps(row) for row in rows), path)


def write_json_object(members: Iterable[tuple[str, Any]], path: Path) -> None:
    _write_json_parts("{}", (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members), path)


def _write_json_parts(brackets: str, parts: Iterable[str], path: Path) -> None:
    """Write one part per line, without collecting the parts first."""
    with whole_file(path) as file:
        file.write(brackets[0].encode())
        separator = "\n"
        for part in parts:
            file.write(f"{separator}{part}".encode())
            separator = ",\n"
        file.write(f"\n{brackets[1]}\n".encode())


def write_csv(rows: Iterable[Row], path: Path) -> None:
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(text, list(row))
                writer.writeheader()
            writer.writerow(row)
        text.detach()


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Lists become list columns. Raises `StartError` if pyarrow is not installed."""
    pa, parquet = import_pyarrow("Parquet export")
    with whole_file(path) as file:
        writer, rest = None, iter(rows)
        while batch := list(islice(rest, _PARQUET_ROWS)):
            table = pa.Table.from_pylist(batch, schema=writer and writer.schema)
            writer = writer or parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
