"""Captions images and clips with Gemma 3 or Gemma 4, and writes a training-ready `.txt` beside each file.

from gemma_captioner import Captioned, caption

for outcome in caption("images/", model="demo"):
    if isinstance(outcome, Captioned):
        print(outcome.item.path, outcome.caption)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import telemetry  # noqa: F401  # before any third-party library

if TYPE_CHECKING:
    from .api import caption
    from .config.settings import Settings
    from .engines import Engine, EngineSpec, Session
    from .errors import (
        CaptionerError,
        ItemError,
        MemoryShortageError,
        ModelError,
        ServerError,
        StartError,
        StorageError,
        UsageError,
    )
    from .executors.local import Run
    from .types import Captioned, Failed, Folder, Frames, MediaItem, Outcome, Reply, Request, Skipped

__all__ = [
    "Captioned",
    "CaptionerError",
    "Engine",
    "EngineSpec",
    "Failed",
    "Folder",
    "Frames",
    "ItemError",
    "MediaItem",
    "MemoryShortageError",
    "ModelError",
    "Outcome",
    "Reply",
    "Request",
    "Run",
    "ServerError",
    "Session",
    "Settings",
    "Skipped",
    "StartError",
    "StorageError",
    "UsageError",
    "caption",
]

# Module -> names. They are imported on first use, because a decode worker needs none of them.
_NAMES = {
    "api": ("caption",),
    "config.settings": ("Settings",),
    "engines": ("Engine", "EngineSpec", "Session"),
    "executors.local": ("Run",),
    "types": ("Captioned", "Failed", "Folder", "Frames", "MediaItem", "Outcome", "Reply", "Request", "Skipped"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}  # all other names are in errors


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)


def __dir__() -> list[str]:
    return __all__
