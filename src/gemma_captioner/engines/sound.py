"""Decides whether a run sends the sound of clips to the model, and how much of it."""

import math
import re
from dataclasses import dataclass, replace

from ..config.settings import Settings
from ..config.targets import trains_on_sound
from ..errors import UsageError
from ..types import SPAN, Frames
from .base import EngineSpec

_MARKER_TOKENS = 4  # the most tokens around the sound of a clip
_REMEDY = "Use Gemma 4 E2B, E4B or 12B, or a server whose model takes sound"


@dataclass(frozen=True, slots=True)
class SoundPlan:
    """The decision of a run.

    Attributes:
        max_s: The maximum seconds of sound of a clip to send, from the start of its span; 0: none.
        tokens: The maximum number of its prompt tokens; 0 if unknown.
        message: A line for the user; "" if neither the model nor the target takes sound.
    """

    max_s: float
    tokens: int
    message: str


def plan_sound(settings: Settings, spec: EngineSpec) -> SoundPlan:
    """Decide from --audio, the target of --for and the model. Raises `UsageError` if --audio on is impossible."""
    mode, target, model = settings.sampling.audio, settings.sampling.for_, spec.model
    is_trained = trains_on_sound(target)
    although = f", although {target} trains on it" if is_trained else ""
    if mode == "off":
        return SoundPlan(0.0, 0, f"sound: not sent (--audio off){although}" if although else "")
    if not spec.max_audio_s:
        if mode == "on":
            raise UsageError(f"--audio on: {model} takes no sound. {_REMEDY}, or omit --audio")
        why_not = f"sound: not sent, because {model} takes none{although}. {_REMEDY}"
        return SoundPlan(0.0, 0, why_not if although else "")
    if mode == "auto" and not is_trained:
        reason = f"{target} does not train on it" if target else "no --for names a target that trains on it"
        is_known = spec.audio_tokens_per_second > 0  # of a server's model, often it is not
        return SoundPlan(0.0, 0, f"sound: not sent, because {reason} (--audio on sends it)" * is_known)
    longest_s = max_span_s(settings.sampling.span)
    max_s = min(spec.max_audio_s, longest_s)
    tokens = math.ceil(max_s * spec.audio_tokens_per_second) + _MARKER_TOKENS if spec.audio_tokens_per_second else 0
    cut = f" (the first {max_s:g} s of longer ones, flagged `partial_audio`)" if longest_s > max_s else ""
    cost = f"; at most {tokens:,} tokens each" if tokens else ""
    return SoundPlan(max_s, tokens, f"sound: sent with each clip, up to {max_s:g} s{cut}{cost}")


def with_sound_up_to(max_s: float, frames: Frames) -> Frames:
    """Return the frames with as much of their sound as is sent; more may have been decoded to transcribe it."""
    audio = frames.audio
    if audio is None or audio.duration_s <= max_s:
        return frames
    if not max_s:
        return replace(frames, audio=None)
    samples = audio.samples[: round(max_s * audio.rate)]
    return replace(
        frames, audio=replace(audio, samples=samples), flags=tuple(dict.fromkeys([*frames.flags, "partial_audio"]))
    )


def max_span_s(span: str) -> float:
    """Return the longest part that a span takes of any clip, in seconds; infinite if that depends on the clip.

    # head:2,5 -> 5      1-3.5 -> 2.5      whole, head:81f -> inf
    """
    match = re.fullmatch(SPAN, span)
    assert match is not None
    if match["lengths"] and "f" not in match["lengths"]:
        return max(map(float, match["lengths"].split(",")))
    return float(match["end"]) - float(match["start"]) if match["start"] else math.inf
