"""Finds the speech that a caption quotes, and compares it with the transcript of the clip. Pure."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

_SPOKEN_TAG = re.compile(r"<d>\s*(?:\[[^\]<>]*\])?\s*(.*?)</d>", re.DOTALL)  # of MiniMax H3
_QUOTE = re.compile(
    r"\"([^\"]+)\"|\u201c([^\u201d]+)\u201d|\u00ab([^\u00bb]+)\u00bb|(?<!\w)'((?:[^']|'(?=\w))+)'(?!\w)"
)
_SPEAKS = re.compile(
    r"\b(?:sa(?:ys|id|ying)|ask(?:s|ed|ing)|(?:repl|cr)(?:ies|ied|ying)|answer(?:s|ed|ing)|whisper(?:s|ed|ing)|"
    r"shout(?:s|ed|ing)|yell(?:s|ed|ing)|call(?:s|ed|ing)|exclaim(?:s|ed|ing)|mutter(?:s|ed|ing)|mumbl(?:es|ed|ing)|"
    r"murmur(?:s|ed|ing)|announc(?:es|ed|ing|ement)|add(?:s|ed|ing)|s(?:ing|ang|inging)s?|chant(?:s|ed|ing)|"
    r"explain(?:s|ed|ing)|stat(?:es|ed|ing)|remark(?:s|ed|ing)|t(?:ells|old|elling)|sp(?:eaks|oke|eaking)|"
    r"respond(?:s|ed|ing)|repeat(?:s|ed|ing)|continu(?:es|ed|ing)|declar(?:es|ed|ing)|greet(?:s|ed)|aloud|"
    r"scream(?:s|ed|ing)|utter(?:s|ed|ing)|voices?|voice-?over|narrat(?:or|es|ed|ing|ion)|lyrics?|dialogue)\b",
    re.IGNORECASE,
)
# Objects that "say" a written text: "a sign that says", but not "beside a sign, a man says".
_WRITTEN = re.compile(
    r"\b(?:signs?|shirts?|t-shirts?|hoodie|sweatshirt|jersey|label|banner|poster|placard|text|titles?|screen|board|billboard|"
    r"captions?|subtitles?|caps?|hats?|mugs?|stickers?|writing|letters?|words?|lettering|graffiti|headline|logo|"
    r"display|note|plaque|page|book|cover|tag|badge|tattoo|cake|door|wall|card|plate|window|bag|box|menu|"
    r"newspaper|magazine|button|bubble|field|form|message|heading|icon|link|key|monitor|slide|overlay|watermark|neon)\b[^,.;:]{0,40}$",
    re.IGNORECASE,
)
_LABELED = re.compile(
    r"\b(?:text|words?|signs?|titles?|labels?|message|heading|letters?|lettering|subtitles?)\W*$", re.IGNORECASE
)
_BEFORE, _MAX_WORDS_AFTER = 90, 4  # how far from a quote its verb may be
_MIN_SIMILARITY = 0.75  # of two words: "colour" and "color", "gonna" and "gonna'"
_WORDS_FOR_ERROR = 5  # so many quoted words allow one that differs


def quoted_speech(text: str) -> Iterator[str]:
    """Yield the speech that a caption quotes, without the texts of signs, shirts and screens.

    # A man under a sign "EXIT" says in a low voice, "Two minutes." -> Two minutes.
    """
    for spoken in _SPOKEN_TAG.finditer(text):
        yield re.sub(r"<(?:scenetrans|cutoff)>", " ", spoken[1])
    text = _SPOKEN_TAG.sub(". ", text)
    end = 0
    for quote in _QUOTE.finditer(text):
        words = next(filter(None, quote.groups()))
        before = re.split(r"[.!?;]\s", text[max(end, quote.start() - _BEFORE) : quote.start()])[-1]
        end = quote.end()
        if _is_said_before(before) or (words[-1] in ",.!?" and _is_said_after(text[end : end + _BEFORE])):
            yield words


def _is_said_before(before: str) -> bool:
    verbs = list(_SPEAKS.finditer(before))
    if not verbs or _LABELED.search(before):
        return False
    return before.rstrip().endswith(",") or _WRITTEN.search(before[: verbs[-1].start()]) is None


def _is_said_after(after: str) -> bool:
    """# she whispers to him. -> yes      appears on the wall while a man says -> no"""
    clause = re.split(r"[.,;:!?\"]", after.lstrip(), maxsplit=1)[0]
    return _SPEAKS.search(" ".join(clause.split()[:_MAX_WORDS_AFTER])) is not None


def is_spoken(quote: str, transcript: str) -> bool:
    """Whether the words of a quote occur in a transcript: in any case, without punctuation, with a small tolerance."""
    wanted, said = _tokens(quote), _tokens(transcript)
    return _distance(wanted, said) <= len(wanted) // _WORDS_FOR_ERROR


def has_speech_mismatch(text: str, transcript: str) -> bool:
    """Whether a caption quotes speech that is not in the transcript."""
    return any(not is_spoken(quote, transcript) for quote in quoted_speech(text))


def _tokens(text: str) -> list[str]:
    """Words without case and punctuation; a letter each in scripts that put no spaces between words."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return re.findall(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:'[^\W_]+)?", text)


def _distance(quote: Sequence[str], transcript: Sequence[str]) -> int:
    """The edit distance in words of `quote` to the nearest part of `transcript` (Sellers' algorithm)."""
    above = [0] * (len(transcript) + 1)
    for row, word in enumerate(quote, 1):
        line = [row]
        for column, other in enumerate(transcript, 1):
            replaced = above[column - 1] + (not _are_alike(word, other))
            line.append(min(replaced, above[column] + 1, line[-1] + 1))
        above = line
    return min(above)


def _are_alike(one: str, other: str) -> bool:
    if one == other or one[0] != other[0] or min(len(one), len(other)) < 4:
        return one == other
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= _MIN_SIMILARITY
