"""Renders and tokenizes prompts with their images and few-shot examples.

A checkpoint with a chat template (`-it`) gets a chat; its examples are earlier turns. A base model (`-pt`) has no
template and continues raw text. If that text reads as an instruction or follows examples, `Caption:` marks where the
answer begins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...config.prompting import Order
from ...config.settings import Settings
from ...types import Frames, Request
from .families import Family
from .processor import Processor

SENTENCE_ENDINGS = (".", "!", "?")


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt, with its answer if it is a few-shot example."""

    prompt: str
    soft_tokens: Sequence[int]  # of each frame
    times_s: Sequence[float]  # of each frame
    answer: str | None = None
    begin: str = ""  # the first words of the answer, in the last turn
    audio_tokens: int = 0  # of its sound; 0: none


def request_turns(
    request: Request, soft_tokens: Callable[[int, int], int], audio_tokens: Callable[[int], int]
) -> list[Turn]:
    """Build the turns of a request.

    Args:
        soft_tokens: Maps a frame's height and width to its number of soft tokens.
        audio_tokens: Maps a number of samples to its number of soft tokens.
    """

    def turn(prompt: str, frames: Frames | None, answer: str | None = None) -> Turn:
        if frames is None:
            return Turn(prompt, (), (), answer)
        _, height, width, _ = frames.pixels.shape
        return Turn(
            prompt,
            [soft_tokens(height, width)] * len(frames.times_s),
            frames.times_s,
            answer,
            audio_tokens=0 if frames.audio is None else audio_tokens(len(frames.audio.samples)),
        )

    return [
        *(turn(example.prompt, example.frames, example.answer) for example in request.examples),
        replace(turn(request.prompt, request.frames), begin=request.begin),
    ]


def render_prompt(
    processor: Processor,
    turns: Sequence[tuple[str, str, str, str | None]],
    *,
    marker: str,
    order: Order,
    system: str = "",
    **template_options: Any,
) -> str:
    """Render turns as the text that is tokenized.

    Args:
        turns: (prompt, media, sound, answer) of each turn. `media` is the text of all its frames, `sound` the marker of
            its sound, which follows them. The last answer is None.
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
    for prompt, media, sound, answer in turns:
        messages.append({"role": "user", "content": _message_content(prompt, media, sound, marker, order)})
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    first, *rest = processor.apply_chat_template(messages, **template_options).split(marker)
    return first + "".join(media + text for media, text in zip((m for _, m, _, _ in turns if m), rest, strict=True))


def _message_content(prompt: str, media: str, sound: str, marker: str, order: Order) -> list[dict[str, str]]:
    seen_and_heard = [{"type": "image"}] if media else []
    if sound:  # as a text, because not every template knows the type "audio"; those that do write the marker alone
        seen_and_heard.append({"type": "text", "text": sound})
    text = [{"type": "text", "text": prompt}]
    before, has_marker, after = prompt.partition(marker)
    if has_marker:
        return [{"type": "text", "text": before}, *seen_and_heard, {"type": "text", "text": after}]
    return seen_and_heard + text if order == "media-first" else text + seen_and_heard


def _raw_prompt(
    prompt: str, media: str, sound: str, answer: str | None, *, marker: str, order: Order, is_single_turn: bool
) -> str:
    media += sound
    # "Describe it.", 1 image -> "<start_of_image>Describe it.\nCaption:"   "A photo of" -> "<start_of_image>A photo of"
    before, has_marker, after = prompt.partition(marker)
    if has_marker:
        rendered = before + media + after
    else:
        rendered = media + prompt.strip() if order == "media-first" else prompt.strip() + media
        if not is_single_turn or prompt.strip().endswith(SENTENCE_ENDINGS):
            rendered += "\nCaption:"
    return rendered if answer is None else f"{rendered} {answer}"


def encode_prompt(family: Family, processor: Processor, turns: Sequence[Turn], settings: Settings) -> list[int]:
    """Return the prompt's token ids, soft tokens of the frames included. transformers' processor gives the same."""
    marker = family.marker(processor)
    audio_marker = processor.tokenizer.audio_token if any(turn.audio_tokens for turn in turns) else ""

    def media(turn: Turn) -> str:
        return family.join_markers(marker, turn.times_s, settings.sampling.timestamps) if turn.times_s else ""

    text = render_prompt(
        processor,
        [(turn.prompt, media(turn), audio_marker * bool(turn.audio_tokens), turn.answer) for turn in turns],
        marker=marker,
        order=settings.prompting.order,
        system=settings.prompting.system,
        **family.template_options,
    )
    first, *rest = text.split(marker)
    counts = [count for turn in turns for count in turn.soft_tokens]
    text = first + "".join(
        family.placeholder(processor, n) + rendered for n, rendered in zip(counts, rest, strict=True)
    )
    if audio_marker:
        first, *rest = text.split(audio_marker)
        lengths = [turn.audio_tokens for turn in turns if turn.audio_tokens]
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
