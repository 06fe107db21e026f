"""What a run has to do: discovered files against the captions that exist. Opens no media."""

from collections.abc import Iterator
from pathlib import Path

from .media.discover import Discovery, Found, Root
from .records import Failed, MediaItem, Skipped
from .settings import Settings
from .store import sidecar
from .store.journal import History, fingerprint


class Plan:
    """Iterate it for items to caption, up to --limit; items to leave alone; items that cannot have a caption."""

    def __init__(self, roots: list[Root], settings: Settings) -> None:
        self._settings = settings
        self._discovery = Discovery(roots, settings.selection)
        self._histories: dict[Path, History] = {}

    @property
    def ignored(self) -> int:
        """Files seen so far that are neither images nor clips."""
        return self._discovery.ignored

    def __iter__(self) -> Iterator[MediaItem | Skipped | Failed]:
        limit = self._settings.selection.limit
        pending = 0
        for found in self._discovery:
            if isinstance(found, Failed):
                yield found
            elif (reason := self._reason_to_skip(found)) is not None:
                yield Skipped(found.item, reason)
            elif limit is None or pending < limit:
                pending += 1
                yield found.item

    def _reason_to_skip(self, found: Found) -> str | None:
        existing = self._settings.selection.existing
        if not found.captioned or existing == "overwrite":
            return None
        if existing == "skip":
            return "has a caption"
        return None if self.is_stale(found.item) else "has a caption that is current, or a person's"

    def is_stale(self, item: MediaItem) -> bool:
        """Whether its caption is ours, and made by other settings or from other media than there are now."""
        if item.store not in self._histories:
            self._histories[item.store] = History(item.store)
        try:
            caption, media = item.caption_path.read_bytes(), fingerprint(item.path)
        except OSError:  # gone, or not to be read: there is nothing that could be redone
            return False
        made = self._histories[item.store].made(item.caption_file, sidecar.digest(caption))
        return made is not None and (made.recipe, made.media) != (self._settings.recipe(made.kind), media)
