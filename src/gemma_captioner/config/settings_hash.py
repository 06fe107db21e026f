"""The settings hash: equal hashes mean that a caption would be made the same way again. On disk: `recipe`."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .group import SettingsGroup

# In every hash since the first. A newer setting is in it only where it is not at its default, so that
# no update makes captions stale.
_HASHED_AT_DEFAULT = frozenset(
    "order prefix suffix trigger punctuation system temperature seed background exact_pixels "
    "frames sampling fps span timestamps for_ train_frames".split()
)


def digest(hash_inputs: Mapping[str, Any]) -> str:
    """16 hex digits."""
    return hashlib.sha256(json.dumps(hash_inputs, sort_keys=True).encode()).hexdigest()[:16]


def hash_fields(group: SettingsGroup, names: set[str] | None = None) -> dict[str, Any]:
    """What the hash takes of a group: of all its settings, or of these."""
    fields = type(group).model_fields
    return {
        name: value
        for name, value in group.model_dump(include=names).items()
        if name in _HASHED_AT_DEFAULT or value != fields[name].default
    }


def canonical_model_name(model: str) -> str:
    """One spelling for a folder, however it was given."""
    return str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else model
