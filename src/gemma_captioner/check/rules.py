"""The general rules of `check`. Codes are stable. docs/check.md contains this table: tools/page_tables.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

Severity = Literal["error", "note"]


@dataclass(frozen=True, slots=True)
class Rule:
    """severity: an error breaks training or teaches bad captions; a note needs a look. fixed: by --fix.

    severity_for: the severity for single trainers or models, by name.
    """

    severity: Severity
    description: str
    remedy: str
    fixed: bool = False
    severity_for: Mapping[str, Severity] = field(default_factory=dict)

    def for_target(self, trainer: str, model: str) -> Self:
        """Return the rule with its severity for this target. The model counts more than the trainer."""
        severity = self.severity_for.get(model, self.severity_for.get(trainer, self.severity))
        return self if severity == self.severity else replace(self, severity=severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one file. detail: about this file, "what" in the JSON. other: the path of its near-duplicate."""

    path: str
    code: str
    detail: str = ""
    other: str = ""


_ANEW = "caption the file again, or write the caption by hand"
_BY_COMMAND = "remove it and run `gemma-captioner caption`"
# fmt: off
GENERAL_RULES: Mapping[str, Rule] = {
    "unreadable": Rule("error", "cannot be read", "repair or remove it"),
    "unfixable": Rule("error", "--fix could not write the caption", "resolve the error, then run --fix again"),
    "empty_media": Rule("error", "empty image or clip file", "replace or remove it"),
    "no_caption": Rule("error", "image or clip without a caption", "run `gemma-captioner caption`"),
    "collision": Rule("error", "files that share one caption", "rename all but one, or caption with --name full"),
    "other_caption": Rule(
        "note", "a caption with another extension lies beside the one that is checked",
        "remove the one that is not meant, or check it with --extension"),
    "no_media": Rule("note", "caption without an image or clip", "remove it, or restore its image or clip"),
    "empty": Rule("error", "caption without any words", _BY_COMMAND),
    "not_utf8": Rule("error", "not saved as UTF-8", "save it as UTF-8", fixed=True),
    "bom": Rule(
        "error", "starts with a byte order mark, which becomes part of the caption", "remove it", fixed=True),
    "mojibake": Rule(
        "error", "garbled characters: UTF-8 decoded with another encoding", "restore the characters", fixed=True),
    "invalid_format": Rule(
        "error", "does not fit its caption format", "correct it, or caption the file again with --format"),
    "format_style": Rule(
        "error", "not written as trainers read its format: the order or case of keys, line breaks, code fences",
        "write it again", fixed=True),
    "lost_characters": Rule("error", "lost characters, replaced by U+FFFD", _ANEW),
    "control_characters": Rule("error", "control or invisible characters", "remove them", fixed=True),
    "error_message": Rule("error", "an error message instead of a caption", _BY_COMMAND),
    "leftover": Rule(
        "error", "model boilerplate around the caption: an introduction, a label, Markdown, template tokens",
        "remove it", fixed=True),
    "multi_line": Rule("note", "more than one line", "join them", fixed=True),
    "whitespace": Rule("note", "extra spaces or blank lines", "remove them", fixed=True),
    "typographic": Rule(
        "note", "typographic quotes, dashes or spaces, which some trainers misread", "use ASCII", fixed=True),
    "refusal": Rule("error", "the model refused", _ANEW),
    "repetition": Rule("error", "repetition of the same words", _ANEW),
    "prompt_echo": Rule("error", "repeats the prompt or captioning instructions", _ANEW),
    "not_in_language": Rule("note", "not in --language", _ANEW),
    "absent_things": Rule(
        "note", "mentions absent things, which a text encoder treats as present", "remove the mention"),
    "unfinished": Rule(
        "note", "ends in the middle of a sentence, or a quote or bracket is open",
        "complete it, or remove what is unfinished"),
    "truncated": Rule(
        "note", "the answer was cut off; the caption ends at the last complete sentence",
        "caption the file again with a larger --max-new-tokens"),
    "shortened": Rule(
        "note", "optional parts were left out, so that the text encoder reads the rest", "check what is missing"),
    "partial_video": Rule("note", "made from a truncated clip", "replace the clip and caption it again"),
    "too_short_for_trainer": Rule(
        "note", "made from a clip that is shorter than what the trainer keeps",
        "leave it out, or train on fewer frames; `gemma-captioner targets` says what the trainer does"),
    "partial_image": Rule("note", "made from a truncated image", "replace the image and caption it again"),
    "no_audio": Rule(
        "note", "made without sound: the clip has no audio track, or one that cannot be decoded",
        "leave it as it is, or restore the sound and caption the clip again"),
    "silent": Rule("note", "the sound of the clip is silence", "leave it as it is, if the silence is intended"),
    "partial_audio": Rule(
        "note", "made from only a part of the sound: the track is shorter or damaged, or the model hears less",
        "check that the caption describes all of the sound"),
    "sound_missing": Rule(
        "note", "does not mention the sound, which the model heard", "add the sound, or caption the file again"),
    "sound_invented": Rule("note", "mentions sound, but the clip has none", "remove the mention of sound"),
    "speech_mismatch": Rule(
        "note", "quotes words that are not in the transcript", "correct the quote, or the transcript"),
    "too_long": Rule(
        "error", "more tokens than the text encoder reads: the rest is ignored",
        "shorten it, or caption the file again with a preset for the model"),
    "maybe_too_long": Rule(
        "note", "probably more tokens than the text encoder reads (estimate)", "count exactly with --tokenizer ID"),
    "too_short": Rule(
        "note",
        "fewer than three words, or than three characters in a script without spaces",
        "add detail, unless only a trigger word is intended",
    ),
    "duplicate": Rule("note", "several files have the same caption", "describe their differences, if there are any"),
}
# fmt: on
