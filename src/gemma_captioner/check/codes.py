"""What `check` can find, by a name that stays: how bad it is, what it says, what to do. docs/check.md is this table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "note"]


@dataclass(frozen=True, slots=True)
class Code:
    """severity: with an error, training breaks or learns rubbish; a note is to be looked at. fixed: by --fix."""

    severity: Severity
    says: str
    remedy: str
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one file. what: of this file, beyond what the code says."""

    path: str
    code: str
    what: str = ""


_ANEW = "caption it anew, or write it by hand"
_BY_COMMAND = "remove it and run `gemma-captioner caption`"
# fmt: off
GENERAL: Mapping[str, Code] = {
    "unreadable": Code("error", "cannot be read", "mend or remove it"),
    "unfixable": Code("error", "could not be written", "mend what the message says, and run --fix again"),
    "empty_media": Code("error", "an image or clip without content", "replace or remove it"),
    "no_caption": Code("error", "an image or clip without a caption", "run `gemma-captioner caption`"),
    "collision": Code("error", "media that share one caption", "rename all but one, or caption with --name full"),
    "no_media": Code("note", "a caption without media", "remove it, or bring its image or clip back"),
    "empty": Code("error", "a caption without a word in it", _BY_COMMAND),
    "not_utf8": Code("error", "not saved as UTF-8", "save it as UTF-8", fixed=True),
    "bom": Code(
        "error", "begins with a byte order mark, which becomes part of the caption", "save it without", fixed=True),
    "mojibake": Code(
        "error", "UTF-8 that was read as something else and saved again", "write its letters anew", fixed=True),
    "lost_characters": Code("error", "letters were lost: U+FFFD stands for them", _ANEW),
    "control_characters": Code("error", "control characters, or unseen marks", "take them out", fixed=True),
    "error_message": Code("error", "an error message instead of a caption", _BY_COMMAND),
    "leftover": Code(
        "error", "what a model says around a caption: an opening, a label, Markdown, template tokens",
        "take it off", fixed=True),
    "multi_line": Code("note", "more than one line", "join them", fixed=True),
    "whitespace": Code("note", "spaces or blank lines around or between words", "take them out", fixed=True),
    "typographic": Code(
        "note", "typographic quotes, dashes or spaces, which some trainers misread", "plain ones", fixed=True),
    "refusal": Code("error", "a model's refusal", _ANEW),
    "repetition": Code("error", "the same words again and again", _ANEW),
    "prompt_echo": Code("error", "the prompt, or how a caption should be", _ANEW),
    "not_in_language": Code("note", "not in --language", _ANEW),
    "absent_things": Code(
        "note", "tells of what is not there, which a text encoder reads as if it were", "take it out"),
    "unfinished": Code("note", "stops within a sentence", "end it, or cut it back to its last whole sentence"),
    "truncated": Code(
        "note", "the answer was cut off; it ends with its last whole sentence",
        "caption it anew with more --max-new-tokens"),
    "partial_video": Code("note", "made from a clip that breaks off", "replace the clip, and caption it anew"),
    "too_long": Code(
        "error", "more tokens than the text encoder reads: the rest is lost",
        "shorten it, or caption it anew with a preset for the model"),
    "maybe_too_long": Code(
        "note", "by estimate more tokens than the text encoder reads", "--tokenizer ID counts exactly"),
    "too_short": Code("note", "under three words", "say more, if that is no trigger word alone"),
    "duplicate": Code("note", "the same words are the caption of several files", "tell them apart, if they differ"),
}
# fmt: on
