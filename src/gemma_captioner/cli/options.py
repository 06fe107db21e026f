"""Settings -> options of a command, which is given what was typed: flat, by name, as `Settings.from_dict` takes it."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin

from cyclopts import Group as Panel
from cyclopts import Parameter, Token
from pydantic import TypeAdapter

from ..config import group as config

Command = TypeVar("Command", bound=Callable[..., Any])


def _read_as(annotation: Any) -> Parameter:
    """What is typed is read as the config file is: by pydantic, so that 3.5 is no number of frames."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        words = [token.value for token in tokens]
        return TypeAdapter(annotation).validate_python(words if get_origin(annotation) is tuple else words[0])

    return Parameter() if annotation is bool else Parameter(converter=convert, json_list=False)


LocalPathOption = Annotated[Path, _read_as(config.LocalPath)]

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


def group_options(title: str) -> Parameter:
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

    group: type[config.SettingsGroup]
    title: str | None = None
    only: Iterable[str] | None = None
    changed: Mapping[str, Option | None] = field(default_factory=dict)

    def parameters(self) -> Iterable[inspect.Parameter]:
        fields = self.group.model_fields
        for name in self.only or fields:
            known = fields[name]
            option = self.changed.get(name, Option(known.annotation, known.default, known.description))
            if option is not None:
                said = [_read_as(option.type), Parameter(help=option.help)]
                if self.title:
                    said.append(Parameter(group=panel(self.title)))
                annotation: Any = Annotated[(option.type, *said)]
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
