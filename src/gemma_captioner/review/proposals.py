"""New captions for files that have one: made beside the dataset, shown beside the old, taken or declined.

The pipeline runs as ever, with a folder of its own as the store: `.gemma-captioner/proposals/<run-id>/`. A copy of each
present caption goes in first, for the prompt's {existing}. A server that dies loses none of them.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..dataset import sidecar
from ..dataset.journal import JournalRecord
from ..dataset.sidecar import DOT_FOLDER
from ..errors import ItemError
from ..types import MediaItem
from .library import Library, ReviewItem
from .provenance import ProvenanceIndex


@dataclass(frozen=True, slots=True)
class Proposal:
    """path: the new caption's; called otherwise, once it was taken or declined. provenance: how it came about."""

    number: int
    text: str
    path: Path
    provenance: JournalRecord


class Proposals:
    """Offered and neither taken nor declined; of several for one file, the last."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._root = library.root.store / DOT_FOLDER / "proposals"
        self._by_number: dict[int, Proposal] = {}
        self._provenance: dict[Path, ProvenanceIndex] = {}
        by_file = {entry.item.caption_file: entry for entry in library.present()}
        for folder in sorted(self._root.glob("*")):
            for path in sorted(folder.rglob("*.txt")):
                if (entry := by_file.get(path.relative_to(folder).as_posix())) is not None:
                    self.offer(entry, folder)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.of(number) is not None

    def of(self, number: int) -> Proposal | None:
        proposal = self._by_number.get(number)
        return proposal if proposal is not None and proposal.path.exists() else None

    def numbers(self) -> set[int]:
        return {number for number in self._by_number if number in self}

    def run_items(self, entries: Iterable[ReviewItem], run_id: str) -> Iterator[MediaItem]:
        """The items of a run that makes proposals, each with its present caption beside it."""
        folder = self._root / run_id
        for entry in entries:
            path = folder / entry.item.caption_file
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(ItemError):
                path.write_bytes(sidecar.read(entry.item.caption_path) or b"")
            yield replace(entry.item, caption_path=path, store=folder)

    def offer(self, entry: ReviewItem, folder: Path) -> None:
        """What the run of this folder made for the entry, where it made something."""
        path = folder / entry.item.caption_file
        index = self._provenance.setdefault(folder, ProvenanceIndex(folder))
        index.refresh()
        content = sidecar.read(path) or b""
        provenance = index.of(entry.item.caption_file, sidecar.digest(content))
        if provenance is not None:
            provenance_line = {**provenance.line(), "settings": provenance.recorded_settings()}
            self._by_number[entry.number] = Proposal(
                entry.number, content.decode("utf-8", "replace"), path, provenance_line
            )
