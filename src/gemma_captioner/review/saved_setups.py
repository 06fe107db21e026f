"""The setups that are saved with a dataset: `.gemma-captioner/setups/NAME.toml`, config files of `caption`."""

import re
import tomllib
from pathlib import Path
from typing import Any

from ..dataset.containment import resolve_inside
from ..dataset.sidecar import DOT_FOLDER, map_storage_errors
from ..errors import ItemError, StorageError, UsageError
from ..storage.atomic import atomic_write
from ..text import file_error

_NAME = re.compile(r"[\w][\w .-]{0,59}")
_SUFFIX = ".toml"


class SavedSetups:
    """The setups of one store. All methods raise `UsageError` with the reason and a remedy."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._folder = store / DOT_FOLDER / "setups"

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob(f"*{_SUFFIX}") if _NAME.fullmatch(path.stem))

    def path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError("the name of a setup has up to 60 letters, digits, spaces, dots, - or _: choose another")
        path = self._folder / f"{name}{_SUFFIX}"
        try:
            resolve_inside(path, self._store, (_SUFFIX,))
        except ItemError as error:
            raise UsageError(f"{path}: {error}") from error
        return path

    def save(self, name: str, text: str) -> Path:
        """Write or replace a setup and return its path."""
        path = self.path(name)
        try:
            with map_storage_errors(path), atomic_write(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
        except (StorageError, ItemError) as error:
            raise UsageError(f"the setup was not saved: {error}") from error
        return path

    def read(self, name: str) -> dict[str, Any]:
        """Return its settings by field name."""
        path = self.path(name)
        try:
            return tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {file_error(error)}") from error
