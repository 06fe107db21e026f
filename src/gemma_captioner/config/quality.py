"""Settings of the caption checks: format, language, length and retries."""

from pydantic import Field, field_validator

from ..errors import UsageError
from .formats import FORMATS
from .group import SettingsGroup
from .languages import LANGUAGES
from .targets import token_limit


class LimitSettings(SettingsGroup):
    """The format, the language and the text encoder that captions are checked against."""

    format: str | None = Field(
        None,
        min_length=1,
        description=f"The format of the captions: {', '.join(FORMATS)}, or a .json file with a JSON Schema. "
        "[default: prose]",
    )
    language: str = Field("english", description="Flag captions that are not in this language.")
    target: str | None = Field(
        None,
        description="Flag captions that are too long for the text encoder of this model, or of TRAINER:MODEL. --for "
        "sets it.",
    )
    tokenizer: str | None = Field(
        None, description="Count tokens with this tokenizer, a Hugging Face id or a folder. [default: an estimate]"
    )

    @field_validator("format")
    @classmethod
    def _check_format(cls, value: str | None) -> str | None:
        if value is not None and value not in FORMATS and not value.endswith(".json"):
            raise ValueError(f"give one of {', '.join(FORMATS)}, or a .json file with a JSON Schema")
        return value

    @field_validator("language")
    @classmethod
    def _check_language(cls, value: str) -> str:
        if value.lower() not in LANGUAGES:
            raise ValueError(f"give one of {', '.join(LANGUAGES)}")
        return value.lower()

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str | None) -> str | None:
        try:
            token_limit(value)
        except UsageError as error:
            raise ValueError(str(error).partition(": ")[2]) from error
        return value


class QualitySettings(LimitSettings):
    """The checks of a caption, and how often a rejected answer is requested again."""

    retries: int = Field(
        2,
        ge=0,
        description="If an answer is empty, a refusal, repetitive, the prompt itself or not in the --format, ask again "
        "up to this many times.",
    )
