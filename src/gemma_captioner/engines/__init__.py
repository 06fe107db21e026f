"""Engines turn a prompt with frames into a reply. `ENGINES` maps each name to its factory."""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from ..config.model import DEFAULT_MODEL
from ..config.settings import Settings
from ..errors import ModelError, UsageError
from ..prompts.context import ContextEntry
from .base import Engine, EngineSpec, Session

__all__ = ["Engine", "EngineSpec", "Session", "choose_model", "engine_for", "session_key"]

ReportCallback = Callable[[str], None]  # receives one line for the user


def _local(settings: Settings, log: ReportCallback, context: Sequence[ContextEntry]) -> Engine:
    # By default, idle OpenMP threads spin and take CPU time from decoding. OpenMP reads this variable when torch is
    # imported. Measured on 2 cores with 260 files: 60 s without it, 43 s with it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .local.engine import LocalEngine

    engine = LocalEngine(settings, context, log)
    if (warning := engine.warning) is not None:
        log(warning)
    return engine


def _server(settings: Settings, log: ReportCallback, context: Sequence[ContextEntry]) -> Engine:
    if find_spec("openai") is None:
        raise ModelError("--engine server requires the openai package: pip install 'gemma-captioner[server]'")
    from .openai import ServerEngine

    return ServerEngine(settings, log, context)


def _scripted(settings: Settings, log: ReportCallback, context: Sequence[ContextEntry]) -> Engine:
    from .scripted import ScriptedEngine

    if not settings.has_explicit_model:
        raise UsageError("--engine scripted requires a script: give its path as --model")
    return ScriptedEngine.from_file(settings.model.model)


ENGINES: dict[str, Callable[[Settings, ReportCallback, Sequence[ContextEntry]], Engine]] = {
    "local": _local,
    "server": _server,
    "vllm": _server,
    "scripted": _scripted,
}


def engine_for(
    settings: Settings, log: ReportCallback = lambda line: None, context: Sequence[ContextEntry] = ()
) -> Engine:
    """Create the engine that the settings name. No weights are loaded yet.

    Args:
        settings: The run's settings.
        log: Receives lines for the user, called by the thread that polls the session.
        context: What precedes the items in requests. The engine includes its tokens in its memory plan.
    """
    return ENGINES[settings.model.engine](choose_model(settings, log), log, context)


def session_key(settings: Settings) -> tuple[object, ...]:
    """What a session reads when it opens, rather than from each request. Settings with equal keys can share a session.

    The sizes for which it plans memory are left out: a session planned for larger prompts, answers and numbers of
    frames serves smaller ones.
    """
    prompting, sampling = settings.prompting, settings.sampling
    return (
        settings.model, settings.server,
        prompting.order, prompting.system, prompting.begin, prompting.examples, prompting.control,
        sampling.timestamps, sampling.audio, sampling.for_, sampling.span,  # the last three: whether sound is sent
    )  # fmt: skip


def choose_model(settings: Settings, log: ReportCallback = lambda line: None) -> Settings:
    """Return the settings with a named model in place of `auto`, and report the choice.

    A server that runs already may need no name, and a script has no default.
    """
    engine = settings.model.engine
    if settings.has_explicit_model or engine == "scripted":
        return settings
    if engine == "server" and "{model}" not in (settings.server.serve or ""):
        return settings
    if engine != "local" or settings.cluster.cluster is not None:  # the memory that counts is that of other processes
        return settings.with_model(DEFAULT_MODEL)
    from .local.auto import choose_auto_model

    name, choice = choose_auto_model(settings)
    log(choice)
    return settings.with_model(name)
