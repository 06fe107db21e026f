"""Engines: what turns a prompt with frames into a reply. A table from name to maker."""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from ..config.settings import Settings
from ..errors import ModelError
from ..prompts.examples import FewShotExample
from .base import Engine, EngineSpec, Session

__all__ = ["Engine", "EngineSpec", "Session", "engine_for"]

ReportCallback = Callable[[str], None]  # a line for a person


def _local(settings: Settings, log: ReportCallback, examples: Sequence[FewShotExample]) -> Engine:
    # OpenMP's threads wait in a loop for their next work unless told before torch is imported: on a CPU they would take
    # the cores from decoding (measured: 60 s down to 43 s for 260 files on 2 cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .local.engine import LocalEngine  # torch and transformers: seconds to import

    return LocalEngine(settings, examples)


def _server(settings: Settings, log: ReportCallback, examples: Sequence[FewShotExample]) -> Engine:
    if find_spec("openai") is None:
        raise ModelError("a server as engine wants the openai client: pip install 'gemma-captioner[server]'")
    from .openai import ServerEngine

    return ServerEngine(settings, log)


def _scripted(settings: Settings, log: ReportCallback, examples: Sequence[FewShotExample]) -> Engine:
    from .scripted import ScriptedEngine

    return ScriptedEngine.from_file(settings.model.model)


ENGINES: dict[str, Callable[[Settings, ReportCallback, Sequence[FewShotExample]], Engine]] = {
    "local": _local,
    "server": _server,
    "vllm": _server,
    "scripted": _scripted,
}


def engine_for(
    settings: Settings, log: ReportCallback = lambda line: None, examples: Sequence[FewShotExample] = ()
) -> Engine:
    """log: given lines for a person while it works, from the thread that polls its session.

    examples: those that every request will carry; the engine counts their tokens when it plans memory.
    """
    return ENGINES[settings.model.engine](settings, log, examples)
