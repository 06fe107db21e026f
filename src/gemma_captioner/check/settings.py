"""Settings of `check`."""

from pydantic import Field, field_validator

from ..config.group import ForTrainer, SettingsGroup
from ..config.quality import LimitSettings
from ..config.selection import CaptionFileSettings
from ..config.targets import target_for


class CheckSettings(CaptionFileSettings, LimitSettings):
    """Which captions `check` reads, and for which trainer and model."""

    extension: str = Field(
        "txt", pattern=r"^\.?\w+$", description="The file extension of the captions, for example `caption`."
    )
    for_: ForTrainer = None

    @field_validator("extension")
    @classmethod
    def _strip_dot(cls, value: str) -> str:
        return value.removeprefix(".")

    @property
    def trainer(self) -> str:
        """Name of the trainer, or ""."""
        return (self.for_ or "").partition(":")[0]

    @property
    def encoder_target(self) -> str | None:
        """The model whose text encoder reads the captions, None if unknown."""
        return self.target or (target_for(self.for_) if self.for_ else None)


class TriggerSettings(SettingsGroup):
    """The trigger word of a LoRA, and what the model is asked about the phrases that it shares captions with."""

    trigger: str | None = Field(
        None,
        pattern=r"\w",
        description="Also check what the captions share with this trigger word of a LoRA, and how they spell it.",
    )
    look: bool = Field(
        False, description="With --trigger: ask the model in how many pictures those phrases are visible."
    )
    limit: int = Field(
        24, ge=1, description="With --look: ask about this many files, spread evenly over those with the trigger word."
    )
    dry_run: bool = Field(False, description="With --look: show what it would ask, without loading a model.")
