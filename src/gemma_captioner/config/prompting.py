"""What the model is asked, and how its answer is drawn."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from .group import SettingsGroup, StringTuple

Order = Literal["media-first", "text-first"]

IMAGE_PROMPT = "Provide a short, single-line description of this image for training data."
CLIP_PROMPT = (
    "Provide a detailed, thorough caption of movement you see in the video. Only describe movement as this will "
    "be very important during the training process."
)


class PromptSettings(SettingsGroup):
    """What the model is asked, and what is put around its answer."""

    prompt: StringTuple = Field(
        (),
        description="The prompt, for images and clips alike; given again, another caption of each file. [default: one "
        "for each kind]",
    )
    prompt_file: Path | None = Field(None, description="Read the prompt from this file.")
    system: str = Field("", description="A system prompt; a base model reads it before the prompt.")
    examples: Path | None = Field(
        None,
        description="Examples to follow: a folder of media with their `.txt`, or a text file with a caption a line.",
    )
    preset: str | None = Field(
        None, description="Prompt, length and target for a model or a kind of LoRA: see `gemma-captioner presets`."
    )
    facts: Path | None = Field(
        None, description="A CSV or JSONL about the files: its columns are {variables} of the prompt, as is {stem}."
    )
    order: Order = Field("media-first", description="Whether the frames come before the prompt's text or after it.")
    prefix: str = Field("", description="Put before every caption.")
    suffix: str = Field("", description="Put after every caption.")
    trigger: str = Field("", description="A trigger word: put before every answer that does not hold it as a word.")
    punctuation: Literal["ascii", "any"] = Field(
        "ascii", description="ascii: plain quotes, dashes and dots, which every trainer reads alike. any: as answered."
    )
    begin: str = Field(
        "", description="The words that every answer begins with: the model goes on from them, and captions keep them."
    )


class GenerationSettings(SettingsGroup):
    """How an answer is drawn from the model."""

    max_new_tokens: int = Field(256, ge=1, description="The longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0, le=5, description="0 takes the likeliest word each time; above 0 samples.")
    seed: int = Field(0, ge=0, description="With a temperature: the same seed gives the same captions.")


class KindSettings(SettingsGroup):
    """What an `[image]` or `[clip]` table of the config file may set apart."""

    prompt: StringTuple = ()
    max_new_tokens: int | None = Field(None, ge=1)
