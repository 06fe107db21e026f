"""A caption -> what is wrong with it. Pure.

Precision and recall of each rule on captions that others labelled: docs/flags.md, `python benchmarks/flags.py`.
"""

import re
import zlib
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

from ..settings import LANGUAGES

# What keeps a caption from being stored, once --retries are used up.
UNFIT = {
    "empty": "the model answered nothing: try another --prompt, or a larger model",
    "refusal": "the model refused to describe it: try another --prompt, or a larger model",
    "repetition": "the model fell into a loop: try another --prompt, --temperature 0.7, or a larger model",
    "prompt_echo": "the model repeated the prompt: make it shorter, or take an instruction-tuned model (-it)",
}


def judge(caption: str, *, prompt: str = "", language: str = "english") -> tuple[str, ...]:
    """What the text alone shows, as flags in a fixed order. One in `UNFIT` keeps a caption from being stored."""
    if not re.search(r"\w", caption):
        return ("empty",)
    found = {
        "repetition": repeats(caption),
        "refusal": refuses(caption),
        "prompt_echo": echoes(caption, prompt),
        "not_in_language": not is_in(caption, language),
        "absent_things": tells_of_absence(caption),
    }
    return tuple(flag for flag, is_so in found.items() if is_so)


def _any(words: str) -> str:
    """# "a_cat dog" -> "(?:a cat|dog)" """
    return f"(?:{'|'.join(word.replace('_', ' ') for word in words.split())})"


_QUOTED = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d|\u00ab[^\u00bb]*\u00bb|(?<!\w)'[^']{2,}'(?!\w)")


def _unquoted(caption: str) -> str:
    """Without what is quoted: signs and speech may say anything."""
    return _QUOTED.sub(" ", caption)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())


# repetition


def repeats(caption: str) -> bool:
    """Whether it has fallen into a loop: a run of words at once again and again, or most of it said twice over."""
    words = _words(_unquoted(caption))
    return _in_a_loop(words) or _same_sentences(caption) or _compresses_too_well(caption) or _counts_on(words)


_LEAST_TIMES = {1: 5, 2: 4, 3: 4}  # for a run of so many words; longer ones three times


def _in_a_loop(words: list[str]) -> bool:
    """# run, run, run, run, run -> yes      left, right, left, right -> no: twice is rhythm"""
    for length in range(1, min(40, len(words) // 3) + 1):
        times = _LEAST_TIMES.get(length, 3)
        for start in range(len(words) - length * times + 1):
            run = words[start : start + length]
            if all(words[start + i * length : start + (i + 1) * length] == run for i in range(1, times)):
                return True
    return False


def _same_sentences(caption: str) -> bool:
    sentences = [" ".join(_words(s)) for s in re.split(r"[.!?]+\s+", caption)]
    times = Counter(s for s in sentences if len(s.split()) >= 4)
    return bool(times) and (max(times.values()) >= 3 or (len(times) < sum(times.values()) and len(sentences) <= 3))


def _compresses_too_well(caption: str) -> bool:
    """Prose of 300 to 1,000 characters shrinks to 45 to 65%; loops with small variations to less than 35%."""
    content = caption.encode()
    return len(content) > 240 and len(zlib.compress(content, 9)) / len(content) < 0.36


def _counts_on(words: list[str]) -> bool:
    """1, 2, 3, ... 8"""
    run = 1
    for before, after in pairwise(words):
        run = run + 1 if before.isdecimal() and after.isdecimal() and int(after) == int(before) + 1 else 1
        if run >= 8:
            return True
    return False


# refusal

_DOES = _any(
    "see view access process open identify describe provide assist help fulfill fulfil create generate caption comment "
    "answer engage continue comply write make analy[sz]e recogni[sz]e determine confirm discuss offer produce "
    "speculate give share watch do_that complete respond tell name access comfortable the_ability the_capability "
    "(?:any|an?|the)_(?:image|video)"
)
_MEDIA = _any("image video clip picture file attachment")
_REFUSALS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:i'm|i am) (?:really |very |so |deeply )?"
        r"(?:sorry|unable|not able|not allowed|programmed|just an?|(?:only )?an? (?:ai|large language|language|text))",
        r"\bi (?:can ?not|can't|could not|couldn't|won't|will not|do not|don't|am not able to|must decline|refuse) "
        rf"(?:\w+ly )?(?:to |be able to |actually |directly |in good conscience |have |feel )?{_DOES}",
        r"\bas an? (?:ai|artificial|large language|language model|responsible|multimodal)\b",
        r"\bi (?:must |have to |would like to |want to )?apologi[sz]e\b|\bmy apologies\b",
        r"\bsorry,? (?:but )?(?:i|this|that)\b",
        r"\bplease (?:provide|upload|share|attach|send|re-?upload|try again)\b",
        rf"\b(?:no|the) {_MEDIA}s? (?:was|were|has been|is|seems? to be|appears? to be) "
        r"(?:not |missing|empty|provided|attached|blank|unavailable|corrupt)",
        r"\b(?:can ?not|can't|unable to|not able to) "
        r"(?:fulfil+|comply with|assist with|help with|complete|provide|generate|process|"
        r"identify (?:the |this |any |real )?(?:person|people|individual))",
        r"\b(?:against|violates?|not in line with) (?:my|our|the) (?:\w+ )?"
        r"(?:guidelines|polic|programming|principles|content|safety|terms)",
        r"\b(?:content|safety|usage) (?:policy|policies|guidelines)\b",
        r"\bi(?:'d| would) (?:need|require|be happy to|be glad to)\b",
        r"\bif you (?:can |could )?(?:provide|upload|share|describe)\b",
        r"\bmy (?:capabilities|programming|training|guidelines|purpose)\b",
    )
]


