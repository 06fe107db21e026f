"""What `check` can find, by a name that stays: how bad it is, what it says, what to do. docs/check.md is this table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "note"]


@dataclass(frozen=True, slots=True)
class Rule:
    """severity: with an error, training breaks or learns rubbish; a note is to be looked at. fixed: by --fix."""

    severity: Severity
    description: str
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
GENERAL_RULES: Mapping[str, Rule] = {
    "unreadable": Rule("error", "cannot be read", "mend or remove it"),
    "unfixable": Rule("error", "could not be written", "mend what the message says, and run --fix again"),
    "empty_media": Rule("error", "an image or clip without content", "replace or remove it"),
    "no_caption": Rule("error", "an image or clip without a caption", "run `gemma-captioner caption`"),
    "collision": Rule("error", "media that share one caption", "rename all but one, or caption with --name full"),
    "no_media": Rule("note", "a caption without media", "remove it, or bring its image or clip back"),
    "empty": Rule("error", "a caption without a word in it", _BY_COMMAND),
    "not_utf8": Rule("error", "not saved as UTF-8", "save it as UTF-8", fixed=True),
    "bom": Rule(
        "error", "begins with a byte order mark, which becomes part of the caption", "save it without", fixed=True),
    "mojibake": Rule(
        "error", "UTF-8 that was read as something else and saved again", "write its letters anew", fixed=True),
    "lost_characters": Rule("error", "letters were lost: U+FFFD stands for them", _ANEW),
    "control_characters": Rule("error", "control characters, or unseen marks", "take them out", fixed=True),
    "error_message": Rule("error", "an error message instead of a caption", _BY_COMMAND),
    "leftover": Rule(
        "error", "what a model says around a caption: an opening, a label, Markdown, template tokens",
        "take it off", fixed=True),
    "multi_line": Rule("note", "more than one line", "join them", fixed=True),
    "whitespace": Rule("note", "spaces or blank lines around or between words", "take them out", fixed=True),
    "typographic": Rule(
        "note", "typographic quotes, dashes or spaces, which some trainers misread", "plain ones", fixed=True),
    "refusal": Rule("error", "a model's refusal", _ANEW),
    "repetition": Rule("error", "the same words again and again", _ANEW),
    "prompt_echo": Rule("error", "the prompt, or how a caption should be", _ANEW),
    "not_in_language": Rule("note", "not in --language", _ANEW),
    "absent_things": Rule(
        "note", "tells of what is not there, which a text encoder reads as if it were", "take it out"),
    "unfinished": Rule("note", "stops within a sentence", "end it, or cut it back to its last whole sentence"),
    "truncated": Rule(
        "note", "the answer was cut off; it ends with its last whole sentence",
        "caption it anew with more --max-new-tokens"),
    "partial_video": Rule("note", "made from a clip that breaks off", "replace the clip, and caption it anew"),
    "too_long": Rule(
        "error", "more tokens than the text encoder reads: the rest is lost",
        "shorten it, or caption it anew with a preset for the model"),
    "maybe_too_long": Rule(
        "note", "by estimate more tokens than the text encoder reads", "--tokenizer ID counts exactly"),
    "too_short": Rule("note", "under three words", "say more, if that is no trigger word alone"),
    "duplicate": Rule("note", "the same words are the caption of several files", "tell them apart, if they differ"),
}
# fmt: on
