"""Settings -> options of a command, which is given what was typed: flat, by name, as `Settings.of` takes it."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group as Panel
from cyclopts import Parameter

from ..config import group as config
from ..storage.places import local_place, place

Command = TypeVar("Command", bound=Callable[..., Any])

# A path would make `s3:/` of `s3://`.
StoragePath = Annotated[Path, Parameter(converter=lambda _, tokens: place(tokens[0].value))]
LocalPath = Annotated[Path, Parameter(converter=lambda _, tokens: local_place(tokens[0].value))]
_TYPES = {config.Place | None: StoragePath | None, config.Local | None: LocalPath | None}

_PANELS = (
    "Which files",
    "The prompt and the caption",
    "Clips",
    "Reading files",
    "The answer",
    "What is fit",
    "The model",
    "The server",
    "The run",
    "Past one machine",
)


def panel(title: str) -> Panel:
    return Panel(title, sort_key=_PANELS.index(title))


def stage(title: str) -> Parameter:
    """For a group of a command's own: its fields become options, under this title."""
    return Parameter(name="*", group=panel(title))


@dataclass(frozen=True, slots=True)
class Option:
    type: Any
    default: Any
    help: str | None


def repeatable(type: type, help: str) -> Option:
    return Option(tuple[type, ...], (), help)  # type: ignore[valid-type]


@dataclass(frozen=True, slots=True)
class Options:
    """Those of a settings group, all or `only` these, under `title` in --help.

    changed: those that this command takes or explains otherwise; None for one that it has not.
    """

    group: type[config.Group]
    title: str | None = None
    only: Iterable[str] | None = None
    changed: Mapping[str, Option | None] = field(default_factory=dict)

    def parameters(self) -> Iterable[inspect.Parameter]:
        fields = self.group.model_fields
        for name in self.only or fields:
            known = fields[name]
            option = self.changed.get(name, Option(known.annotation, known.default, known.description))
            if option is not None:
                said = (Parameter(help=option.help), *([Parameter(group=panel(self.title))] if self.title else []))
                annotation: Any = Annotated[(_TYPES.get(option.type, option.type), *said)]
                yield inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=annotation
                )


def with_options(*groups: Options, before: str | None = None) -> Callable[[Command], Command]:
    """The command takes these, too; its `**flags` are those that were given.

    before: the parameter that they come before in --help; without it they are last.
    """

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        at = next((i for i, p in enumerate(own) if p.name == before), len(own))
        own[at:at] = [parameter for options in groups for parameter in options.parameters()]
        command.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        return command

    return decorate
