"""Prompt and number of images -> the text that a checkpoint is asked with, image markers included.

A checkpoint with a chat template (`-it`) is asked through it. One without (`-pt`, a base model that continues
text) gets a raw prompt; where the prompt reads as an instruction, `Caption:` tells it where the answer begins.
"""

from collections.abc import Sequence
from typing import Any

from ..settings import Order, Settings
from .families import Family

ENDS_AN_INSTRUCTION = (".", "!", "?")


def prompt_text(
    processor: Any, prompt: str, *, marker: str, media: str, order: Order, system: str = "", **template_options: Any
) -> str:
    """The text for one item, `media` standing for all of its frames.

    marker: what the chat template writes for an image. A prompt that holds it once itself has the frames there,
    whatever the order.
    """
    before, asked, after = prompt.partition(marker)
    if processor.chat_template is None:
        said = before + media + after if asked else _raw(prompt.strip(), media, order)
        return f"{system}\n{said}" if system else said
    image, text = [{"type": "image"}], [{"type": "text", "text": prompt}]
    content = image + text if order == "media-first" else text + image
    if asked:
        content = [{"type": "text", "text": before}, *image, {"type": "text", "text": after}]
    messages = [{"role": "user", "content": content}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    said = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **template_options)
    return str(said).replace(marker, media)


def _raw(prompt: str, media: str, order: Order) -> str:
    # "Describe it.", 1 image -> "<start_of_image>Describe it.\nCaption:"   "A photo of" -> "<start_of_image>A photo of"
    asked = media + prompt if order == "media-first" else prompt + media
    return asked + "\nCaption:" if prompt.endswith(ENDS_AN_INSTRUCTION) else asked


def tokens_of(
    family: Family,
    processor: Any,
    prompt: str,
    soft_tokens: Sequence[int],
    times_s: Sequence[float],
    settings: Settings,
) -> list[int]:
    """Prompt token ids, each frame as its run of soft tokens: what transformers' own processor makes of it."""
    marker = family.marker(processor)
    text = prompt_text(
        processor,
        prompt,
        marker=marker,
        media=family.media(marker, times_s, settings.sampling.timestamps),
        order=settings.prompting.order,
        system=settings.prompting.system,
        **family.template_options,
    )
    between = text.split(marker)
    for place, count in enumerate(soft_tokens):
        between[place] += family.placeholder(processor, count)
    text = "".join(between)
    special = not text.startswith(processor.tokenizer.bos_token)  # a chat template writes it itself
    return list(processor.tokenizer(text, add_special_tokens=special)["input_ids"])
