"""The settings hash: equal hashes mean that a caption would be made the same way again. On disk: `recipe`."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..storage.filesystem import expand_home
from .group import SettingsGroup

# Fields that are always hashed. A newer field is hashed only if it differs from its default, so that an update of the
# package makes no caption stale.
_HASHED_AT_DEFAULT = frozenset(
    "order prefix suffix trigger punctuation system temperature seed background exact_pixels "
    "frames sampling fps span timestamps for_ train_frames".split()
)


def digest_of(hash_inputs: Mapping[str, Any]) -> str:
    """16 hex digits."""
    return hashlib.sha256(json.dumps(hash_inputs, sort_keys=True).encode()).hexdigest()[:16]


def hash_fields(group: SettingsGroup, names: set[str] | None = None) -> dict[str, Any]:
    """Return the values of a settings group that are hashed: of all its fields, or of `names`."""
    fields = type(group).model_fields
    return {
        name: value
        for name, value in group.model_dump(include=names).items()
        if name in _HASHED_AT_DEFAULT or value != fields[name].default
    }


def canonical_model_name(model: str) -> str:
    """One spelling for a folder, however it was given."""
    folder = expand_home(model)
    return str(folder.resolve()) if folder.is_dir() else model
