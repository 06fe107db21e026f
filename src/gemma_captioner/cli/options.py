"""Settings groups -> options of a command. The command gets what the user typed, by field name.

Names, panels, placeholders and completions come from config/option_layout.py.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from cyclopts import Group as Panel
from cyclopts import Parameter, Token
from pydantic import TypeAdapter

from ..config import group as config
from ..config.option_layout import METAVARS, NO_NEGATIVE, SHORT, VALUES, panel_of
from ..config.precedence import option_name

Command = TypeVar("Command", bound=Callable[..., Any])


def pydantic_parameter(annotation: Any) -> Parameter:
    """Parse option values with pydantic, as in the config file. 3.5 is then an invalid number of frames."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        words = [token.value for token in tokens]
        return TypeAdapter(annotation).validate_python(words if get_origin(annotation) is tuple else words[0])

    return Parameter() if annotation is bool else Parameter(converter=convert, json_list=False)


LocalPathOption = Annotated[Path, pydantic_parameter(config.LocalPath)]


@dataclass(frozen=True, slots=True)
class Option:
    type: Any
    default: Any
    help: str | None


def repeatable(type: type, help: str) -> Option:
    return Option(tuple[type, ...], (), help)  # type: ignore[valid-type]  # a type made at run time


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a settings group: all of them, or `only` these.

    changed: options that this command reads or explains differently; None removes one.
    """

    group: type[config.SettingsGroup]
    only: Iterable[str] | None = None
    changed: Mapping[str, Option | None] = field(default_factory=dict)

    def parameters(self) -> Iterable[inspect.Parameter]:
        fields = self.group.model_fields
        for name in self.only or fields:
            known = fields[name]
            option = self.changed.get(name, Option(known.annotation, known.default, known.description))
            if option is not None:
                annotation: Any = Annotated[(option.type, pydantic_parameter(option.type), Parameter(help=option.help))]
                yield inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=annotation
                )


def with_options(*groups: Options) -> Callable[[Command], Command]:
    """Add these options to a command, and lay all of its options out as config/option_layout.py says.

    The command's `**flags` are the added options that the user gave, by field name.
    """

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        positional = [p for p in own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        options = [p for p in own if p.kind is inspect.Parameter.KEYWORD_ONLY]
        options += [parameter for group in groups for parameter in group.parameters()]
        options.sort(key=lambda p: panel_of(command.__name__, p.name)[1:])
        laid_out = [_laid_out(command.__name__, p) for p in options]
        command.__annotations__ |= {p.name: p.annotation for p in laid_out}  # which cyclopts reads before the signature
        command.__signature__ = inspect.Signature([*positional, *laid_out])  # type: ignore[attr-defined]  # cyclopts reads it
        return command

    return decorate


def _laid_out(command: str, option: inspect.Parameter) -> inspect.Parameter:
    title, place, _ = panel_of(command, option.name)
    values = VALUES.get(option.name)
    described = Parameter(
        name=[option_name(option.name), *([SHORT[option.name]] if option.name in SHORT else [])],
        group=Panel(title, sort_key=place),
        metavar=METAVARS.get(option.name),
        show_choices=values is None,
        negative=() if option.name in NO_NEGATIVE else None,
        completer=None if values is None else lambda _: list(values()),
    )
    own = get_args(option.annotation) if get_origin(option.annotation) is Annotated else (option.annotation,)
    annotation: Any = Annotated[(own[0], described, *own[1:])]  # what the command itself says of an option comes last
    return option.replace(annotation=annotation)


Of = TypeVar("Of", bound=config.SettingsGroup)


def pop_options(group: type[Of], flags: dict[str, Any]) -> Of:
    """Take the options of this group out of the flags."""
    return group.from_dict({name: flags.pop(name) for name in group.model_fields if name in flags})
