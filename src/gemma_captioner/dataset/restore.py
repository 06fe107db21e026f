"""Restores the captions and media that a run overwrote or removed, from its journal."""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..errors import ItemError, StartError
from ..storage.filesystem import glob_files, is_local
from . import sidecar, trash
from .containment import MEDIA_SUFFIXES, RESTORABLE_SUFFIXES, check_store_is_contained, resolve_inside
from .journal import Journal, JournalRecord, change_record, journal_path, new_run_id, read_journal
from .sidecar import DOT_FOLDER


class Restored(NamedTuple):
    """A file of the run. reason: why it was not restored; None if it was, or is in place already."""

    path: Path
    is_media: bool
    reason: str | None


def restore(store: Path, run_id: str) -> Iterator[Restored]:
    """Restore the captions and media that the run overwrote or removed, the last change first.

    It skips a caption that changed after the run. A new journal keeps what `restore` itself replaces. run_id: or the
    path of the run's journal. Of several changes of one file, the result that is yielded last counts.

    Raises:
        StartError: The run does not exist, or a link leads the journal outside the folder.
        StorageError: Nothing can be written.
    """
    check_store_is_contained(store)
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
        for record in reversed([r for r in chain.from_iterable(map(read_journal, files)) if _is_restorable(r, store)]):
            yield _restore_record(store, record, journal)
    finally:
        journal.close()


def _is_restorable(record: JournalRecord, store: Path) -> bool:
    """Whether the tool may have written it. The journal of a dataset from somebody else may name any file."""
    if record.get("kind") == "trash":
        return is_local(store) and trash.is_trash(str(record.get("to")), of=str(record.get("from")))
    return isinstance(record.get("replaced"), str) and _is_inside(record.get("caption_file"))


def _is_inside(name: Any) -> bool:
    return isinstance(name, str) and not os.path.isabs(name) and os.path.normpath(name).partition(os.sep)[0] != ".."


def _restore_record(store: Path, record: JournalRecord, journal: Journal) -> Restored:
    is_media = record.get("kind") == "trash"
    path = Path(os.path.normpath(store / record["from"])) if is_media else store / record["caption_file"]
    try:
        if is_media:
            _restore_media(path, Path(os.path.normpath(store / record["to"])), store)
        else:
            _restore_caption(path, record, store, journal)
    except ItemError as error:
        return Restored(path, is_media, str(error).removeprefix(f"{path}: "))
    return Restored(path, is_media, None)


def _restore_media(path: Path, trashed: Path, store: Path) -> None:
    """Move a file back from the trash. Raises `ItemError`."""
    if trashed.suffix != ".deleted" or path.suffix.lower() not in MEDIA_SUFFIXES:
        raise ItemError("it is not an image or a clip: move it yourself")
    # The journal of captions in --output names media in another folder, which then holds the trash too.
    top = next(folder.parent for folder in trashed.parents if folder.name == DOT_FOLDER)
    for folder in (path.parent, trashed.parent):
        resolve_inside(folder, store if path.is_relative_to(store) else top, is_folder=True)
    if os.path.lexists(trashed):
        trash.move(trashed, path)
    elif not os.path.lexists(path):
        raise ItemError("it is not in the trash any more: restore it from a copy")


def _restore_caption(path: Path, record: JournalRecord, store: Path, journal: Journal) -> None:
    """Write the text back that the run replaced. Raises `ItemError`, and `StorageError` if nothing can be written."""
    name = record["caption_file"]
    if PurePosixPath(name).suffix.lower() not in RESTORABLE_SUFFIXES:
        raise ItemError(f"only {', '.join(RESTORABLE_SUFFIXES)} are restored: copy its text from the journal")
    if is_local(store):
        try:
            resolve_inside(path, store, RESTORABLE_SUFFIXES)
        except ItemError as error:
            raise ItemError(f"{error}; its older text is in the journal") from error
    try:
        content = record["replaced"].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ItemError("its text in the journal is damaged: write it yourself") from error
    current = sidecar.read(path)
    if current == content:
        return
    if (None if current is None else sidecar.digest(current)) != record.get("digest"):
        raise ItemError(f"{'removed' if current is None else 'edited'} since: the journal keeps the older text")
    restored = change_record("restore", record.get("path"), name, current, content)
    sidecar.write(path, content, store, lambda: journal.append(store, restored), expected=current)
