"""Turns a raw reply into a caption with flags, or rejects it. No side effects."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..captions.clean import strip_template
from ..captions.flags import REJECTION_REASONS, evaluate_texts
from ..captions.formats import CaptionFormat, FormatError, ParseOptions, detect
from ..captions.limits import length_flags
from ..captions.sound import sound_flags
from ..captions.speech import has_speech_mismatch
from ..config.quality import LimitSettings
from ..config.settings import Settings
from ..config.targets import states_silence
from ..prompts.variables import fill_template
from ..types import Reply


@dataclass(frozen=True, slots=True)
class CaptionCheck:
    """A caption with its flags.

    `rejection` says why it cannot be stored and what to do. The retry prompt quotes `format_error`.
    """

    caption: str
    flags: tuple[str, ...] = ()
    rejection: str | None = None
    format_error: str = ""


def postprocess_reply(
    reply: Reply,
    prompt: str,
    settings: Settings,
    values: Mapping[str, str | int | float],
    caption_format: CaptionFormat[Any],
    *,
    count_tokens: Callable[[str], int] | None = None,
    duration_s: float | None = None,
    is_heard: bool | None = None,
    spoken: str | None = None,
) -> CaptionCheck:
    """Read the reply in the format of the captions, flag it, and add the trigger, the prefix and the suffix.

    Args:
        prompt: The prompt with the values of its variables.
        values: The values of the variables in the prefix and the suffix.
        count_tokens: The counter of --tokenizer. By default, lengths are estimates.
        duration_s: The duration of the clip, 0 for an image.
        is_heard: True if the model got the sound of the clip, False if the clip has none, None if unknown.
        spoken: The transcript of the clip; None if unknown.
    """
    prompting, quality = settings.prompting, settings.quality
    is_truncated = reply.finish_reason == "length"
    try:
        options = ParseOptions(prompting.punctuation == "ascii", prompting.begin.strip(), duration_s)
        content = caption_format.parse(reply.text, options)
    except FormatError as error:
        return _format_rejection(str(error), is_truncated, settings)
    is_truncated = is_truncated and caption_format.keeps_partial
    if is_truncated:
        content = caption_format.drop_unfinished_end(content)
    texts = caption_format.texts(content) if content else [""]
    flags = _flags(texts, prompt.removesuffix(settings.format.instructions), quality)
    if (rejection := _rejection(flags)) is not None:
        return CaptionCheck("", flags, rejection)
    content = caption_format.add_affixes(
        content,
        trigger=prompting.trigger,
        prefix=fill_template(prompting.prefix, values),
        suffix=fill_template(prompting.suffix, values),
    )
    caption = caption_format.render(content)
    too_long = length_flags(caption, quality.target, count_tokens)
    if "too_long" in too_long:
        for shorter in map(caption_format.render, caption_format.shorter_versions(content)):
            if "too_long" not in (shorter_flags := length_flags(shorter, quality.target, count_tokens)):
                caption, too_long = shorter, ("shortened", *shorter_flags)
                break
    if "no_audio" in reply.flags:  # a server refused the sound that was sent
        is_heard = None
    flags += _sound_flags(caption, texts, quality, is_heard, spoken)
    return CaptionCheck(caption, reply.flags + flags + ("truncated",) * is_truncated + too_long)


def check_chain_reply(reply: Reply, prompt: str, settings: Settings) -> CaptionCheck:
    """Check an answer that another prompt continues. It is kept as the model wrote it."""
    text = strip_template(reply.text).strip()
    try:
        looks_like = detect(text)
        texts = looks_like.texts(looks_like.parse(text))
    except FormatError:
        texts = [text]
    flags = _flags(texts, prompt, settings.quality)
    return CaptionCheck(text, (), _rejection(flags))


def _flags(texts: Iterable[str], prompt: str, quality: LimitSettings) -> tuple[str, ...]:
    silence = states_silence(quality.target)
    return evaluate_texts(texts, prompt=prompt, language=quality.language, states_silence=silence)


def _sound_flags(
    caption: str, texts: Iterable[str], quality: LimitSettings, is_heard: bool | None, spoken: str | None
) -> tuple[str, ...]:
    """Return the flags for mentions of sound that contradict the clip."""
    text = " ".join(texts) if caption.startswith("{") else caption
    if is_heard is False and spoken:  # a transcript, but no audio track: the clip had sound before
        is_heard = None
    flags = sound_flags(text, is_heard) if quality.language == "english" else ()
    return flags + ("speech_mismatch",) * (spoken is not None and has_speech_mismatch(text, spoken))


def _rejection(flags: Iterable[str]) -> str | None:
    return next((REJECTION_REASONS[flag] for flag in flags if flag in REJECTION_REASONS), None)


def _format_rejection(reason: str, is_truncated: bool, settings: Settings) -> CaptionCheck:
    name = settings.format.name
    if is_truncated:
        return CaptionCheck(
            "",
            rejection=f"the answer was cut off before the end of its {name} caption: raise --max-new-tokens",
            format_error="it was too long and was cut off; write less",
        )
    remedy = "try a larger model, more --retries, or a --prompt that explains the format"
    return CaptionCheck(
        "", rejection=f"the answer does not fit --format {name} ({reason}): {remedy}", format_error=reason
    )
