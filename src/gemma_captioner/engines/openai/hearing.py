"""Finds out once per session in which form a server takes sound.

The test compares prompt token counts and ignores the model's reply. A server that takes the sound counts some tokens
more than for the text alone. One that ignores it counts none more, and one that reads it as text counts thousands.
"""

import json
from typing import Any, get_args

import numpy as np

from ...errors import StartError
from ...types import AUDIO_RATE, Audio
from .client import NO_TOKEN_COUNT, Client
from .media_encoding import encode_sound
from .payload import SoundForm, sound_part

_PROBE_S, _MOST_TOKENS = 0.5, 1000
_TEXT = {"type": "text", "text": "Describe it."}


def sound_form(client: Client, model: str, timeout_s: float) -> tuple[SoundForm | None, str]:
    """Return the form that the server takes, or None and the reason. Raises `StartError` if it takes no text either."""

    def count_tokens(content: list[dict[str, Any]]) -> int | str:
        return client.count_prompt_tokens(model, [{"role": "user", "content": content}], timeout_s)

    text_only, probe, reasons = count_tokens([_TEXT]), encode_sound(tone(_PROBE_S)), []
    for form in get_args(SoundForm):
        try:
            with_sound = count_tokens([json.loads(sound_part(form, probe)), _TEXT])
        except StartError as error:  # what would end a run if images caused it
            with_sound = str(error)
        if isinstance(with_sound, str) and with_sound != NO_TOKEN_COUNT:
            reasons.append(f"{form}: {with_sound}")
        elif isinstance(with_sound, str) or isinstance(text_only, str):
            return form, ""  # it did not refuse, and more cannot be known
        elif 0 < with_sound - text_only < _MOST_TOKENS:
            return form, ""
        else:
            reasons.append(f"{form}: it counts {with_sound - text_only} tokens for {_PROBE_S:g} s of sound")
    return None, "; ".join(dict.fromkeys(reasons))


def tone(seconds: float, hz: float = 440.0) -> Audio:
    t = np.arange(round(seconds * AUDIO_RATE), dtype=np.float32) / AUDIO_RATE
    return Audio((0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32))
