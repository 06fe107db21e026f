"""How much of a caption each model's text encoder reads. Pure.

Tokens are estimated from above where no exact tokenizer is given (`--tokenizer ID`): a caption that this estimate finds
short enough is short enough.
"""

import math
import re
from collections.abc import Callable

from ..config.targets import TOKEN_LIMITS

MIN_WORDS = 3  # fewer describe nothing that could be learnt
_LETTERS_PER_TOKEN = {"CLIP": 6, "T5": 4, "umT5": 4, "LLaMA": 5, "Gemma": 5}  # letters of a long word a token


def estimated_tokens(caption: str, encoder: str) -> int:
    """At least as many as the encoder's own tokenizer finds in English prose.

    A word of up to six letters is counted as one token and a half, a longer one as its pieces; punctuation as one each.

    # "A cat, sleeping.", CLIP -> 1.5 + 1.5 + 1 + 2 + 1 = 7
    """
    letters_per_token = _LETTERS_PER_TOKEN[encoder]
    total = 0.0
    for part in re.findall(r"[^\W\d_]+|\d|[^\w\s]", caption):
        if not part.isalpha():
            total += 1
        elif not part.isascii():
            total += 2 * len(part)
        else:
            total += 1.5 if len(part) <= 6 else max(2, math.ceil(len(part) / letters_per_token))
    return math.ceil(total)


def length_flags(caption: str, target: str | None, count: Callable[[str], int] | None = None) -> tuple[str, ...]:
    """`too_short` for anyone, `too_long` for a target's text encoder. count: its exact tokenizer."""
    if len(caption.split()) < MIN_WORDS:
        return ("too_short",)
    if target is None:
        return ()
    limit = TOKEN_LIMITS[target]
    tokens = count(caption) if count is not None else estimated_tokens(caption, limit.encoder)
    return ("too_long",) if tokens > limit.max_tokens else ()
