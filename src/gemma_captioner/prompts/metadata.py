"""Metadata about files, from the table that --metadata gives. Prompts use its columns as variables."""

import csv
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..config.settings import Settings
from ..errors import UsageError
from ..text import parse_json, path_error
from ..types import MediaItem
from .variables import validate_templates

_FILE_COLUMNS = ("file_name", "filename", "path", "file", "media_path", "image_path", "video_path", "image", "video")


class MetadataTable:
    """A table in CSV, also with semicolons or tabs, or in JSON lines.

    A row belongs to a file by the file's path, name or stem.
    """

    def __init__(self, path: Path | None) -> None:
        """Read the table. Raises `UsageError` if it cannot be read or if a row does not name its file."""
        self.columns: list[str] = []
        self.used_variables: set[str] = set()  # in the prompts, the prefix and the suffix of the run
        self._rows: dict[str, dict[str, str]] = {}
        if path is None:
            return
        try:
            rows = _rows(path)
        except (OSError, ValueError, csv.Error) as error:
            raise UsageError(f"--metadata {path} cannot be read: {path_error(error)}") from error
        columns = dict.fromkeys(name for _, row in rows for name in row)
        key = next((name for name in _FILE_COLUMNS if name in columns), None)
        if key is None:
            raise UsageError(
                f"--metadata {path}: no column names the file of each row: call that column {_FILE_COLUMNS[0]!r}"
            )
        self.columns = [name for name in columns if name != key]
        lines: dict[str, int] = {}
        for line, row in rows:
            if row.get(key) in (None, ""):
                raise UsageError(
                    f"--metadata {path}, line {line}: {key!r} is empty: write the name of the file into it"
                )
            values = {name: _as_text(row.get(name)) for name in self.columns}
            file = str(row[key]).replace("\\", "/").removeprefix("./")
            if self._rows.setdefault(file, values) != values:
                raise UsageError(
                    f"--metadata {path}: lines {lines[file]} and {line} say different things about {file}: remove one"
                )
            lines.setdefault(file, line)

    def lookup(self, item: MediaItem) -> Mapping[str, str]:
        """Return the row of the file. Returns empty values for a file without a row."""
        for name in _keys(item):
            if name in self._rows:
                return self._rows[name]
        return dict.fromkeys(self.columns, "")

    def digest(self, item: MediaItem) -> str | None:
        """Return a digest of the values that the texts of the run use for the file. None if they use none."""
        used = {name: value for name, value in self.lookup(item).items() if name in self.used_variables}
        return sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:16] if used else None

    def explain_empty_variable(self, name: str, item: MediaItem) -> str:
        """Return why the variable is empty for this file, and the remedy."""
        if name == "tags" and name not in self.columns:
            return (
                "{tags} is empty, because the caption of the file is not a list of tags: write the tags into its .txt, "
                "or give a --metadata table with a column 'tags'"
            )
        has_row = any(key in self._rows for key in _keys(item))
        where = "the row of the file in --metadata has no value" if has_row else "--metadata has no row for the file"
        return f"{{{name}}} is empty, because {where}: add it, or leave {{{name}}} out"


def _as_text(value: Any) -> str:
    """# None -> ""      ["red", None, "round"] -> red, round      {"x": 3} -> {"x": 3}      3 -> 3"""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_as_text, value)))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def _keys(item: MediaItem) -> tuple[str, ...]:
    """How the row of a file may name it."""
    return str(item.path).replace("\\", "/"), item.name, item.path.name, item.path.stem


def load_metadata(settings: Settings) -> MetadataTable:
    """Read the metadata table of a run. Raises `UsageError` if it is invalid or a prompt uses an unknown variable."""
    prompting = settings.prompting
    table = MetadataTable(prompting.metadata)
    prompts = [prompt for of_kind in settings.prompts.values() for prompt in of_kind]
    table.used_variables = validate_templates(
        [*prompts, prompting.prefix, prompting.suffix], table.columns, prompting.trigger
    )
    return table


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(number of the row's last line, row) for each row that is not empty. Raises `ValueError`, `csv.Error`."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            return [(number, _object(line, number)) for number, line in enumerate(file, 1) if line.strip()]
        header = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count))  # spreadsheets write all three
        rows = [(reader.line_num, row) for row in reader if any(cell for cells in row.values() for cell in cells or ())]
    for number, row in rows:
        if any(row.pop(None, ())):
            raise ValueError(f"line {number} has more cells than the header: quote each cell that contains a comma")
    return rows


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise ValueError(f"line {number} is not valid JSON: write one object per line") from error
    if not isinstance(row, dict):
        raise ValueError(f'line {number} is not a JSON object: write it as {{"file_name": ...}}')
    return row
