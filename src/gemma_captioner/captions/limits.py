"""Checks the length of a caption against the text encoder of the target model. Pure.

Without an exact tokenizer (`--tokenizer ID`), the token count is an upper estimate: a caption that passes is short
enough.
"""

import math
import re
from collections.abc import Callable

from ..config.targets import token_limit
from .length import caption_length

MIN_WORDS = 3  # a caption of a smaller `caption_length` is flagged `too_short`
# For long words. The last three have vocabularies as large as that of LLaMA.
_LETTERS_PER_TOKEN = dict(CLIP=6, T5=4, umT5=4, LLaMA=5, Gemma=5, Qwen=5, Mistral=5, SmolLM3=5)


def estimated_tokens(caption: str, encoder: str) -> int:
    """Return an upper estimate of the encoder's token count for English prose.

    A word of up to six letters counts as 1.5 tokens, a longer one as its pieces, a punctuation mark or digit as 1.

    # "A cat, sleeping.", CLIP -> 1.5 + 1.5 + 1 + 2 + 1 = 7
    """
    letters_per_token = _LETTERS_PER_TOKEN[encoder]
    total = 0.0
    for part in re.findall(r"[^\W\d_]+|\d|[^\w\s]|_", caption):
        if not part.isalpha():
            total += 1
        elif not part.isascii():
            total += 2 * len(part)
        else:
            total += 1.5 if len(part) <= 6 else max(2, math.ceil(len(part) / letters_per_token))
    return math.ceil(total)


def length_flags(caption: str, target: str | None, count: Callable[[str], int] | None = None) -> tuple[str, ...]:
    """Return ("too_short",), ("too_long",) or (). count: an exact token counter; by default, tokens are estimated."""
    if caption_length(caption) < MIN_WORDS:
        return ("too_short",)
    if (limit := token_limit(target)) is None:
        return ()
    tokens = count(caption) if count is not None else estimated_tokens(caption, limit.encoder)
    return ("too_long",) if tokens > limit.max_tokens else ()
