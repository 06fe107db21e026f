"""Engines: what turns a prompt with frames into a reply. A table from name to maker."""

from collections.abc import Callable

from ..settings import Settings
from .base import Engine, EngineSpec, Session

__all__ = ["Engine", "EngineSpec", "Session", "engine_for"]


def _local(settings: Settings) -> Engine:
    from .local import LocalEngine  # torch and transformers: seconds to import

    return LocalEngine(settings)


def _scripted(settings: Settings) -> Engine:
    from .scripted import ScriptedEngine

    return ScriptedEngine.from_file(settings.model.model)


ENGINES: dict[str, Callable[[Settings], Engine]] = {"local": _local, "scripted": _scripted}


def engine_for(settings: Settings) -> Engine:
    return ENGINES[settings.model.engine](settings)
