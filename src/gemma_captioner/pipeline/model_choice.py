"""Resolves `--model auto`: the model of the unfinished run that it resumes, else the first that fits in memory."""

from collections.abc import Callable, Iterable
from pathlib import Path

from ..config.model import AUTO
from ..config.settings import Settings
from ..dataset.journal import unfinished_run
from ..engines import choose_model

_NOT_FOR_DATASETS = "demo"  # a trial of it must not decide the model of the real run


def resolve_auto_model(
    settings: Settings, stores: Iterable[Path], log: Callable[[str], None] = lambda line: None
) -> Settings:
    """Return the settings with a named model in place of `auto`, and report it. An explicit --model is kept.

    A run that resumes an unfinished one takes its model, whether it fits or not: one dataset, one model.
    """
    if settings.has_explicit_model:
        return settings
    for store in stores:
        match unfinished_run(store):
            case {"run": run, "settings": {"model": {"model": str(name), "engine": "local"}}}:
                if settings.model.engine == "local" and name not in (AUTO, _NOT_FOR_DATASETS):
                    log(f"resuming the unfinished run {run} with its model, {name}. For another, give --model")
                    return settings.with_model(name)
    return choose_model(settings, log)
