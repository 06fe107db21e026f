"""What a caption is measured by, and what becomes of an answer that is not fit."""

from pydantic import Field, field_validator

from .group import SettingsGroup
from .languages import LANGUAGES
from .targets import TOKEN_LIMITS


class LimitSettings(SettingsGroup):
    """What a caption is measured by."""

    language: str = Field("english", description="The language that captions are to be in; others are flagged.")
    target: str | None = Field(
        None, description="The model to be trained: what its text encoder would cut off is flagged. --for sets it."
    )
    tokenizer: str | None = Field(
        None, description="Count a caption's tokens with this tokenizer, a Hugging Face id or folder, not by estimate."
    )

    @field_validator("language")
    @classmethod
    def _check_language(cls, value: str) -> str:
        if value.lower() not in LANGUAGES:
            raise ValueError(f"take one of {', '.join(LANGUAGES)}")
        return value.lower()

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str | None) -> str | None:
        if value is not None and value not in TOKEN_LIMITS:
            raise ValueError(f"take one of {', '.join(TOKEN_LIMITS)}")
        return value


class QualitySettings(LimitSettings):
    """When an answer is not fit, and what then."""

    retries: int = Field(
        2, ge=0, description="Ask again this often, by sampling, where an answer is empty, refuses, loops or echoes."
    )
