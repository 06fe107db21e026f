"""Proposals: new captions for review, which a person accepts or declines.

A run writes them to a store of its own, `.gemma-captioner/proposals/<run-id>/`, so they survive a crash of the server.
Each present caption is copied there first, because the prompt may use it as {existing}.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..dataset import sidecar
from ..dataset.journal import JournalRecord
from ..dataset.sidecar import DOT_FOLDER
from ..types import MediaItem
from .changes import EditConflictError
from .library import Library, ReviewItem
from .provenance import ProvenanceIndex


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new caption. path: its file, which is renamed on acceptance or decline. provenance: its journal record."""

    number: int
    text: str
    path: Path
    provenance: JournalRecord

    @property
    def digest(self) -> str:
        return sidecar.digest(self.text.encode("utf-8", "replace"))


class Proposals:
    """The open proposals: the latest one for each item."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._root = library.root.store / DOT_FOLDER / "proposals"
        self._by_number: dict[int, Proposal] = {}
        self._provenance: dict[Path, ProvenanceIndex] = {}
        by_file = {entry.item.caption_file: entry for entry in library.present()}
        for folder in sorted(self._root.glob("*")):
            for path in sorted(folder.rglob("*.txt")):
                if (entry := by_file.get(path.relative_to(folder).as_posix())) is not None:
                    self.add(entry, folder)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.of(number) is not None

    def of(self, number: int) -> Proposal | None:
        proposal = self._by_number.get(number)
        return proposal if proposal is not None and proposal.path.exists() else None

    def unless_replaced(self, number: int, shown: str | None) -> Proposal | None:
        """Return the item's proposal. Raises `EditConflictError` if its text is not the `shown` one, by digest."""
        proposal = self.of(number)
        if proposal is not None and proposal.digest != shown:
            raise EditConflictError("new caption")
        return proposal

    def run_items(self, entries: Iterable[ReviewItem], run_id: str) -> Iterator[MediaItem]:
        """Yield the items for a run that makes proposals, each with a copy of its present caption."""
        folder = self._root / run_id
        for entry in entries:
            yield sidecar.redirect(entry.item, folder / entry.item.caption_file, folder)

    def add(self, entry: ReviewItem, folder: Path) -> bool:
        """Add the proposal that the run of this folder wrote for the item. Return whether it is a new caption."""
        path = folder / entry.item.caption_file
        index = self._provenance.setdefault(folder, ProvenanceIndex(folder))
        index.refresh()
        content = sidecar.read(path) or b""
        provenance = index.of(entry.item.caption_file, sidecar.digest(content))
        text = content.decode("utf-8", "replace")
        if provenance is None:
            return False
        if text.split() == entry.caption.text.split():
            with suppress(OSError):
                path.rename(path.with_suffix(".settled"))
            return False
        record = {**provenance.record(), "settings": provenance.recorded_settings()}
        self._by_number[entry.number] = Proposal(entry.number, text, path, record)
        return True
