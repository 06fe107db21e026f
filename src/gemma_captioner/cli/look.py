"""`check --look`: its options, its progress and its cost."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..check.settings import TriggerSettings
from ..config.decoding import FrameSamplingSettings
from ..config.model import ModelSettings, ServerSettings
from ..config.precedence import option_name
from ..config.run import RunOptions
from ..errors import StartError, UsageError
from ..text import counted
from .options import Options, pop_options
from .shell import err

if TYPE_CHECKING:
    from ..check.scan import DatasetScan
    from ..check.trigger.report import TriggerReport

# How the model is run, as for `caption`.
LOOK_OPTIONS = (
    Options(FrameSamplingSettings, only=("frames",)),
    Options(ModelSettings),
    Options(ServerSettings),
    Options(RunOptions, only=("workers",)),
)


def pop_look_options(flags: dict[str, Any]) -> tuple[TriggerSettings, dict[str, Any]]:
    """Take the options of --trigger and --look out of the flags. Returns the settings, and those of the model.

    Raises `UsageError` for an option without --trigger or --look, which it belongs to.
    """
    names = [name for options in LOOK_OPTIONS for name in options.only or options.group.model_fields]
    layer = {name: flags.pop(name) for name in names if name in flags}
    is_look_only = [name for name in (*layer, "limit", "dry_run") if name in layer or name in flags]
    settings = pop_options(TriggerSettings, flags)
    if settings.look and settings.trigger is None:
        raise UsageError("--look requires --trigger: give the trigger word of the captions")
    if is_look_only and not settings.look:
        raise UsageError(f"{option_name(is_look_only[0])} requires --look: without it, check asks no model")
    return settings, layer


def run_look(
    trigger: "TriggerReport", scan: "DatasetScan", settings: TriggerSettings, layer: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, StartError | None]:
    """Ask the model about the phrases of the report. Returns the cost of a dry run, and why the model cannot start."""
    media = {path: scan.media_of[path] for path in trigger.with_trigger if path in scan.media_of}
    if not settings.look:
        return None, None
    is_english = trigger.settings.language == "english"
    if not trigger.phrases or not media:
        err.print("--look: no phrase to ask about" + "; phrases are found in English captions only" * (not is_english))
        return None, None
    from ..check.look import LookPlan
    from ..config.settings import Settings
    from ..engines import choose_model

    log = partial(err.print, soft_wrap=True)
    try:
        layer = {**layer, "model": choose_model(Settings.from_dict(layer), log).model.model}
        plan = LookPlan.of(layer, [phrase.phrase for phrase in trigger.phrases], media, settings.limit)
        if settings.dry_run:
            cost = plan.cost(log)
            asked = f"{counted(len(plan.phrases), 'phrase')} in {counted(cost['requests'], 'request')}"
            tokens = f"{counted(cost['frames'], 'frame')}, {counted(cost['prompt_tokens'], 'prompt token')}"
            log(f"--look would ask about {asked}: at most {tokens}. Model: {cost['model']}")
            return cost, None
        with err.status("asking the model") as status:
            trigger.look = plan.ask(log, lambda done: status.update(f"asked about {done} of {len(plan.media)} files"))
    except StartError as error:
        return None, error
    for warning in trigger.look.warnings:
        log(warning)
    return None, None
