"""Extracts the caption from a raw model reply, as one line. Pure.

Only text around the caption is removed. The journal keeps the raw reply.
"""

import re
from functools import lru_cache

from ..text import encodable, parse_json
from .phrases import QUOTED

# Chat template tokens and reasoning blocks.
_THINKING = re.compile(r"<\|channel>.*?<channel\|>|(?:<think>|\A).*?</think>", re.DOTALL)
_TURN_START = r"(?:<start_of_turn>|<\|turn>|<\|im_start\|>|<\|start_header_id\|>)"
_TURN_END = r"(?:<end_of_turn>|<turn\|>|<\|im_end\|>|<\|eot_id\|>|<\|end(?:oftext)?\|>|<eos>)"
_ECHOED_TURN = re.compile(rf"\A\s*(?:<bos>)?\s*{_TURN_START}\s*(?:user|system)\b.*?{_TURN_END}", re.DOTALL)
_NEXT_TURN = re.compile(rf"(?<=\S)\s*{_TURN_END}\s*{_TURN_START}.*", re.DOTALL)
_AFTER_TURN = re.compile(rf"(?<=[^\s>])\s*{_TURN_END}.*", re.DOTALL)
_TEMPLATE = re.compile(
    rf"{_TURN_START}(?:\s*(?:model|assistant)\b)?|</?(?:end_of_turn|bos|eos|pad|unk|s|start_of_image|end_of_image)>"
    r"|<(?:image_soft_token|unused\d+)>|<\|\w+\|?>|<\w+\|>"
)
_HTML = r"</?(?:{})(?:\s+[\w-]+=[^<>]*)?\s*/?>"
_HTML_BLOCK = re.compile(_HTML.format("br|hr|p|div|h[1-6]|[uo]l|li|blockquote|center|pre"), re.IGNORECASE)
_HTML_INLINE = re.compile(_HTML.format("em|strong|span|small|font|code|su[bp]|[abiu]"), re.IGNORECASE)
_ROLE = re.compile(r"\A\s*(?:model|assistant)\s*[:\n]\s*", re.IGNORECASE)
_FENCED = re.compile(r"\A\s*```\w*\s*(.*?)\s*```\s*\Z", re.DOTALL)
_TAGGED = re.compile(r"<(caption|description|answer|output)>(.*?\w.*?)</\1>", re.DOTALL)
_JSON_KEYS = set(
    "caption combined_caption_english description image_caption image_description video_caption text".split()
)