def refuses(caption: str) -> bool:
    """Whether the model speaks of itself and what it will not do, anywhere outside quotes."""
    text = _unquoted(caption.replace("\u2019", "'"))
    return any(pattern.search(text) for pattern in _REFUSALS)


# prompt_echo

_TELLS_TO = _any(
    "describe provide caption write generate create give explain focus_on only_describe "
    "(?:do_not|don't)_(?:mention|include|describe|use) avoid include mention use_(?:simple|short|plain|clear|concise) "
    "keep_(?:it|the|your) make_sure ensure limit start_with begin_with be_(?:concise|specific|detailed|brief) "
    "your_task you_are_an? the_(?:caption|description)_should output return respond answer list"
)
_INSTRUCTION = re.compile(rf"(?:\A|(?<=[.:;!?])\s+)(?:please )?{_TELLS_TO}\b", re.IGNORECASE)
_OF_CAPTIONING = re.compile(
    r"\b(?:captions?|descriptions?|image|video|clip|words?|sentences?|training|detail(?:ed)?|prompt|describe|movement|"
    r"mention|include|style|subject|tags?)\b",
    re.IGNORECASE,
)


def echoes(caption: str, prompt: str) -> bool:
    """Whether it says the prompt again, or gives instructions for a caption instead of one."""
    said, asked = _words(caption), _words(prompt)
    if asked and _longest_common_run(said, asked) >= max(6, min(9, len(asked) - 1)):
        return True
    for instruction in _INSTRUCTION.finditer(_unquoted(caption)):
        sentence = re.split(r"[.!?]\s", caption[instruction.start() :].strip(), maxsplit=1)[0]
        if _OF_CAPTIONING.search(sentence[len(instruction[0].strip()) :]):
            return True
    return False


def _longest_common_run(a: list[str], b: list[str]) -> int:
    """Of words in a row that both hold."""
    longest = 0
    row = [0] * (len(b) + 1)
    for x in a:
        row = [0] + [row[j] + 1 if x == y else 0 for j, y in enumerate(b)]
        longest = max(longest, *row)
    return longest


# not_in_language

_NOT_LATIN = {"ru", "uk", "zh", "ja", "ko", "ar", "hi"}
_SURE = 0.9
_LEAST_WORDS = 5


def is_in(caption: str, language: str) -> bool:
    """Whether it, and each half of it, reads as `language`; in doubt, and for a few words, it does."""
    code = LANGUAGES[language.lower()]
    text = _unquoted(caption)
    letters = [c for c in text if c.isalpha()]
    latin = sum(c.isascii() or "\u00c0" <= c <= "\u024f" or "\u1e00" <= c <= "\u1eff" for c in letters)
    if letters and code not in _NOT_LATIN and latin < 0.7 * len(letters):
        return False
    words = text.split()
    halves = [words] if len(words) < 16 else [words[: len(words) // 2], words[len(words) // 2 :]]
    return all(_reads_as(" ".join(half), code) for half in halves)


def _reads_as(text: str, code: str) -> bool:
    if len(_words(text)) < _LEAST_WORDS and text.isascii():
        return True
    likeliest, probability = _identifier().classify(text.lower())
    return bool(likeliest == code or probability < _SURE)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(sorted(LANGUAGES.values()))
    return identifier


# absent_things

_THING = _any(
    "people persons? humans? figures? individuals? text words? letters writing signs? signage logos? watermarks? "
    "objects? elements? details? subjects? characters? animals? vehicles? cars? buildings? furniture items? movements? "
    "motion action activity sounds? audio music dialogue speech distractions? background scenery landscape faces? "
    "decorations? patterns? features? indications? evidence props clutter clouds? trees plants shadows? changes? "
    "interaction accessories jewelry makeup colou?rs? context light_sources?"
)
_UP_TO_3 = r"(?:\w+ ){0,3}?"
_IS = r"(?:is|are|was|were|can be|appears?|seems?)"
_ABSENT = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bno (?:\w+,? (?:or )?){{0,4}}?{_THING}\b[^.]*?\b(?:{_IS}|visible|present|seen|shown|discernible|"
        r"detected|depicted|in (?:the )?(?:image|frame|scene|shot|video|picture|background|view))\b",
        r"\bthere (?:is|are|was|were|appears? to be|seems? to be) (?:no|not any|not a|neither)\b(?! (?:room|doubt))",
        rf"\bwith(?:out)? (?:no|any|a single) {_UP_TO_3}{_THING}\b",
        rf"\b(?:free|empty|bare) of {_UP_TO_3}{_THING}\b|\bdevoid of\b",
        rf"\b(?:lack|lacks|lacking|absence|absent) (?:of )?{_UP_TO_3}{_THING}\b",
        rf"\b(?:does not|do not|did not|doesn't|don't) (?:contain|include|show|feature|have|depict|display) "
        rf"{_UP_TO_3}{_THING}\b",
        r"\bnothing else (?:is|happens|moves|can be|appears|in (?:the )?(?:frame|scene|image))\b",
        r"\b(?:nobody|no one|nothing) (?:else )?(?:is|can be) (?:visible|seen|present|happening|shown|in)\b",
        rf"\b{_THING} (?:is|are) (?:not (?:visible|present|shown|seen|included|depicted)|absent|"
        r"missing from the (?:image|scene|frame|video))\b",
        r"\bno (?:visible|discernible|apparent|other|additional|noticeable|identifiable|recogni[sz]able|obvious)\b",
    )
]


def tells_of_absence(caption: str) -> bool:
    """Whether it tells of what is not there, which a text encoder reads as if it were."""
    text = _unquoted(caption.replace("\u2019", "'"))
    return any(pattern.search(text) for pattern in _ABSENT)
