"""Renders and tokenizes prompts with their images, labeled media before these, and few-shot examples.

A checkpoint with a chat template (`-it`) gets a chat; its examples are earlier turns. A base model (`-pt`) has no
template and continues raw text. If that text reads as an instruction or follows examples, `Caption:` marks where the
answer begins.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...config.prompting import Order
from ...config.settings import Settings
from ...types import Frames, Request
from .families import Family
from .processor import Processor

SENTENCE_ENDINGS = (".", "!", "?")


@dataclass(frozen=True, slots=True)
class TurnMedia:
    """The frames of one file, the label before them, and the sound after them."""

    label: str
    soft_tokens: Sequence[int] = ()  # of each frame
    times_s: Sequence[float] = ()  # of each frame
    audio_tokens: int = 0  # of its sound; 0: none


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt with its media, and with its answer if it is a few-shot example."""

    prompt: str
    media: Sequence[TurnMedia] = ()
    answer: str | None = None
    begin: str = ""  # the first words of the answer, in the last turn


def request_turns(
    request: Request, soft_tokens: Callable[[int, int], int], audio_tokens: Callable[[int], int]
) -> list[Turn]:
    """Build the turns of a request.

    Args:
        soft_tokens: Maps a frame's height and width to its number of soft tokens.
        audio_tokens: Maps a number of samples to its number of soft tokens.
    """

    def media(label: str, frames: Frames | None) -> TurnMedia:
        if frames is None:
            return TurnMedia(label)
        _, height, width, _ = frames.pixels.shape
        sound = 0 if frames.audio is None else audio_tokens(len(frames.audio.samples))
        return TurnMedia(label, [soft_tokens(height, width)] * len(frames.times_s), frames.times_s, sound)

    examples = [
        Turn(part.text, [media("", part.frames)], part.answer) for part in request.context if part.answer is not None
    ]
    labeled = [media(part.text, part.frames) for part in request.context if part.answer is None]
    return [*examples, Turn(request.prompt, [*labeled, media(request.label, request.frames)], begin=request.begin)]


def render_prompt(
    processor: Processor,
    turns: Sequence[tuple[str, Sequence[str], str | None]],
    *,
    marker: str,
    order: Order,
    system: str = "",
    **template_options: Any,
) -> str:
    """Render turns as the text that is tokenized.

    Args:
        turns: (prompt, media, answer) of each turn. `media` are labels, texts of frames, which contain `marker`, and
            markers of sounds. The last answer is None.
        marker: The text that the chat template writes for an image. If a prompt contains it, the frames go there and
            `order` has no effect.
    """
    if processor.chat_template is None:
        rendered = "\n\n".join(
            _raw_prompt(*turn, marker=marker, order=order, is_single_turn=len(turns) == 1) for turn in turns
        )
        return f"{system}\n{rendered}" if system else rendered
    messages: list[dict[str, Any]] = []
    if system:
        # A string, because Gemma 4's templates print a list of parts as a Python list.
        messages.append({"role": "system", "content": system})
    for prompt, media, answer in turns:
        messages.append({"role": "user", "content": _message_content(prompt, media, marker, order)})
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    first, *rest = processor.apply_chat_template(messages, **template_options).split(marker)
    frames = (part for _, media, _ in turns for part in media if marker in part)
    return first + "".join(part + text for part, text in zip(frames, rest, strict=True))


def _message_content(prompt: str, media: Sequence[str], marker: str, order: Order) -> list[dict[str, str]]:
    before, has_marker, after = prompt.partition(marker)
    if has_marker:
        parts = [before, *media, after]
    else:
        parts = [*media, prompt] if order == "media-first" else _before_media(prompt, media, marker)
    # A sound is a text, because not every template knows the type "audio"; those that do write the marker alone.
    return [{"type": "image"} if marker in part else {"type": "text", "text": part} for part in parts]


def _before_media(prompt: str, media: Sequence[str], marker: str) -> list[str]:
    """A template joins the texts of a turn without a space between: a label after the prompt begins a line."""
    if media and marker not in media[0]:
        return [f"{prompt}\n{media[0]}", *media[1:]]
    return [prompt, *media]


def _raw_prompt(
    prompt: str, parts: Sequence[str], answer: str | None, *, marker: str, order: Order, is_single_turn: bool
) -> str:
    # "Describe it.", 1 image -> "<start_of_image>Describe it.\nCaption:"   "A photo of" -> "<start_of_image>A photo of"
    before, has_marker, after = prompt.partition(marker)
    if has_marker:
        rendered = "".join([before, *parts, after])
    else:
        text = prompt.strip()
        rendered = "".join([*parts, text] if order == "media-first" else _before_media(text, parts, marker))
        if not is_single_turn or text.endswith(SENTENCE_ENDINGS):
            rendered += "\nCaption:"
    return rendered if answer is None else f"{rendered} {answer}"


def encode_prompt(family: Family, processor: Processor, turns: Sequence[Turn], settings: Settings) -> list[int]:
    """Return the prompt's token ids, soft tokens of the frames included. transformers' processor gives the same."""
    marker = family.marker(processor)
    lengths = [media.audio_tokens for turn in turns for media in turn.media if media.audio_tokens]
    audio_marker = processor.tokenizer.audio_token if lengths else ""

    def parts(media: TurnMedia) -> Iterator[str]:
        yield media.label
        yield family.join_markers(marker, media.times_s, settings.sampling.timestamps) if media.times_s else ""
        yield audio_marker * bool(media.audio_tokens)

    text = render_prompt(
        processor,
        [(turn.prompt, [p for media in turn.media for p in parts(media) if p], turn.answer) for turn in turns],
        marker=marker,
        order=settings.prompting.order,
        system=settings.prompting.system,
        **family.template_options,
    )
    first, *rest = text.split(marker)
    counts = [count for turn in turns for media in turn.media for count in media.soft_tokens]
    text = first + "".join(
        family.placeholder(processor, n) + rendered for n, rendered in zip(counts, rest, strict=True)
    )
    if audio_marker:
        first, *rest = text.split(audio_marker)
        text = first + "".join(
            audio_placeholder(processor, n) + rendered for n, rendered in zip(lengths, rest, strict=True)
        )
    if begin := turns[-1].begin:
        text += begin if processor.chat_template is not None or text[-1].isspace() else f" {begin}"
    special = not text.startswith(processor.tokenizer.bos_token)  # a chat template writes BOS itself
    return processor.tokenizer.encode(text, add_special_tokens=special)


def audio_placeholder(processor: Processor, soft_tokens: int) -> str:
    """Return the text that replaces the marker of a sound."""
    tokenizer = processor.tokenizer
    return str(tokenizer.boa_token + tokenizer.audio_token * soft_tokens + tokenizer.eoa_token)
