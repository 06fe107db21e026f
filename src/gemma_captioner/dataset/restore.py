"""Restores the captions and media that a run overwrote or removed, from its journal."""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import ItemError, StartError
from ..storage.filesystem import glob_files
from . import sidecar, trash
from .journal import Journal, JournalRecord, change_record, journal_path, new_run_id, read_journal


def restore(store: Path, run_id: str) -> Iterator[tuple[Path, bool]]:
    """Restore the captions and media that the run overwrote or removed, the last change first.

    It skips a caption that changed after the run. A new journal keeps what `restore` itself replaces. run_id: or the
    path of the run's journal. Yields (file, whether it was restored). Raises `StartError` if the run does not exist.
    """
    run_id = Path(run_id).name.partition(".")[0]
    folder = journal_path(store, run_id).parent
    paths = glob_files(folder, "*.jsonl")
    files = [path for path in paths if path.name.startswith(f"{run_id}.")]
    if not files:
        runs = sorted({path.name.partition(".")[0] for path in paths})
        known = f"The latest: {', '.join(runs[-5:])}" if runs else "Give the folder that was captioned, or its --output"
        raise StartError(f"{store} has no run {run_id!r}. {known}")
    journal = Journal(new_run_id(), {"restores": run_id})
    try:
        for record in reversed([r for r in chain.from_iterable(map(read_journal, files)) if _is_restorable(r)]):
            yield _restore_record(store, record, journal)
    finally:
        journal.close()


def _is_restorable(record: JournalRecord) -> bool:
    """Whether its file is in this store. The journal of a dataset from somebody else may name any file."""
    if record.get("kind") == "trash":
        return trash.is_trash(str(record.get("to")), of=str(record.get("from")))
    return isinstance(record.get("replaced"), str) and _is_inside(record.get("caption_file"))


def _is_inside(name: Any) -> bool:
    return isinstance(name, str) and not os.path.isabs(name) and os.path.normpath(name).partition(os.sep)[0] != ".."


def _restore_record(store: Path, record: JournalRecord, journal: Journal) -> tuple[Path, bool]:
    if record["kind"] == "trash":
        media = Path(os.path.normpath(store / record["from"]))
        try:
            trash.move(store / record["to"], media)
        except ItemError:  # another file has this name now, or the trash was emptied
            return media, False
        return media, True
    caption_path = store / record["caption_file"]
    try:
        current = sidecar.read(caption_path)
    except ItemError:  # a folder or an unreadable file: not the caption of the run
        return caption_path, False
    if (None if current is None else sidecar.digest(current)) != record.get("digest"):
        return caption_path, False
    content = record["replaced"].encode("utf-8", "surrogateescape")
    restored = change_record("restore", record.get("path"), record["caption_file"], current, content)
    sidecar.write(caption_path, content, store, lambda: journal.append(store, restored))
    return caption_path, True
