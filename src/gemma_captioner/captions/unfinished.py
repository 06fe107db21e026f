"""Whether a caption stops in mid-sentence. Pure.

Precision and recall on labeled captions: docs/flags.md, `python benchmarks/flags.py`.
"""

import re

from .clean import to_last_sentence

# Words that end no English caption, nor a tag: something follows an article, a preposition or a conjunction.
NEVER_LAST = frozenset(
    """
    a an the my your his its our their whose every
    and or but nor while because than whereas although if unless as
    of at from with into onto to for toward towards between among against amid beside upon during near via
    that which who where when is are was were be been being has have very
    """.split()
)
# "the lights on" and "a dog running by" are complete; "placed on", "surrounded by" and "wearing a dark" are not.
_CUT = re.compile(
    r"\b(?:(?:sitting|seated|standing|lying|dressed|clad|covered|placed|parked|mounted|located|reflected|resting)"
    r" (?:in|on|by)|(?!passed)\w+ed by|(?:and|or|but|while|as|with)(?: then)? (?:her|then|another|some|several|two)"
    r"|an? (?:small|large|big|tall|thin|young|old|long|short|dark|bright|soft|warm|black|white|brown|gr[ae]y|blue"
    r"|red|green|yellow))\Z",
    re.IGNORECASE,
)
_END_OF_SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f\u0964\u061f\u06d4\u2026][\"'\u201d\u2019\u00bb)\]]*\Z")
_INCHES = re.compile(r"(?<=\d)\"(?!\w)")
_EMOTICON = re.compile(r"(?<!\w)[>;:=8]*[:;=8]['-]?[(\[{]")  # and booru tags such as >:(
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def is_unfinished(caption: str, language: str = "english") -> bool:
    """Whether it ends inside a sentence, a quotation or a bracket. Tags need no end, nor does a list after a sentence.

    # "A cat sits. It looks at the" -> yes        "a cat on a mat" -> no: a style without a full stop
    # "A cat beside a vase of" -> yes             'A sign reads "OPEN' -> yes
    """
    text = caption.strip()
    if language == "english" and text and text.split()[-1].lower().lstrip("\"'([\u201c") in NEVER_LAST:
        return True
    if is_list(text) and text.count(",") >= 2:
        return False
    if _is_open(text):
        return True
    if not text or _END_OF_SENTENCE.search(text):
        return False
    finished = to_last_sentence(text)
    if finished != text and not is_list(text[len(finished) :]):
        return True
    return text[-1] in ",;-\u2013\u2014&" or (language == "english" and _CUT.search(text) is not None)


def is_list(text: str, max_words: int = 4) -> bool:
    """Whether a text is tags or short phrases, not a sentence.

    # "1girl, solo, long hair" -> yes        "Overcast sky, soft light" -> yes        "A cat sits on a mat" -> no
    """
    return all(len(item.split()) <= max_words for item in text.split(","))


def _is_open(text: str) -> bool:
    """Whether a quotation mark or a bracket is not closed.

    # 'a cup with "World's best' -> yes        'a 12" record' -> no
    """
    text = _EMOTICON.sub("", text)
    return (
        all(counted.count('"') % 2 for counted in (text, _INCHES.sub("", text)))
        or text.rfind("\u201c") > max(text.rfind("\u201d"), text.rfind('"'))
        or any(text.count(opening) > text.count(closing) for opening, closing in _BRACKETS.items())
    )