# All word lists are closed: an open pattern could match the subject of a caption.
_KIND = r"(?:image|picture|photo|photograph|video|clip|footage|animation)"
_ADJECTIVE = (
    r"(?:(?:single|one|two|\d+)-(?:line|sentence|paragraph|words?)|(?:image|video|photo|clip|training|lora|final|full|"
    r"short|long|longer|brief|concise|detailed|descriptive|comprehensive|simple|plain|possible|suggested|potential|"
    r"revised|updated|improved|refined|optimi[sz]ed|alternative|new|good|caption|text|prompt)),?\s+"
)
_SINGULAR, _PLURAL = r"(?:caption|description|summary|prompt)", r"(?:captions|descriptions|options|versions|prompts)"
_OF_IT = rf"(?:\s+(?:for|of)\s+(?:(?:the|this|your)\s+(?:[\w-]+\s+)?|an?\s+){_KIND})?"
_OF_ELSE = rf"(?!\s+of\s+(?!(?:the|this|your|an?)\s+(?:[\w-]+\s+)?{_KIND}\b))[^:\n.]{{0,160}}"
_HERE_IS = (
    r"\A[\s*_#>]*(?:(?:sure|okay|ok|certainly|absolutely|of course|alright|great)\b[,!.]*\s*)?"
    r"(?:here(?:['\u2019]s| is| are)|this is|below is|the following is)\s+"
    r"(?:(?:an?|the|your|my|some|one|two|three|four|five|\d|(?:a )?few|several)\s+)?"
    rf"(?:{_ADJECTIVE}){{0,5}}"
)
# "Here's a detailed, single-line caption for the image:"
_ANNOUNCEMENT = re.compile(
    rf"{_HERE_IS}(?:{_SINGULAR}|(?P<many>{_PLURAL}))\b(?:{_OF_IT}\s*[:.!](?!\w)|{_OF_ELSE}:)\s*(?:\*\*)?", re.IGNORECASE
)
_ANNOUNCEMENT_STRICT = re.compile(rf"{_HERE_IS}{_SINGULAR}{_OF_IT}\s*:\s*", re.IGNORECASE)
_FIRST_OF_SEVERAL = re.compile(r"\s*(?:1[.)]\s+(.+?)\s+(?:\*\*)?2[.)]\s.*|[-*+]\s+(.+?)\n\s*[-*+]\s.*)\Z", re.DOTALL)
_INTERJECTION = re.compile(
    r"\A(?:sure|okay|certainly|absolutely|of course|alright)\b[,!.:]+\s+(?-i:(?![a-z]))", re.IGNORECASE
)
# "**Caption:**", "Image description:", "Option 1 (Concise):"
_OPTION = r"option\s+\d+(?:\s*\([^)]*\))?"
_LABELS = rf"(?:(?:{_ADJECTIVE}){{0,4}}{_SINGULAR}|{_OPTION}"
_LABEL = re.compile(
    rf"\A(?:{_LABELS}|(?:final )?(?:answer|output)|assistant|title|image|video|keywords))\s*:\s+(?=\S)", re.IGNORECASE
)
_LABEL_STRICT = re.compile(
    rf"\A(?:(?:(?:image|video|photo|detailed|short)\s+)?(?:caption|description)|{_OPTION})\s*:\s+(?=\S)", re.IGNORECASE
)
_LABEL_LINE, _LABEL_LINE_SURELY = (re.compile(rf"\A{_LABELS})\s*{colon}\Z", re.IGNORECASE) for colon in (":?", ":"))
_ANOTHER_OPTION = re.compile(
    r"(\A.*?^\W*option\s+1\b.*?)^\W*option\s+2\s*[:(*-].*", re.IGNORECASE | re.DOTALL | re.MULTILINE
)
_KEYWORDS = re.compile(r"(?<=[.!?\n])\s*(?:\*\*)?(?:keywords|hashtags):.*\Z", re.IGNORECASE | re.DOTALL)
_WORD_COUNT = re.compile(r"\s*\((?:word count:\s*)?\d+ words?\)\s*\Z", re.IGNORECASE)
# "This image shows a cat": the rest must be able to stand alone.
_SHOWS_PREFIX = (
    rf"\A(?:(?:the|this)\s+(?:short\s+|provided\s+|given\s+)?{_KIND}\s+"
    r"(?:shows|depicts|features|captures|presents|displays|showcases|portrays|illustrates|is of|contains)\s+"
    rf"|in\s+(?:the|this)\s+(?:short\s+)?(?:{_KIND}|scene)"
    r"(?:,\s+(?:there (?:is|are)\s+|(?:we|you) (?:can )?see\s+)?|\s+(?:there (?:is|are)|(?:we|you) (?:can )?see)\s+))"
)
_MEDIA_SHOWS = re.compile(
    rf"{_SHOWS_PREFIX}(?!(?:how|that|what|no|nothing|off|only|its|signs|\w+ly)\b)(?=\w)", re.IGNORECASE
)
_MEDIA_SHOWS_STRICT = re.compile(
    rf"{_SHOWS_PREFIX}(?=(?:an?|the|one|two|three|four|five|several|some|many|multiple|\d+)\s+\w)", re.IGNORECASE
)
# Offers of further help. They are removed if all following sentences address the reader, too.
_OFFER = re.compile(
    r"(?:\A|(?<=[.!?\")*])\s+|\n)[\s*_>#-]*(?:(?:please )?let me know(?: (?:if|whether|what|which|how|should)\b|\W*\Z)|"
    r"(?:would you like|do you want|want) (?:me to\b|(?:an?|another|more)\b[^.?!]*\b(?:caption|description|version))|"
    r"(?:i )?hope (?:this|that|it) (?:helps|works|caption|description|is)\b|"
    r"feel free to (?:ask|adjust|modify|edit|tweak|change|use|reach|customi[sz]e|let me)\b|"
    r"if you(?:'d| would) like (?:me|an?|another|more|to)\b|if you want(?:, i| me to)\b|"
    r"i can also (?:adjust|provide|write|give|make|offer|describe|create|generate|tailor)\b|"
    r"is there anything else\b|to help me (?:refine|improve|give)\b)",
    re.IGNORECASE,
)
_ADDRESSES_READER = re.compile(
    r"\b(?:your?|me|i|caption|description|hope (?:this|it))\b|\?\W*\Z|\A\s*[-*+\d]", re.IGNORECASE
)
_MENTIONS_CAPTION = re.compile(
    r"\b(?:captions?|descriptions?|versions?|prompts?|adjust|refine|tweak|describe|another|more detail|helps)\b",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb", "`": "`"}
_ASCII = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"',
        "\u201e": '"', "\u00ab": '"', "\u00bb": '"', "\u2033": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-",
        "\u2013": "-", "\u2212": "-", "\u2026": "...", "\u2022": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
        "\u200b": "", "\ufeff": "", "\u00ad": "", "\u2028": "\n", "\u2029": "\n",
    }
)  # fmt: skip
# Zero-width joiners belong to Persian and emoji; beside Latin letters they are editor artifacts.
_JOINERS = re.compile(
    r"\A[\u200c\u200d]+|(?<=[\0-\u024f])[\u200c\u200d]+|[\u200c\u200d]+(?=[\0-\u024f])|[\u200c\u200d]+\Z"
)


