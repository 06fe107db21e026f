"""Plans a run: compares the discovered files with the existing captions. Opens no media file."""

import hashlib
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ..config.selection import SelectionSettings
from ..config.settings import Settings
from ..config.targets import is_auxiliary
from ..dataset import parquet, sidecar
from ..dataset.discover import DiscoveredItem, Discovery, Root
from ..dataset.journal import CaptionRecord, History, fingerprint
from ..dataset.unsearched import describe_unsearched
from ..errors import ItemError
from ..prompts.context import Context
from ..prompts.metadata import MetadataTable, load_metadata
from ..prompts.sources import exclude_control
from ..storage.filesystem import read
from ..text import counted
from ..types import CAPTIONED, Failed, Folder, MediaItem, Skipped
from .transcription import Transcripts


class OverwritePolicy:
    """Decides which existing captions may be replaced, by --existing, --only and the journals."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._histories: dict[Path, History] = {}

    @property
    def _selection(self) -> SelectionSettings:
        return self._settings.selection

    @cached_property
    def _metadata(self) -> MetadataTable:
        return load_metadata(self._settings)

    @cached_property
    def _transcripts(self) -> Transcripts:
        return Transcripts(self._settings, self._metadata)

    @cached_property
    def _context(self) -> Context:
        return Context(self._settings)

    def history(self, store: Path) -> History:
        if store not in self._histories:
            self._histories[store] = History(store)
        return self._histories[store]

    def allows(self, item: MediaItem) -> bool:
        """Return whether the run may replace the caption of the item."""
        only, existing = self._selection.only, self._selection.existing
        if only == "failed":
            return existing == "overwrite" and self.history(item.store).failed(item.name)
        if only is not None:
            return self._is_flagged(item, only.removeprefix("flagged").removeprefix(":"))
        return existing == "overwrite" or (existing == "stale" and self._is_stale(item))

    def is_resumed(self, item: MediaItem) -> bool:
        """Return whether an unfinished run like this one has replaced the caption with the same settings already."""
        selection = self._selection
        if selection.existing != "overwrite" and selection.only in (None, "failed"):
            return False
        record = self._caption_record(item)
        return (
            record is not None
            and self.history(item.store).is_unfinished(record.run, selection.model_dump(mode="json"))
            and not self._is_stale(item)
        )

    def _is_stale(self, item: MediaItem) -> bool:
        """Whether the tool made its caption with other settings, metadata or transcripts, or from other media."""
        record = self._caption_record(item)
        try:
            media = fingerprint(item.path)
        except OSError:  # a media file that is missing or unreadable cannot be captioned again
            return False
        if record is None:
            return False
        is_same = (record.settings_hash, record.media) == (self._settings.settings_hash(record.kind), media)
        return (
            not is_same
            or record.metadata not in (None, self._metadata.digest(item))
            or record.transcript != self._transcripts.digest(item)
            or record.context not in (None, self._context_digest(item))
        )

    def _context_digest(self, item: MediaItem) -> str | None:
        try:
            return self._context.digest(self._context.sources.of(item))
        except ItemError:  # the run that captions it again reports the missing sources
            return None

    def _is_flagged(self, item: MediaItem, flag: str) -> bool:
        """Whether the tool made its caption and gave it this flag. "" stands for any flag."""
        record = self._caption_record(item)
        return record is not None and (flag in record.flags if flag else bool(record.flags))

    def _caption_record(self, item: MediaItem) -> CaptionRecord | None:
        try:
            caption = read(item.caption_path)
        except OSError:
            return None
        return self.history(item.store).caption_record(item.caption_file, sidecar.digest(caption))


class Plan:
    """Iterate it for items to caption (at most --limit), items to skip and items that fail."""

    def __init__(self, roots: list[Root], settings: Settings, overwrite: OverwritePolicy | None = None) -> None:
        """overwrite: the policy of an earlier plan of the same run, which does not see what the run has written."""
        self._selection = settings.selection
        self._target = settings.sampling.for_
        self.discovery = Discovery(roots, exclude_control(settings.selection, roots, settings.prompting.control))
        self.overwrite = overwrite or OverwritePolicy(settings)
        self._captioned_paths: frozenset[str] | None = None  # only with --captions-to parquet
        self._stores = {root.store for root in roots}
        self.num_in_other_shards = 0  # so far
        self.num_beyond_limit = 0  # the number of files so far that --limit leaves to another run

    @property
    def ignored(self) -> int:
        """The number of files so far that are neither images nor clips."""
        return self.discovery.ignored

    @property
    def why_empty(self) -> str:
        """The end of a message that there is no media file: what was there instead, and what to do.

        # (3 other files): check the folder, add --recursive for subfolders, or change --include and --exclude
        """
        found = self.discovery
        if self.num_in_other_shards:
            return f"in this shard ({counted(self.num_in_other_shards, 'file')} in others)"
        if found.num_unselected:
            return f"({counted(found.num_unselected, 'media file')} left out): change --include"
        remedy = describe_unsearched(found.unsearched)
        remedy = remedy or "check the folder, add --recursive for subfolders, or change --include and --exclude"
        return f"({counted(self.ignored, 'other file')}): {remedy}"

    def __iter__(self) -> Iterator[MediaItem | Skipped | Failed]:
        limit, pending = self._selection.limit, 0
        if self._selection.captions_to == "parquet":
            self._captioned_paths = frozenset[str]().union(*map(parquet.captioned_paths, self._stores))
        for found in self.discovery:
            if not self._is_in_shard(found):
                self.num_in_other_shards += 1
                continue
            if not isinstance(found.item, Folder) and is_auxiliary(found.item.name, self._target):
                yield Skipped(found.item, "named like a mask or control image of the trainer")
            elif isinstance(found, Failed):
                yield found
            elif (reason := self._reason_to_skip(found)) is not None:
                yield Skipped(found.item, reason)
            elif limit is None or pending < limit:
                pending += 1
                yield found.item
            else:
                self.num_beyond_limit += 1

    def _is_in_shard(self, found: DiscoveredItem | Failed) -> bool:
        """A folder that cannot be listed fails in every shard, because its files may belong to any."""
        shard, item = self._selection.shard, found.item
        return shard is None or isinstance(item, Folder) or in_shard(item.name, shard)

    def _reason_to_skip(self, found: DiscoveredItem) -> str | None:
        item, selection = found.item, self._selection
        captioned = (
            found.captioned if self._captioned_paths is None else parquet.row_path(item) in self._captioned_paths
        )
        if not captioned:
            if selection.only is None:
                return None
            failed = selection.only == "failed" and self.overwrite.history(item.store).failed(item.name)
            return None if failed else f"not selected by --only {selection.only}"
        if self.overwrite.is_resumed(item):
            return "captioned by the unfinished run that this one resumes"
        if self.overwrite.allows(item):
            return None
        if selection.only is not None:
            return f"not selected by --only {selection.only}"
        return CAPTIONED if selection.existing == "skip" else "captioned with these settings or by a person"


def in_shard(name: str, shard: str) -> bool:
    """Return whether the file belongs to the shard `I/N`.

    The hash of the name decides, so all machines agree whatever the mount point, the listing order and the other files.
    NFC makes names equal that macOS and Linux encode differently.

    Args:
        name: The path of the file relative to the given folder.
    """
    index, count = map(int, shard.split("/"))
    normalized = unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(normalized, digest_size=8).digest()) % count == index - 1
