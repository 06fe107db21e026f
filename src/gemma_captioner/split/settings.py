"""Settings of `split`: clip lengths and scene detection."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ..config.group import Duration, SettingsGroup, parse_duration


class SplitSettings(SettingsGroup):
    """How `split` cuts long videos."""

    min: Duration = Field("2s", description="Drop clips that are shorter than this.")
    max: Duration = Field("5s", description="Cut scenes that are longer than this into equal parts.")
    detector: Literal["adaptive", "content", "none"] = Field(
        "adaptive",
        description="How scene cuts are found. content: by color and brightness. adaptive: the same, but "
        "tolerates camera motion. none: cut by length only.",
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not 0 < self.max_seconds >= self.min_seconds:
            raise ValueError(
                f"--min {self.min} --max {self.max} leaves no clips: give a --max above 0 and not below --min"
            )
        return self

    @property
    def min_seconds(self) -> float:
        return parse_duration(self.min)

    @property
    def max_seconds(self) -> float:
        return parse_duration(self.max)