def apply_affixes(caption: str, *, trigger: str = "", prefix: str = "", suffix: str = "") -> str:
    """Add trigger, prefix and suffix, unless already present. A trigger in another case is rewritten. "" stays "".

    # "A red circle.", trigger "ohwx" -> "ohwx A red circle."      "Ohwx stands." -> "ohwx stands."
    # "A red circle.", trigger "ohwx", prefix "ohwx, " -> "ohwx, A red circle."
    """
    if not caption:
        return ""
    if trigger and not contains_word(caption, trigger):
        caption, found = re.subn(whole_word(trigger), lambda _: trigger, caption, flags=re.IGNORECASE)
        caption = caption if found or contains_word(prefix, trigger) else f"{trigger} {caption}"
    # Only line breaks of the affixes are removed: the trailing space of a prefix separates it.
    if (core := prefix.strip()) and re.match(rf"{re.escape(core)}(?!(?<=\w)\w)", caption):
        prefix = ""
    if (core := suffix.strip()) and re.search(rf"(?<!\w(?=\w)){re.escape(core)}\Z", caption):
        suffix = ""
    line = " ".join(_append(_append(prefix, caption), suffix).splitlines()).strip()
    return encodable(line)


def contains_word(text: str, word: str) -> bool:
    """# "a photo of ohwx", "ohwx" -> True      "ohwxes", "ohwx" -> False"""
    return re.search(whole_word(word), text) is not None


def whole_word(word: str) -> str:
    """The pattern of a word that is no part of a longer one."""
    return rf"(?<!\w){re.escape(word)}(?!\w)"


def _append(text: str, more: str) -> str:
    """Join two texts. Words are never fused: "photo" and "ohwx" need a space, "photo, " and "ohwx" do not."""
    fused = text[-1:].isascii() and text[-1:].isalnum() and more[:1].isascii() and more[:1].isalnum()
    return f"{text} {more}" if fused else text + more


@lru_cache(1)  # `check` strips a caption twice
def strip_boilerplate(raw: str, *, ascii_punctuation: bool = True, from_model: bool = True) -> str:
    """Remove the text that models put around a caption, and join the rest to one line. May return "".

    from_model: False for captions that a person may have written: removes only what no person writes.

    # "Here is a caption:\\n\\n**A red circle.**\\nLet me know!" -> "A red circle."
    """
    text = _HTML_INLINE.sub("", _HTML_BLOCK.sub(" ", strip_template(raw, from_model=from_model))).strip()
    if from_model:
        text = _unwrap(_ROLE.sub("", text))
    text = "\n".join(" ".join(line.split()) for line in text.splitlines())  # long space runs slow the patterns
    if ascii_punctuation:
        text = to_ascii_punctuation(text)
    text = strip_offers(_ANOTHER_OPTION.sub(r"\1", text), from_model)
    if from_model:
        text = _first_of_several(_WORD_COUNT.sub("", _KEYWORDS.sub("", text)))
    lines = [" ".join(line.split()) for line in _strip_markdown(text, from_model).splitlines()]
    label_line = _LABEL_LINE if from_model else _LABEL_LINE_SURELY
    lines = [line for line in lines if line and not label_line.match(line)]
    if from_model:
        lines = _first_caption(lines)
    caption = _strip_openings(" ".join(lines), from_model)
    return re.sub(r"\s+([,.;:!?])(?=\s|\Z)", r"\1", caption).strip()


