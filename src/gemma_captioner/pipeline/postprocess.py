"""A raw reply -> a caption with its flags, or why none can be made of it. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..captions.clean import bare, dressed, plain, to_last_sentence
from ..captions.judge import UNFIT, judge
from ..captions.limits import length_flags
from ..config.settings import Settings
from ..prompts.variables import filled
from ..types import Reply


@dataclass(frozen=True, slots=True)
class Judged:
    caption: str
    flags: tuple[str, ...] = ()
    unfit: str | None = None  # why it cannot be stored, and what to do


def judged(
    reply: Reply,
    prompt: str,
    settings: Settings,
    values: Mapping[str, str | int | float],
    count_tokens: Callable[[str], int] | None = None,
) -> Judged:
    """prompt: as it was asked. values: of the variables in prefix and suffix. count_tokens: of --tokenizer."""
    put, judging = settings.prompting, settings.judging
    said = _cleaned(reply.text, put.begin.strip(), ascii_punctuation=put.punctuation == "ascii")
    truncated = reply.finish_reason == "length" and bool(said)
    if truncated:
        said = to_last_sentence(said)
    flags = judge(said, prompt=prompt, language=judging.language)
    if unfit := [flag for flag in flags if flag in UNFIT]:
        return Judged("", flags, UNFIT[unfit[0]])
    prefix, suffix = filled(put.prefix, values), filled(put.suffix, values)
    caption = dressed(said, trigger=put.trigger, prefix=prefix, suffix=suffix)
    flags += ("truncated",) * truncated + length_flags(caption, judging.target, count_tokens)
    return Judged(caption, reply.flags + flags)


def _cleaned(text: str, begin: str, *, ascii_punctuation: bool) -> str:
    """begin: what stays, even where it is what models say around a caption, such as "This image shows"."""
    said = bare(text, ascii_punctuation=ascii_punctuation)
    opening = " ".join((plain(begin) if ascii_punctuation else begin).split())
    if not said or said.startswith(opening):
        return said
    rest = text.removeprefix(begin)
    said = bare(rest, ascii_punctuation=ascii_punctuation)
    return said and opening + " " * rest[:1].isspace() + said
