"""The source images of edited files (--control), for display beside their targets."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import CaptionerError, ItemError
from ..prompts.sources import Sources
from ..storage.filesystem import is_local
from ..types import MediaItem

_MIN_RELOAD_S = 5.0  # listing a large folder is slow


class EditSources:
    """Finds sources on demand. The folders are listed again if a target has none yet, or if one is gone."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = tuple(folders)
        self._sources: Sources | None = None
        self._listed_at = 0.0
        self._lock = threading.Lock()

    def of(self, target: MediaItem) -> list[tuple[Path, MediaItem]]:
        """Return (control folder, source) for each source of a target, in the order that the model sees.

        Raises `ItemError` if it has none, or if the folders cannot be read.
        """
        if not self.folders:
            return []
        with self._lock:
            is_new = self._sources is None
            try:
                found = self._of(target)
                if all(source.path.exists() for _, source in found):
                    return found
            except CaptionerError as error:
                if is_new or time.monotonic() - self._listed_at < _MIN_RELOAD_S:
                    raise ItemError(str(error)) from error
            self._sources = None
            try:
                return self._of(target)
            except CaptionerError as error:
                raise ItemError(str(error)) from error

    def _of(self, target: MediaItem) -> list[tuple[Path, MediaItem]]:
        if self._sources is None:
            if not all(map(is_local, self.folders)):
                raise ItemError("its sources are in an object store: copy them to this machine to see them here")
            self._listed_at = time.monotonic()
            self._sources = Sources(self.folders)
        found = self._sources.of(target)
        return [(next(f for f in self._sources.folders if s.path.is_relative_to(f)), s) for s in found]