def strip_template(raw: str, *, from_model: bool = True) -> str:
    """Remove reasoning, the tokens of chat templates, and what follows the end of the turn."""
    text = _ECHOED_TURN.sub("", _THINKING.sub(" ", raw))
    if from_model:
        text = text.rstrip("\ufffd")  # a character whose last bytes were cut off
    return _TEMPLATE.sub(" ", (_AFTER_TURN if from_model else _NEXT_TURN).sub("", text))


def clean_field(text: str, *, ascii_punctuation: bool = True, keep: str = "(?!)") -> str:
    """Clean one text of a structured caption: one line, no label, no "This image shows".

    keep: a pattern. What it matches stays as it is, and so does what stands in quotation marks.

    # "Caption: the baker\u2019s sign \u201cOPEN \u2013 9\u201d" -> 'the baker's sign "OPEN \u2013 9"'
    """
    text = _strip_openings(" ".join(text.split()), from_model=True)
    if not ascii_punctuation:
        return text
    parts = re.split(f"({keep}|{QUOTED.pattern})", text)
    parts[::2] = map(to_ascii_punctuation, parts[::2])
    parts[1::2] = [f'"{part[1:-1]}"' if part[0] in "\u201c\u00ab" else part for part in parts[1::2]]
    return "".join(parts)


def _first_caption(lines: list[str]) -> list[str]:
    """Remove labels from lines; stop where a label starts another caption.

    # ["Title: A Cat", "Caption: It sits."] -> ["A Cat.", "It sits."]   ["It sits.", "Caption: A dog."] -> ["It sits."]
    """
    kept: list[str] = []
    labels: set[str] = set()
    for line in lines:
        label = _LABEL.match(line)
        if label and kept and (label[0] in labels or (not labels and kept[-1].endswith((".", "!", "?")))):
            break
        labels |= {label[0]} if label else set()
        kept.append(line[label.end() :] if label else line)
    return [*map(_end_sentence, kept)] if labels and len(lines) > 1 else kept


def _unwrap(text: str) -> str:
    """Return the content of a code fence, of tags, or of a JSON object with a single caption key."""
    text = _FENCED.sub(r"\1", text)
    if tagged := _TAGGED.search(text):
        text = tagged[2]
    if text.startswith("{") and text.endswith("}"):
        try:
            read = parse_json(text)
        except ValueError:
            return text
        match list(read.items()):
            case [(str(key), str(value))] if key.lower() in _JSON_KEYS:
                return value.strip()
    return text


def _strip_openings(caption: str, from_model: bool) -> str:
    """Remove introductions repeatedly: "Sure! Here is a caption: This image shows a cat"."""
    openings = (_ANNOUNCEMENT, _INTERJECTION, _LABEL) if from_model else (_ANNOUNCEMENT_STRICT, _LABEL_STRICT)
    before = None
    while caption != before:
        before = caption
        for opening in openings:
            caption = opening.sub("", caption.strip())
        caption = _strip_quotes(caption)
        if shown := (_MEDIA_SHOWS if from_model else _MEDIA_SHOWS_STRICT).match(caption):
            caption = caption[shown.end() :]
            caption = caption[:1].upper() + caption[1:]
    return caption


def strip_offers(text: str, from_model: bool) -> str:
    """Remove offers of further help at the end. Quoted text is ignored; an offer before more caption text stays."""
    seen = QUOTED.sub(lambda quote: f'"{"x" * (len(quote[0]) - 2)}"', text)
    for offer in _OFFER.finditer(seen):
        rest = seen[offer.start() :].strip()
        sentences = re.split(r"(?<=[.!?])\s+|\s*\n\s*", rest)
        if all(map(_ADDRESSES_READER.search, sentences)) and (from_model or _MENTIONS_CAPTION.search(rest)):
            return text[: offer.start()]
    return text


