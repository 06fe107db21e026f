"""Flags problems of a caption from its text. Pure.

Precision and recall of each rule on labeled captions: docs/flags.md, `python benchmarks/flags.py`.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from ..config.languages import LANGUAGES
from .phrases import ABSENCE, META_INSTRUCTIONS, QUOTED, REFUSAL, phrases

# Flags that reject a caption once --retries are used up, with the message of the failure.
REJECTION_REASONS = {
    "empty": "the model returned no text: try another --prompt or a larger model",
    "refusal": "the model refused to describe the file: try another --prompt or a larger model",
    "repetition": "the model repeated itself in a loop: try another --prompt, --temperature 0.7 or a larger model",
    "prompt_echo": "the model repeated the prompt: shorten the prompt, or use an instruction-tuned model (-it)",
}


def evaluate(
    caption: str, *, prompt: str = "", language: str = "english", states_silence: bool = False
) -> tuple[str, ...]:
    """Return the flags of a caption in a fixed order. Flags in `REJECTION_REASONS` reject it.

    states_silence: Whether the caption may say that speech, music or sound is absent.
    """
    if not _LETTER.search(caption) or _PLACEHOLDER.fullmatch(caption):
        return ("empty",)
    rules = part_rules(prompt=prompt, states_silence=states_silence)
    echo = rules["prompt_echo"](caption)
    found = {
        "repetition": rules["repetition"](caption),
        "refusal": rules["refusal"](caption),
        "prompt_echo": echo,
        "lost_characters": "\ufffd" in caption,
        "not_in_language": not is_in_language(caption, language),
        # an echoed instruction is not a mention
        "absent_things": not echo and rules["absent_things"](caption),
    }
    return tuple(flag for flag, is_so in found.items() if is_so)


def part_rules(*, prompt: str = "", states_silence: bool = False) -> Mapping[str, Callable[[str], bool]]:
    """Return the rules that a part of a caption can break by itself, by flag; marks.py finds that part."""
    return {
        "repetition": is_repetitive,
        "refusal": is_refusal,
        "prompt_echo": lambda caption: echoes_prompt(caption, prompt),
        "absent_things": lambda caption: mentions_absence(_SILENCE.sub("", caption) if states_silence else caption),
    }


def evaluate_texts(
    texts: Iterable[str], *, prompt: str = "", language: str = "english", states_silence: bool = False
) -> tuple[str, ...]:
    """Return the flags of the texts of one caption, each once. It has the flag `empty` only if all texts are empty.

    A caption without free texts, such as numbers and choices, has no flags.
    """
    found = [evaluate(text, prompt=prompt, language=language, states_silence=states_silence) for text in texts]
    if found and all("empty" in flags for flags in found):
        return ("empty",)
    return tuple(dict.fromkeys(flag for flags in found for flag in flags if flag != "empty"))


_LETTER = re.compile(r"[^\W\d_]")
_PLACEHOLDER = re.compile(r"\W*(?:n/a|none|null|nil|undefined|<image>)\W*", re.IGNORECASE)
# "A protest sign reads I can't breathe", up to the end of the sentence, but not "a man reads a book".
_UNQUOTED_SIGN = re.compile(
    r"\b(?:(?:reads|says)|(?:sign|poster|banner|shirt|text|label|letters|lettering|board)\s+(?:reading|saying)):?"
    r"\s+(?!\"|(?:an?|the|his|her|their|its|from|in|on|to|aloud|by|with|of)\b)[^.!?;]*",
    re.IGNORECASE,
)


def _remove_quoted(caption: str) -> str:
    """Remove quoted text, because signs and speech may say anything."""
    return _UNQUOTED_SIGN.sub(" ", QUOTED.sub('"', caption))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())


# repetition


def is_repetitive(caption: str) -> bool:
    """Whether the caption repeats itself in a loop, exactly or with small variations."""
    text = _remove_quoted(caption)
    words = _words(text)
    spoken = [word for word in words if not word.isdecimal()]  # scoreboards repeat numbers
    return (
        _REPEATED_LETTERS.search(caption) is not None
        or _has_repeated_run(spoken)
        or (len(spoken) >= 4 and len(set(spoken)) == 1)
        or _has_repeated_run([w for w in _words(caption) if w.isalpha()], min_words=10)  # quoted text, too
        or _repeats_items(text)
        or _has_low_diversity(spoken, 60, 23)
        or (_has_low_diversity(spoken, 24, 9) and not _has_distinct_items(text))
        or _repeats_sentences(text)
        or _compresses_too_well(caption)
        or _is_counting(words)
    )


# titititititi, . . . . . .; one letter 40 times or more; the zzzzzzzz of a comic is shorter
_REPEATED_LETTERS = re.compile(r"((\S)(?!\2)\S{1,5}?|\S\s)\1{11,}|(\S)\3{39,}")
_MIN_REPEATS = {1: 5, 2: 4, 3: 4}  # words in the run -> repeats; longer runs: 3


def _has_repeated_run(words: list[str], min_words: int = 0) -> bool:
    """# run, run, run, run, run -> yes      left, right, left, right -> no: two repeats are common"""
    for length in range(1, min(40, len(words) // 3) + 1):
        wanted = length * (max(min_words, _MIN_REPEATS.get(length, 3)) - 1)
        again = 0  # consecutive words equal to the word `length` before
        for word, later in zip(words, words[length:], strict=False):
            again = again + 1 if word == later else 0
            if again >= wanted:
                return True
    return False


def _has_low_diversity(words: list[str], length: int, few: int) -> bool:
    """Whether any `length` consecutive words have at most `few` distinct words.

    # a deep red, a rich red, a dark red, a deep rich red, a dark deep red, ...
    """
    return any(len(set(words[i : i + length])) <= few for i in range(len(words) - length + 1))


def _has_distinct_items(text: str) -> bool:
    """# white with a red sole, white with a blue sole, ... black with a blue sole -> yes: a list of similar items"""
    items = [" ".join(_words(item)) for item in re.split(r"[,:]", text)]
    return len(items) >= 5 and len(set(items)) == len(items)


def _repeats_items(text: str) -> bool:
    """# red scarf, snowy street, red scarf, brown coat, snowy street, red scarf -> yes"""
    items = [" ".join(_words(item)) for item in text.split(",")]
    return len(items) >= 6 and len(set(items)) <= 0.6 * len(items)


def _repeats_sentences(text: str) -> bool:
    sentences = [" ".join(_words(s)) for s in re.split(r"[.!?]+(?:\s+|\Z)", text)]
    times = Counter(s for s in sentences if len(s.split()) >= 4)
    return bool(times) and (max(times.values()) >= 3 or (len(times) == 1 and times.total() == 2))


def _compresses_too_well(caption: str) -> bool:
    """Prose of 300 to 1,000 characters compresses to 45-65%; loops with small variations to under 35%."""
    content = caption.encode()
    return len(content) > 240 and len(zlib.compress(content, 9)) / len(content) < 0.36


def _is_counting(words: list[str]) -> bool:
    """# 1, 2, 3, ... 13 -> yes      A1, A2, ... A13 -> yes      1, 2, 3, ... 12 -> no: a clock, a ruler"""
    numbers = [int(digits[1]) if (digits := re.fullmatch(r"[a-z]?(\d{1,6})", word)) else None for word in words]
    run = 1
    for before, after in pairwise(numbers):
        run = run + 1 if before is not None and after == before + 1 else 1
        if run >= 13:
            return True
    return False


# refusal


def is_refusal(caption: str) -> bool:
    """Whether the model says, outside quotes, what it cannot or will not do."""
    return bool(REFUSAL.search(_remove_quoted(caption.replace("\u2019", "'"))))


# prompt_echo

_INSTRUCTION = phrases(r"""
    (?:\A|(?<=[.:;!?])\s+)(?:please_)?(?:describe|provide|caption|write|generate|create|give|explain|focus_on|include|list)\b(?!_of\b)
    (?:\A|(?<=[.:;!?])\s+)(?:please_)?(?:only_describe|mention|use_(?:simple|short|plain|clear|concise)|make_sure|ensure)\b
    (?:\A|(?<=[.:;!?])\s+)(?:please_)?(?:keep_(?:it|the|your)|limit|output|start_with|begin_with|return|respond|answer)\b(?!_of\b)
    (?:\A|(?<=[.:;!?])\s+)(?:please_)?(?:be_(?:concise|specific|detailed|brief)|the_(?:caption|description)_should)\b
""")
_CAPTIONING_TERM = re.compile(
    r"\b(?:captions?|descriptions?|described?|image|video|clip|words?|sentences?|paragraphs?|training|detail(?:s|ed)?|"
    r"prompt|mention|include|style|subjects?|tags?|exactly|tense|answer|medium|lora|trigger|template|rules)\b",
    re.IGNORECASE,
)
_MIN_ECHO_WORDS = 4


def echoes_prompt(caption: str, prompt: str) -> bool:
    """Whether the caption repeats the prompt, gives captioning instructions, or only asks questions."""
    caption_words, prompt_words = _words(caption), _words(_remove_quoted(prompt))
    asks = "?" in prompt or _INSTRUCTION.search(prompt) is not None  # not a hint like "photo of a cat"
    if (
        asks
        and len(prompt_words) >= _MIN_ECHO_WORDS
        and f" {' '.join(prompt_words)} " in f" {' '.join(caption_words)} "
    ):
        return True
    if _repeats_instruction(caption_words, prompt_words):
        return True
    text = _remove_quoted(caption)
    if META_INSTRUCTIONS.search(text) or _only_asks(text):
        return True
    for instruction in _INSTRUCTION.finditer(text):
        sentence = re.split(r"[.!?]\s", text[instruction.start() :].strip(), maxsplit=1)[0]
        if _CAPTIONING_TERM.search(sentence[len(instruction[0].strip()) :]):
            return True
    return False


def _only_asks(text: str) -> bool:
    """# What is it? Who is she? -> yes      Who is she? A cat sits. -> no"""
    *sentences, rest = re.split(r"(?<=[.!?\u3002\uff01\uff1f\u061f])(?![.!?])", text)
    return (
        bool(sentences) and all(s.rstrip("!")[-1:] in "?\uff1f\u061f" for s in sentences) and not _LETTER.search(rest)
    )


def _repeats_instruction(caption_words: list[str], prompt_words: list[str]) -> bool:
    """Whether both share a run of words with at least one captioning term.

    # "Describe how the woman dances.", "The woman dances on the beach." -> no: no captioning term
    """
    runs = [0] * (len(prompt_words) + 1)
    for end, word in enumerate(caption_words, 1):
        runs = [0] + [runs[j] + 1 if word == other else 0 for j, other in enumerate(prompt_words)]
        longest = max(runs)
        if longest >= _MIN_ECHO_WORDS and any(
            _CAPTIONING_TERM.fullmatch(w) for w in caption_words[end - longest : end]
        ):
            return True
    return False


# not_in_language

_NOT_LATIN = {"ru", "uk", "zh", "ja", "ko", "ar", "hi"}
_MIN_PROBABILITY = 0.02
_MIN_WORDS = 5


def is_in_language(caption: str, language: str) -> bool:
    """Whether the caption, or each half of a long one, is in `language`. Short or uncertain text passes."""
    code = LANGUAGES[language.lower()]
    text = _remove_quoted(caption)
    letters = [c for c in text if c.isalpha()]
    latin = sum(c.isascii() or "\u00c0" <= c <= "\u024f" or "\u1e00" <= c <= "\u1eff" for c in letters)
    if letters and code not in _NOT_LATIN and latin < 0.7 * len(letters):
        return False
    words = text.split()
    halves = [words] if len(words) < 16 else [words[: len(words) // 2], words[len(words) // 2 :]]
    return all(_reads_as(" ".join(half), code) for half in halves)


# Function words of English. They identify English captions that contain foreign names.
_ENGLISH = frozenset("the with of and is are into his her its on at from while by as that a".split())


def _reads_as(text: str, code: str) -> bool:
    words = [word for word in _words(text) if _LETTER.search(word)]
    items = text.split(",")
    if len(words) < _MIN_WORDS or (len(items) >= 5 and all(len(item.split()) <= 2 for item in items)):
        return True  # too few words, or tags: cannot tell
    if code == "en" and sum(word in _ENGLISH for word in words) >= 0.2 * len(words):
        return True
    return bool(dict(_identifier().rank(text.lower()))[code] >= _MIN_PROBABILITY)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


# absent_things

_NO_HUMANS = re.compile(r"(?:\A|,)\s*no[ _]humans\s*(?=,|\Z)", re.IGNORECASE)  # the booru tag for animals and places
_SOUND = r"(?:(?:any|other|background|audible|discernible|spoken|ambient) )*"
_SOUND += r"(?:music|speech|dialogue|voices?|narration|sounds?|audio|noises?|sound effects?)"
_SILENCE = re.compile(
    rf"\b(?:no|without|neither) {_SOUND}(?:,? (?:or|nor|and|no|and no) {_SOUND})*\b|"
    r"\b(?:no ?one|nobody)(?: else)? (?:speaks|sings|is (?:heard )?(?:speaking|talking|singing)|is heard|talks)\b",
    re.IGNORECASE,
)


def mentions_absence(caption: str) -> bool:
    """Whether the caption mentions absent things, which a text encoder treats as present."""
    return bool(ABSENCE.search(_NO_HUMANS.sub("", _remove_quoted(caption.replace("\u2019", "'")))))
