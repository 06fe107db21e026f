"""Inspects the bytes of one caption file: its findings, and the bytes that --fix would write. Pure."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..captions.clean import strip_boilerplate
from ..captions.encoding import decode_text
from ..captions.flags import evaluate, evaluate_texts
from ..captions.formats import CaptionFormat, FormatError, ParseOptions, detect
from ..captions.length import caption_length
from ..captions.limits import MIN_WORDS, estimated_tokens
from ..captions.repair import find_faults, repair, repair_steps
from ..captions.unfinished import is_unfinished
from ..config.targets import get_target, states_silence, token_limit
from . import trainer_rules
from .settings import CheckSettings

MAX_CAPTION_BYTES = 1 << 16  # about ten thousand words; longer files are not captions
# The original scripts wrote the first one into caption files.
_ERROR = re.compile(
    r"\AError processing \S|^Traceback \(most recent call last\)|\A(?:\w+\.)*\w+(?:Error|Exception): |\A\[?ERROR\]?:",
    re.MULTILINE,
)
_PLACEHOLDER = re.compile(r"\[(?:trigger|name)\]")


@dataclass(frozen=True, slots=True)
class Inspection:
    """Result of `inspect_caption`."""

    findings: Sequence[tuple[str, str]]  # (rule code, detail)
    text: str = ""  # repaired; "" if the file is unreadable or has no words
    length: int = 0  # in tokens if the target is known, otherwise in words
    fixed_bytes: bytes | None = None  # what --fix would write, None if no rule fixes anything
    format: str = "prose"
    texts: Sequence[str] = ()  # of a structured caption


def inspect_caption(
    content: bytes,
    settings: CheckSettings,
    count: Callable[[str], int] | None = None,
    flags: Sequence[str] | None = None,
    caption_format: CaptionFormat[Any] | None = None,
) -> Inspection:
    """Check one caption file against all rules.

    count: exact token counter of --tokenizer. flags: the journal's flags if this tool wrote the caption, else None.
    caption_format: the format of --format; by default, the one that the caption looks like.
    """
    if len(content) > MAX_CAPTION_BYTES:
        return Inspection([("unreadable", f"more than {MAX_CAPTION_BYTES >> 10} KiB, too large for a caption")])
    text, saved_as = decode_text(content)
    if text is None:
        return Inspection([("not_utf8", f"uncertain encoding: {saved_as}")])
    findings = [("bom", "")] if "BOM" in saved_as else []
    if saved_as not in ("UTF-8", "UTF-8 with a BOM"):
        findings.append(("not_utf8", f"detected as {saved_as}"))
    caption_format = caption_format or detect(text)
    if caption_format.name != "prose" and text.strip():
        return _inspect_structured(text, findings, caption_format, settings, count, flags, content)
    one_caption_per_line = settings.for_ is not None and get_target(settings.for_).one_caption_per_line
    steps = repair_steps(alternatives=one_caption_per_line, keep_boilerplate=flags is not None)
    fixable = find_faults(text, steps)
    cleaned = repair(text, steps) if fixable else text.strip()
    if not re.search(r"\w", strip_boilerplate(cleaned, from_model=False)):
        return Inspection([*findings, ("empty", "")])
    findings += [(fault, "") for fault in fixable]
    findings += trainer_rules.match_text(text, settings.trainer)
    if "first_line_only" in dict(findings):  # more specific than multi_line
        findings = [hit for hit in findings if hit[0] != "multi_line"]
    captions = cleaned.split("\n") if one_caption_per_line else [cleaned]
    if "\ufffd" in text and flags is not None:  # the journal of an older version does not have the flag
        flags = tuple(dict.fromkeys([*flags, "lost_characters"]))
    if _ERROR.search(text):
        findings.append(("error_message", ""))
    elif flags is not None:  # evaluated before the prefix and suffix were added
        findings += _made_with(flags)
    else:
        findings += dict.fromkeys(flag for caption in captions for flag in _flags_of(caption, settings))
    measured = [_length(caption, settings, count) for caption in captions]
    findings += dict.fromkeys((code, detail) for _, code, detail in measured if code)
    fixed_bytes = cleaned.encode() if any(trainer_rules.ALL_RULES[code].fixed for code, _ in findings) else None
    return Inspection(
        findings, cleaned, max(length for length, _, _ in measured), None if fixed_bytes == content else fixed_bytes
    )


# Skipped for structured captions: `structure_lost` covers their lines, and numbers in JSON are not prose.
_FOR_PROSE = ("first_line_only", "several_lines", "blank_line", "comma_in_number")
_FORMAT_FAULTS = ("mojibake", "control_characters")


def _inspect_structured(
    text: str,
    findings: list[tuple[str, str]],
    caption_format: CaptionFormat[Any],
    settings: CheckSettings,
    count: Callable[[str], int] | None,
    flags: Sequence[str] | None,
    content: bytes,
) -> Inspection:
    """The rules for prose apply to the texts of the caption. Nothing is fixed that does not fit the format."""
    steps = {fault: step for fault, step in repair_steps().items() if fault in _FORMAT_FAULTS}
    findings += [(fault, "") for fault in find_faults(text, steps)]
    findings += [hit for hit in trainer_rules.match_text(text, settings.trainer) if hit[0] not in _FOR_PROSE]
    cleaned = repair(text, steps)
    try:
        parsed = caption_format.parse(cleaned, ParseOptions(keep_prose=True))
        if outside := caption_format.text_outside(cleaned):
            raise FormatError(f"text outside the caption: {outside[:60]!r}")
    except FormatError as error:
        findings.append(("invalid_format", f"{caption_format.name}: {error}"))
        return Inspection(findings, text, caption_length(text), format=caption_format.name)
    rendered, texts = caption_format.render(parsed), caption_format.texts(parsed)
    if rendered != cleaned:
        findings.append(("format_style", caption_format.name))
    if flags is None:
        silence = states_silence(settings.encoder_target)
        flags_found = evaluate_texts(texts, language=settings.language, states_silence=silence)
        findings += [(flag, "") for flag in flags_found]
    findings += _made_with(flags)
    length, code, detail = _length(rendered, settings, count)
    findings += [(code, detail)] if code else []
    fixed_bytes = rendered.encode() if any(trainer_rules.ALL_RULES[code].fixed for code, _ in findings) else None
    fixed_bytes = None if fixed_bytes == content else fixed_bytes
    return Inspection(findings, " ".join(texts), length, fixed_bytes, caption_format.name, texts)


def _made_with(flags: Sequence[str] | None) -> list[tuple[str, str]]:
    """The flags that the journal has of a caption. Lengths are measured again."""
    known = trainer_rules.ALL_RULES.keys() - {"too_long", "too_short"}
    return [(flag, "") for flag in flags or () if flag in known]


def _flags_of(caption: str, settings: CheckSettings) -> Iterator[tuple[str, str]]:
    if settings.trainer in ("", "ai-toolkit"):  # ai-toolkit replaces the placeholder with a word
        caption = _PLACEHOLDER.sub("it", caption)
    silence = states_silence(settings.encoder_target)
    for flag in evaluate(caption, language=settings.language, states_silence=silence):
        yield flag, ""
    if is_unfinished(caption, settings.language):
        yield "unfinished", ""


def _length(caption: str, settings: CheckSettings, count: Callable[[str], int] | None) -> tuple[int, str, str]:
    """(length in tokens if the target is known, otherwise in words; rule code or ""; detail)."""
    words, length = len(caption.split()), caption_length(caption)
    if (limit := token_limit(settings.encoder_target)) is None:
        return length, "too_short" if length < MIN_WORDS else "", ""
    tokens = count(caption) if count is not None else estimated_tokens(caption, limit.encoder)
    if length < MIN_WORDS:
        return tokens, "too_short", ""
    if tokens <= limit.max_tokens:
        return tokens, "", ""
    reads = f"tokens; {settings.encoder_target} reads {limit.max_tokens}"
    reads += "; more stops training" * (limit.over == "fails")
    if count is not None:
        return tokens, "too_long", f"{tokens} {reads}"
    if words > limit.max_tokens:  # no encoder reads several words as one token
        return tokens, "too_long", f"at least {words} {reads}"
    return tokens, "maybe_too_long", f"about {tokens} {reads}"
