"""Captions fit to train on, by Gemma 3, beside every image and clip of a folder.

from gemma_captioner import Captioned, caption

for outcome in caption("images/", model="demo"):
    if isinstance(outcome, Captioned):
        print(outcome.item.path, outcome.caption)
"""

from . import telemetry  # noqa: F401  # first of all
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
