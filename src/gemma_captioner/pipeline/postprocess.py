"""Turns a raw reply into a caption with flags, or rejects it. No side effects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..captions.clean import apply_affixes, strip_boilerplate, to_ascii_punctuation, to_last_sentence
from ..captions.flags import REJECTION_REASONS, evaluate
from ..captions.limits import length_flags
from ..config.settings import Settings
from ..config.targets import states_silence
from ..prompts.variables import fill_template
from ..types import Reply


@dataclass(frozen=True, slots=True)
class CaptionCheck:
    """A caption with its flags. `rejection` says why it cannot be stored and what to do."""

    caption: str
    flags: tuple[str, ...] = ()
    rejection: str | None = None


def postprocess_reply(
    reply: Reply,
    prompt: str,
    settings: Settings,
    values: Mapping[str, str | int | float],
    count_tokens: Callable[[str], int] | None = None,
) -> CaptionCheck:
    """Clean the reply, flag it, and add the trigger, the prefix and the suffix.

    Args:
        prompt: The prompt with the values of its variables.
        values: The values of the variables in the prefix and the suffix.
        count_tokens: The counter of --tokenizer. By default, lengths are estimates.
    """
    prompting, judging = settings.prompting, settings.judging
    text = _cleaned(reply.text, prompting.begin.strip(), ascii_punctuation=prompting.punctuation == "ascii")
    truncated = reply.finish_reason == "length" and bool(text)
    if truncated:
        text = to_last_sentence(text)
    silence = states_silence(judging.target)
    flags = evaluate(text, prompt=prompt, language=judging.language, states_silence=silence)
    if rejection := [flag for flag in flags if flag in REJECTION_REASONS]:
        return CaptionCheck("", flags, REJECTION_REASONS[rejection[0]])
    prefix, suffix = fill_template(prompting.prefix, values), fill_template(prompting.suffix, values)
    caption = apply_affixes(text, trigger=prompting.trigger, prefix=prefix, suffix=suffix)
    flags += ("truncated",) * truncated + length_flags(caption, judging.target, count_tokens)
    return CaptionCheck(caption, reply.flags + flags)


def _cleaned(text: str, begin: str, *, ascii_punctuation: bool) -> str:
    """`begin` stays, even if it is a phrase that `strip_boilerplate` removes, such as "This image shows"."""
    cleaned = strip_boilerplate(text, ascii_punctuation=ascii_punctuation)
    opening = " ".join((to_ascii_punctuation(begin) if ascii_punctuation else begin).split())
    if not cleaned or cleaned.startswith(opening):
        return cleaned
    rest = text.removeprefix(begin)
    cleaned = strip_boilerplate(rest, ascii_punctuation=ascii_punctuation)
    return cleaned and opening + " " * rest[:1].isspace() + cleaned
