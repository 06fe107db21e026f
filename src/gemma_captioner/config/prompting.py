"""Settings of the prompt, of the text around the caption, and of generation."""

import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..storage.filesystem import expand_home
from .group import SettingsGroup, StoragePaths, StringTuple, journal_name

Order = Literal["media-first", "text-first"]

IMAGE_PROMPT = "Provide a short, single-line description of this image for training data."
CLIP_PROMPT = (
    "Provide a detailed, thorough caption of movement you see in the video. Only describe movement as this will "
    "be very important during the training process."
)
WHISPER_MODEL = "large-v3-turbo"
FORMAT_PROMPTS = {  # for --format without a prompt; the format adds its instructions
    "image": "Describe this image for training data, with everything that is visible.",
    "clip": "Describe this clip for training data: what is visible and what happens, in order.",
}


EDIT_PROMPT = (
    "You see one or more source images, then the result of an edit. Write the instruction that turns the first into "
    "the last, in one to three sentences: what changes, with its place and its new look, and then what stays the same. "
    "Put text in double quotes. No introduction, no commentary."
)


def continues(prompt: str) -> bool:
    """Whether a prompt contains `{previous}`, and so continues the prompt before."""
    try:
        return "previous" in variable_names(prompt)
    except ValueError:  # `validate_templates` reports the brace
        return False


def variable_names(template: str) -> Iterator[str]:
    """Yield the variables of a template, those in conditions included. Raises `ValueError` for an unmatched brace."""
    for _, name, spec, _ in string.Formatter().parse(template):
        if name is not None:
            yield name
            yield from variable_names(spec or "")


def chains(prompts: Sequence[str]) -> list[list[str]]:
    """# ["Describe it.", "Shorten this: {previous}", "List its colors."] -> the first two, and the last"""
    found: list[list[str]] = []
    for prompt in prompts:
        if found and continues(prompt):
            found[-1].append(prompt)
        else:
            found.append([prompt])
    return found


class PromptSettings(SettingsGroup):
    """The prompt, and the text that is added to each caption."""

    prompt: StringTuple = Field(
        (),
        description="The prompt. Repeat it for several captions per file; one with {previous} continues with the "
        "answer to the prompt before. [default: a prompt for images and a prompt for clips]",
    )
    prompt_file: Path | None = Field(None, description="Read the prompt from this text file.")
    system: str = Field("", description="The system prompt. [default: none]")
    examples: StoragePaths = Field(
        (),
        description="Show the model example captions: a folder of media with `.txt` files, or a text file with "
        "one caption per line. Or show it whom or what to name: a folder of images without `.txt` files, named as in "
        "`Mara.png`. Repeatable.",
    )
    control: StoragePaths = Field(
        (),
        description="Caption edits: show the model the source images of each file before it. They are in this "
        "folder, with the name of the file, or several as `name_0`, `name_1`. Repeatable.",
    )
    preset: str | None = Field(
        None, description="Use the prompt and settings of a preset; `gemma-captioner presets` lists them."
    )
    metadata: Path | None = Field(
        None,
        description="Read columns about the files from this CSV or JSONL file; prompts can use them as {column}.",
        **journal_name("metadata", "facts"),
    )
    transcripts: str | None = Field(
        None,
        min_length=1,
        description="Read what is said in each clip: a folder with `.srt`, `.vtt` or whisper `.json` files named like "
        "the clips, or one such file. auto: transcribe the clips with Whisper. Prompts can use it as {transcript}.",
    )
    order: Order = Field("media-first", description="Whether the frames come before or after the text of the prompt.")
    prefix: str = Field("", description="Put this text before every caption.")
    suffix: str = Field("", description="Put this text after every caption.")
    trigger: str = Field(
        "",
        description="Put this trigger word before every caption that does not contain it, unless the prefix has it.",
    )
    punctuation: Literal["ascii", "any"] = Field(
        "ascii", description="ascii: replace typographic quotes, dashes and ellipses with ASCII. any: keep them."
    )
    begin: str = Field(
        "", description="Start every answer with these words. The model continues them, and the caption keeps them."
    )

    @property
    def transcript_path(self) -> Path | None:
        """The folder or file of --transcripts; None if there is none."""
        given = self.transcripts
        return None if given is None or self.whisper_model else expand_home(given)

    @property
    def whisper_model(self) -> str | None:
        """The model of `--transcripts auto[:MODEL]`; None if transcripts are files."""
        kind, _, model = (self.transcripts or "").partition(":")
        return model or WHISPER_MODEL if kind == "auto" else None


class GenerationSettings(SettingsGroup):
    """How the model generates an answer."""

    max_new_tokens: int = Field(
        256,
        ge=1,
        description="Limit each answer of the model to this many tokens. The default for JSON and MiniMax H3 is 2048.",
    )
    temperature: float = Field(
        0.0, ge=0, le=5, description="0: always choose the most likely token. Above 0: sample, with more variety."
    )
    seed: int = Field(
        0, ge=0, description="The random seed for a temperature above 0. The same seed gives the same captions."
    )


class KindSettings(SettingsGroup):
    """The settings that an `[image]` or `[clip]` table of the config file may override."""

    prompt: StringTuple = ()
    max_new_tokens: int | None = Field(None, ge=1)
