"""What a run has to do: discovered files against the captions that exist. Opens no media."""

import hashlib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from ..config.selection import SelectionSettings
from ..config.settings import Settings
from ..dataset import parquet, sidecar
from ..dataset.discover import DiscoveredItem, Discovery, Root
from ..dataset.journal import CaptionRecord, History, fingerprint
from ..storage.filesystem import read
from ..types import Failed, Folder, MediaItem, Skipped


class OverwritePolicy:
    """Which captions may give way to another: what --existing and --only say, by what the journals know of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._histories: dict[Path, History] = {}

    @property
    def _selection(self) -> SelectionSettings:
        return self._settings.selection

    def history(self, store: Path) -> History:
        if store not in self._histories:
            self._histories[store] = History(store)
        return self._histories[store]

    def allows(self, item: MediaItem) -> bool:
        """Of an item that has a caption now."""
        only, existing = self._selection.only, self._selection.existing
        if only is not None:
            return only != "failed" and self._is_flagged(item, only.removeprefix("flagged").removeprefix(":"))
        return existing == "overwrite" or (existing == "stale" and self._is_stale(item))

    def _is_stale(self, item: MediaItem) -> bool:
        """Whether its caption is ours, and made by other settings or from other media than there are now."""
        record = self._caption_record(item)
        try:
            media = fingerprint(item.path)
        except OSError:  # gone, or not to be read: there is nothing that could be redone
            return False
        return record is not None and (record.settings_hash, record.media) != (
            self._settings.settings_hash(record.kind),
            media,
        )

    def _is_flagged(self, item: MediaItem, flag: str) -> bool:
        """Whether its caption is ours and has this flag, any for ""."""
        record = self._caption_record(item)
        return record is not None and (flag in record.flags if flag else bool(record.flags))

    def _caption_record(self, item: MediaItem) -> CaptionRecord | None:
        try:
            caption = read(item.caption_path)
        except OSError:
            return None
        return self.history(item.store).caption_record(item.caption_file, sidecar.digest(caption))


class Plan:
    """Iterate it for items to caption, up to --limit; items to leave alone; items that cannot have a caption."""

    def __init__(self, roots: list[Root], settings: Settings) -> None:
        self._selection = settings.selection
        self._discovery = Discovery(roots, settings.selection)
        self._overwrite = OverwritePolicy(settings)
        self._captioned_paths: frozenset[str] | None = None  # paths, with --captions-to parquet
        self._stores = {root.store for root in roots}
        self.num_in_other_shards = 0  # files seen so far

    @property
    def ignored(self) -> int:
        """Files seen so far that are neither images nor clips."""
        return self._discovery.ignored

    def __iter__(self) -> Iterator[MediaItem | Skipped | Failed]:
        limit, pending = self._selection.limit, 0
        if self._selection.captions_to == "parquet":
            self._captioned_paths = frozenset[str]().union(*map(parquet.captioned_paths, self._stores))
        for found in self._discovery:
            if not self._is_ours(found):
                self.num_in_other_shards += 1
                continue
            if isinstance(found, Failed):
                yield found
            elif (reason := self._reason_to_skip(found)) is not None:
                yield Skipped(found.item, reason)
            elif limit is None or pending < limit:
                pending += 1
                yield found.item

    def _is_ours(self, found: DiscoveredItem | Failed) -> bool:
        """By --shard. A folder that cannot be listed is every shard's failure: whose files it hides is not known."""
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
            failed = selection.only == "failed" and self._overwrite.history(item.store).failed(item.name)
            return None if failed else f"is not what --only {selection.only} asks for"
        if self._overwrite.allows(item):
            return None
        if selection.only is not None:
            return f"is not what --only {selection.only} asks for"
        return "has a caption" if selection.existing == "skip" else "has a caption that is current, or a person's"


def in_shard(name: str, shard: str) -> bool:
    """Whether a file of this name (its path within the folder that was given) belongs to `I/N`.

    By a hash of the name, so that machines agree whatever the mount point, the order of listing, and what else there
    is; composed, as macOS and Linux may spell one accented letter differently.
    """
    index, count = map(int, shard.split("/"))
    composed = unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(composed, digest_size=8).digest()) % count == index - 1
