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


def request_turns(request: Request, soft_tokens: Callable[[int, int], int]) -> list[Turn]:
    """Build the turns of a request. soft_tokens: maps a frame's height and width to its number of soft tokens."""
    return [
        *(_turn(example.prompt, example.frames, soft_tokens, example.answer) for example in request.examples),
        replace(_turn(request.prompt, request.frames, soft_tokens), begin=request.begin),
    ]


def _turn(
    prompt: str, frames: Frames | None, soft_tokens: Callable[[int, int], int], answer: str | None = None
) -> Turn:
    if frames is None:
        return Turn(prompt, (), (), answer)
    _, height, width, _ = frames.pixels.shape
    return Turn(prompt, [soft_tokens(height, width)] * len(frames.times_s), frames.times_s, answer)


def render_prompt(
    processor: Processor,
    turns: Sequence[tuple[str, str, str | None]],
    *,
    marker: str,
    order: Order,
    system: str = "",
    **template_options: Any,
) -> str:
    """Render turns as the text that is tokenized.

    Args:
        turns: (prompt, media, answer) of each turn. `media` is the text of all its frames. The last answer is None.
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
    return first + "".join(media + text for media, text in zip((m for _, m, _ in turns if m), rest, strict=True))


def _message_content(prompt: str, media: str, marker: str, order: Order) -> list[dict[str, str]]:
    image = [{"type": "image"}] if media else []
    text = [{"type": "text", "text": prompt}]
    before, has_marker, after = prompt.partition(marker)
    if has_marker:
        return [{"type": "text", "text": before}, *image, {"type": "text", "text": after}]
    return image + text if order == "media-first" else text + image


def _raw_prompt(prompt: str, media: str, answer: str | None, *, marker: str, order: Order, is_single_turn: bool) -> str:
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
    timestamps = settings.sampling.timestamps
    text = render_prompt(
        processor,
        [(t.prompt, family.join_markers(marker, t.times_s, timestamps) if t.times_s else "", t.answer) for t in turns],
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
    if begin := turns[-1].begin:
        text += begin if processor.chat_template is not None or text[-1].isspace() else f" {begin}"
    special = not text.startswith(processor.tokenizer.bos_token)  # a chat template writes BOS itself
    return processor.tokenizer.encode(text, add_special_tokens=special)