def _first_of_several(text: str) -> str:
    """# Here are two options: 1. A cat. 2. A dog. -> A cat."""
    announced = _ANNOUNCEMENT.match(text)
    if announced and announced["many"] and (first := _FIRST_OF_SEVERAL.match(text, announced.end())):
        return str(first[1] or first[2])
    return text


def to_ascii_punctuation(text: str) -> str:
    """Convert typographic punctuation to ASCII.

    # "a cat\u2019s tail\u2026" -> "a cat's tail..."
    """
    return _JOINERS.sub("", re.sub(r"\s*\u2014\s*", " - ", text).translate(_ASCII))


def _strip_markdown(text: str, from_model: bool) -> str:
    """Remove Markdown marks and keep the words; list items become sentences. Headings of a model are removed."""
    text = re.sub(r"^\s*```\w*\s*$|\\+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\[\]]+)\]\((?:https?:|/)[^)]*\)", r"\1", text)
    text = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<![\w*])([*_])(?=[^\s*_])([^*_\n]+?)(?<=\S)\1(?![\w*])", r"\2", text)
    is_list = all(re.search(rf"^\s*{number}[.)]\s", text, re.MULTILINE) for number in (1, 2))
    mark = re.compile(r"\s*(?:[-*+]\s+(?!\d)|\d{1,2}[.)]\s+)" if is_list else r"\s*[-*+]\s+(?!\d)")
    lines: list[str] = []
    headings = False  # whether headings above have text below them
    for line in reversed(text.splitlines()):
        if re.match(r"\s*(?:[-*_]\s*){3,}$", line):
            continue
        if from_model and headings and "." not in line and re.match(r"\s*#{1,6}\s+[^\W\d].{0,60}$", line):
            continue
        item = mark.sub("", line, count=1).rstrip() if mark.match(line) else line.rstrip()
        headings = headings or (bool(item.strip()) and not re.match(r"\s*#{1,6}\s", line))
        item = _end_sentence(item) if item != line.rstrip() else item
        lines.append(re.sub(r"^\s*(?:#{1,6}|>)\s+(?!\d)", "", item).replace("`", ""))
    return "\n".join(reversed(lines))


def _end_sentence(sentence: str) -> str:
    return f"{sentence}." if sentence[-1:].isalnum() else sentence


def _strip_quotes(caption: str) -> str:
    """Remove quotes that enclose the whole caption."""
    closing = _QUOTES.get(caption[:1])
    if closing is None or len(caption) < 3 or caption[-1:] != closing:
        return caption
    inside = caption[1:-1]
    return caption if caption[0] in inside or closing in inside.replace("'s", "").replace("n't", "") else inside.strip()


# Sentence ends. Initials and abbreviations are excluded later; "5 p.m. The" and a final "5 p.m." are ends.
_END = re.compile(
    r"(?<![\w.])(?P<word>[\w.]*)(?:[.!?]+(?:[\"')\]]+(?!\s+[a-z]))?(?=\s+(?P<next>\S)|\s*\Z)"
    r"|[\u3002\uff01\uff1f\u0964\u0965\u061f\u06d4]+[\u300d\u300f\u201d\uff09\")]*)"
)
_NEVER_FINAL = frozenset("Mr Mrs Ms Dr St Mt Prof Sgt Capt Lt Col Gen Rev Fig No vs e.g i.e approx ca".split())
_RARELY_FINAL = frozenset("a.m p.m etc Jr Sr Inc Ltd Co Corp ft Ave Blvd".split())


def to_last_sentence(caption: str) -> str:
    """Cut the caption after its last complete sentence; return it unchanged if there is none.

    # "A cat sits. It looks at the" -> "A cat sits."
    """
    end = None
    for found in _END.finditer(caption):
        word, after = found["word"].rstrip("."), found["next"] or ""
        is_capital = re.fullmatch(r"(?:[A-Z]\.)*[A-Z]", word)
        if not (is_capital or word in _NEVER_FINAL or (word in _RARELY_FINAL and after.islower())):
            end = found.end()
    return caption[:end]
