"""Prompt and number of images -> the text that a checkpoint is asked with, image markers included.

A checkpoint with a chat template (`-it`) is asked through it. One without (`-pt`, a base model that continues
text) gets a raw prompt; where the prompt reads as an instruction, `Caption:` tells it where the answer begins.
"""

from collections.abc import Sequence
from typing import Any

from ..settings import Order, Settings

ENDS_AN_INSTRUCTION = (".", "!", "?")


def prompt_text(processor: Any, prompt: str, *, num_images: int, order: Order, times_s: Sequence[float] = ()) -> str:
    """The text for `num_images` frames of one item; each `processor.boi_token` in it stands for one image.

    A prompt that holds the marker once itself has all frames there, whatever the order. times_s: where each frame is to
    have its time before it, the times.
    """
    before, asked, after = prompt.partition(processor.boi_token)
    stamps = [f"[{int(t) // 60:02d}:{int(t) % 60:02d}]" for t in times_s] or [""] * num_images
    if processor.chat_template is None:
        marked = "".join(stamp + processor.boi_token for stamp in stamps)
        return before + marked + after if asked else _raw(prompt.strip(), marked, order)
    media = []
    for stamp in stamps:
        media += [{"type": "text", "text": stamp}] * bool(stamp) + [{"type": "image"}]
    text = [{"type": "text", "text": prompt}]
    content = media + text if order == "media-first" else text + media
    if asked:
        content = [{"type": "text", "text": before}, *media, {"type": "text", "text": after}]
    messages = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _raw(prompt: str, images: str, order: Order) -> str:
    # "Describe it.", 1 image -> "<start_of_image>Describe it.\nCaption:"   "A photo of" -> "<start_of_image>A photo of"
    asked = images + prompt if order == "media-first" else prompt + images
    return asked + "\nCaption:" if prompt.endswith(ENDS_AN_INSTRUCTION) else asked


def tokens_of(processor: Any, prompt: str, times_s: Sequence[float], settings: Settings) -> list[int]:
    """Prompt token ids, each frame as its run of image tokens: what transformers' own processor makes of it."""
    text = prompt_text(
        processor,
        prompt,
        num_images=len(times_s),
        order=settings.prompting.order,
        times_s=times_s if settings.sampling.timestamps and len(times_s) > 1 else (),
    )
    text = text.replace(processor.boi_token, processor.full_image_sequence)
    special = not text.startswith(processor.tokenizer.bos_token)  # a chat template writes it itself
    return list(processor.tokenizer(text, add_special_tokens=special)["input_ids"])
