"""Settings of `split`: clip lengths and scene detection."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ..config.group import Duration, FrameCounts, SettingsGroup, parse_duration
from ..config.targets import clips_for


class SplitSettings(SettingsGroup):
    """How `split` cuts long videos."""

    min: Duration = Field("2s", description="Drop clips that are shorter than this.")
    max: Duration = Field("5s", description="Cut scenes that are longer than this into equal parts.")
    detector: Literal["adaptive", "content", "none"] = Field(
        "adaptive",
        description="How scene cuts are found. content: by color and brightness. adaptive: the same, but "
        "tolerates camera motion. none: cut by length only.",
    )

    for_: str | None = Field(
        None,
        description="Cut clips of exactly the length and frame rate that this trainer keeps, for example musubi:wan. "
        "Requires --train-frames; replaces --min and --max.",
    )
    train_frames: FrameCounts | None = Field(
        None,
        description="With --for: the number of frames of each clip. Of a list such as 33,81, the largest that fits "
        "is used.",
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if (self.for_ is None) != (self.train_frames is None):
            raise ValueError("--for and --train-frames go together: give both, or --min and --max")
        if self.for_ is not None and self.model_fields_set & {"min", "max"}:
            raise ValueError("--for sets the length of the clips: leave out --min and --max")
        if not 0 < self.max_seconds >= self.min_seconds:
            raise ValueError(
                f"--min {self.min} --max {self.max} allows no clip: give a --max above 0 that is at least --min"
            )
        return self

    @property
    def training_clips(self) -> tuple[list[int], float] | None:
        """With --for: the numbers of frames, longest first, and the frame rate; 0 for the video's own."""
        return clips_for(self.for_, self.train_frames) if self.for_ and self.train_frames else None

    @property
    def why_no_clip(self) -> str:
        """Why a video gave no clip."""
        if self.training_clips is None:
            return f"no scene is as long as --min {self.min}"
        counts, rate = self.training_clips
        return f"no scene has {min(counts)} frames{f' at {rate:g} per second' if rate else ''} (--train-frames)"

    @property
    def min_seconds(self) -> float:
        return parse_duration(self.min)

    @property
    def max_seconds(self) -> float:
        return parse_duration(self.max)
