"""New captions for files that have one: made beside the dataset, shown beside the old, taken or declined.

The pipeline runs as ever, with a folder of its own as the store: `.gemma-captioner/proposals/<run-id>/`. A copy of each
present caption goes in first, so that the prompt's {existing} finds it and the journal there tells what the new caption
would replace. So a server that dies loses none of them.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..records import MediaItem
from ..store import sidecar
from ..store.journal import Line, read_all
from ..store.sidecar import DOT_FOLDER
from .decisions import Decision
from .edits import Done, Draft, Edits
from .library import Entry, Library


@dataclass(frozen=True, slots=True)
class Proposal:
    """text: the new caption. origin: how it came about, a line of the journal. folder: which run's."""

    number: int
    text: str
    origin: Line
    folder: Path


class Proposals:
    """Offered and neither taken nor declined."""

    def __init__(self, library: Library, edits: Edits) -> None:
        self._library = library
        self._edits = edits
        self._home = library.root.store / DOT_FOLDER / "proposals"
        self._offered: dict[int, Proposal] = {}

    def __contains__(self, number: object) -> bool:
        return number in self._offered

    def __len__(self) -> int:
        return len(self._offered)

    def of(self, number: int) -> Proposal | None:
        return self._offered.get(number)

    def ordered(self, entries: Iterable[Entry], run_id: str) -> Iterator[MediaItem]:
        """The items of a run that makes proposals, each with its present caption beside it."""
        folder = self._home / run_id
        for entry in entries:
            path = folder / entry.item.caption_file
            path.parent.mkdir(parents=True, exist_ok=True)
            content = sidecar.read(entry.item.caption_path)
            if content:
                path.write_bytes(content)
            yield replace(entry.item, caption_path=path, store=folder)

    def refresh(self) -> set[int]:
        """Look for those of runs, this server's or one that ended: the numbers that are new."""
        by_name = {entry.item.name: entry.number for entry in self._library.present()}
        before = set(self._offered)
        for folder in sorted(self._home.glob("*")):
            for line in read_all(folder):
                match line:
                    case {"kind": "caption", "path": path, "caption_file": file, "digest": digest} if path in by_name:
                        made = sidecar.read(folder / file)
                        if made is not None and sidecar.digest(made) == digest:
                            number = by_name[path]
                            self._offered[number] = Proposal(number, made.decode(), line, folder)
        return set(self._offered) - before
