"""What `split` is told: how long clips are to be, and how cuts are found."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ..config.group import DURATION, SettingsGroup, parse_duration


class SplitSettings(SettingsGroup):
    """How `split` cuts long videos."""

    min: str = Field("2s", pattern=DURATION, description="Leave out what would be shorter.")
    max: str = Field("5s", pattern=DURATION, description="Cut evenly what would be longer.")
    detector: Literal["adaptive", "content", "none"] = Field(
        "adaptive", description="How scene cuts are found. adaptive bears camera motion; none: by length alone."
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not 0 < self.max_seconds >= self.min_seconds:
            raise ValueError(f"--min {self.min} and --max {self.max} leave nothing: make --max the longer one")
        return self

    @property
    def min_seconds(self) -> float:
        return parse_duration(self.min)

    @property
    def max_seconds(self) -> float:
        return parse_duration(self.max)
