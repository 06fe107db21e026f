"""Settings of `check`."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from ..config.group import ForTrainer, FrameCounts, SettingsGroup, StoragePaths
from ..config.quality import LimitSettings
from ..config.selection import CaptionFileSettings
from ..config.targets import get_target, target_for


class CheckSettings(CaptionFileSettings, LimitSettings):
    """Which captions `check` reads, and for which trainer and model."""

    extension: str = Field(
        "txt", pattern=r"^\.?\w+$", description="The file extension of the captions, for example `caption`."
    )
    for_: ForTrainer = None
    media: bool = Field(
        False,
        description="Also measure the images and clips: duplicates, blur, black or blurred bars, cuts and clips "
        "without motion, and with --for the sizes, frame counts and frame rates that the trainer changes or drops. "
        "Decodes every file once.",
    )
    train_frames: FrameCounts | None = Field(
        None, description="With --media and --for: the number of frames that you train on, or a list: 33,81."
    )
    train_mode: str | None = Field(
        None, description="With --media and --for: how the trainer takes frames, if you changed its default."
    )
    resolution: int | None = Field(
        None, ge=16, description="With --media: report files with fewer pixels than a square of this side."
    )

    control: StoragePaths = Field(
        (), description="Check edit pairs: the source images of the files are in this folder. Repeatable."
    )
    examples: StoragePaths = Field(
        (), description="List which captions contain the names of the reference images in this folder. Repeatable."
    )

    @model_validator(mode="after")
    def _check_media_options(self) -> Self:
        if not self.media and (self.train_frames or self.train_mode or self.resolution):
            raise ValueError("--train-frames, --train-mode and --resolution require --media: add it")
        if self.for_ is None and (self.train_frames or self.train_mode):
            raise ValueError("--train-frames and --train-mode require --for: give the trainer, such as musubi:wan")
        return self

    @field_validator("extension")
    @classmethod
    def _strip_dot(cls, value: str) -> str:
        return value.removeprefix(".")

    @property
    def trainer(self) -> str:
        """Name of the trainer, or ""."""
        return (self.for_ or "").partition(":")[0]

    @property
    def model(self) -> str:
        """Name of the model that is trained, or ""."""
        return get_target(self.for_).model if self.for_ else ""

    @property
    def encoder_target(self) -> str | None:
        """The model whose text encoder reads the captions, None if unknown."""
        return self.target or (target_for(self.for_) if self.for_ else None)


class TriggerSettings(SettingsGroup):
    """The trigger word of a LoRA, and what the model is asked about the phrases in the same captions."""

    trigger: str | None = Field(
        None,
        pattern=r"\w",
        description="Also list the phrases that captions use together with this trigger word of a LoRA, and its "
        "spellings.",
    )
    look: bool = Field(
        False, description="With --trigger: ask the model in how many images and clips those phrases are visible."
    )
    limit: int = Field(
        24, ge=1, description="With --look: ask about this many files, spread evenly over those with the trigger word."
    )
    dry_run: bool = Field(False, description="With --look: show what it would ask, without loading a model.")
