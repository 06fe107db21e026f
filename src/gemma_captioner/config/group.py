"""The base of all settings groups, and field types that several groups share."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from ..errors import UsageError
from ..storage.filesystem import parse_local_path, parse_path
from .precedence import format_validation_error
from .targets import parse_frame_counts

_DURATION = r"^(\d+(\.\d+)?[smhd])+$"  # 90s, 2h, 1h30m


def parse_duration(duration: str) -> float:
    """`1h30m` -> 5400.0"""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(float(n) * unit[u] for n, _, u in re.findall(r"(\d+(\.\d+)?)([smhd])", duration))


def _with_unit(value: Any) -> Any:
    """# "2" -> "2s"      1.5 -> "1.5s"      "2m" -> "2m" """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value}s" if is_number or (isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value)) else value


def _as_paths(value: Any) -> Any:
    return () if value is None else (value,) if isinstance(value, str | Path) else value


def _dump_paths(paths: tuple[Path, ...]) -> Any:
    """One path as earlier versions, which had no several, wrote it."""
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths] or None


def _as_tuple(value: Any) -> Any:
    return () if value is None else (value,) if isinstance(value, str) else value


Duration = Annotated[str, BeforeValidator(_with_unit), Field(pattern=_DURATION)]  # a bare number is in seconds
StringTuple = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)
]  # a single text counts as a tuple of one

FrameCounts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(parse_frame_counts)]
StoragePath = Annotated[
    Path, PlainValidator(parse_path), PlainSerializer(str, when_used="json")
]  # here or in an object store
StoragePaths = Annotated[
    tuple[Annotated[Path, PlainValidator(parse_path)], ...],
    BeforeValidator(_as_paths),
    PlainSerializer(_dump_paths, when_used="json"),
]
LocalPath = Annotated[Path, BeforeValidator(parse_local_path)]  # on this machine
ForTrainer = Annotated[
    str | None,
    Field(
        description="Caption the part of a clip that this trainer reads, and check for the length that its model "
        "reads, for example musubi:wan. `gemma-captioner targets` lists them."
    ),
]


def journal_name(field: str, name: str) -> dict[str, Any]:
    """Arguments of `Field` for a field with another name in the journal, where the names of all versions are the same.

    `model_dump(by_alias=True)` writes that name; both names can be read.
    """
    return {"validation_alias": AliasChoices(field, name), "serialization_alias": name}


def _holds_numbers(annotation: Any) -> bool:
    """# int | None, tuple[int, ...] -> True      bool -> False"""
    return annotation in (int, float) or any(map(_holds_numbers, get_args(annotation)))


class SettingsGroup(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic reads `frames = true` of a config file as 1."""
        has_bool = any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value]))
        if has_bool and _holds_numbers(cls.model_fields[str(info.field_name)].annotation):
            raise PydanticCustomError("bool_for_number", "no number")
        return value

    @classmethod
    def from_dict(cls, flat: Mapping[str, Any], /) -> Self:
        """Validate values by field name. Raises `UsageError` with a message for each wrong value."""
        try:
            return cls.model_validate(flat)
        except ValidationError as error:
            raise UsageError(format_validation_error(error)) from error
