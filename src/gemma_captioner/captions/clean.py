"""A raw reply -> the caption: one line, and nothing in it but the caption. Pure.

What is taken away is only what surrounds a caption; the raw reply stays in the journal.
"""

import re

# What a chat template writes, and thinking aloud between its marks.
_THINKING = re.compile(r"<\|channel>.*?<channel\|>|<think>.*?</think>", re.DOTALL)
_TEMPLATE = re.compile(
    r"</?(?:start_of_turn|end_of_turn|bos|eos|pad|unk|s|start_of_image|end_of_image)>|<\|\w+\|?>|<\w+\|>"
)
_ROLE = re.compile(r"\A\s*(?:model|assistant)\s*[:\n]\s*")

_KIND = r"(?:image|picture|photo|photograph|video|clip|footage|frames?|scene|animation)"
_ADJECTIVES = r"(?:[\w-]+(?:,\s|\s)){0,6}?"
_NAMES = r"(?:captions?|descriptions?|summary|prompt|options|versions|image|video)"
# "Here's a detailed, single-line caption for the image:"
_ANNOUNCED = re.compile(
    rf"\A(?:(?:sure|okay|ok|certainly|absolutely|of course|alright|great)\b[,!.]*\s*)?"
    rf"(?:here(?:'s| is| are)|this is|below is|the following is)\s+{_ADJECTIVES}{_NAMES}\b[^:\n.]{{0,160}}:\s*",
    re.IGNORECASE,
)
_EAGER = re.compile(r"\A(?:sure|okay|ok|certainly|absolutely|of course|alright)\b[,!.:]+\s+", re.IGNORECASE)
# "**Caption:**", "Image description:", "Option 1 (Concise):"
_LABEL = re.compile(
    rf"\A(?:(?:{_ADJECTIVES}{_NAMES})|option\s+\d+(?:\s*\([^)]*\))?)\s*[:\u2013\u2014-]\s+(?=\S)", re.IGNORECASE
)
_LABEL_LINE = re.compile(rf"\A(?:{_ADJECTIVES}{_NAMES}|option\s+\d+(?:\s*\([^)]*\))?)\s*:?\Z", re.IGNORECASE)
_ANOTHER_OPTION = re.compile(r"^\W*option\s+[2-9]\b.*", re.IGNORECASE | re.DOTALL | re.MULTILINE)
# "This image shows a cat": what follows must be able to stand alone.
_SHOWS = re.compile(
    rf"\A(?:(?:the|this)\s+(?:short\s+|provided\s+|given\s+)?{_KIND}\s+"
    r"(?:shows|depicts|features|captures|presents|displays|showcases|portrays|illustrates|is of|contains)\s+"
    rf"|in\s+(?:the|this)\s+(?:short\s+)?{_KIND},?\s+(?:there (?:is|are)\s+|we (?:can )?see\s+|you can see\s+)?)"
    r"(?!how\b|that\b|what\b|no\b|nothing\b|off\b)(?=\w)",
    re.IGNORECASE,
)
_OFFER = re.compile(
    r"(?:\A|(?<=[.!?\")*])\s+|\n\s*)(?:let me know\b|would you like (?:me|a|another)\b|do you want me\b|i hope this\b|"
    r"feel free to\b|if you(?:'d| would) like (?:me|a|another|more)\b|please let me know\b|i can also\b|"
    r"is there anything else\b|to help me (?:refine|improve|give)\b).*\Z",
    re.IGNORECASE | re.DOTALL,
)
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb", "`": "`"}
_ASCII = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"',
        "\u201e": '"', "\u00ab": '"', "\u00bb": '"', "\u2033": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-",
        "\u2013": "-", "\u2212": "-", "\u2026": "...", "\u2022": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
        "\u200b": "", "\u200c": "", "\u200d": "", "\ufeff": "", "\u00ad": "", "\u2028": "\n", "\u2029": "\n",
    }
)  # fmt: skip


def dressed(caption: str, *, trigger: str = "", prefix: str = "", suffix: str = "") -> str:
    """With them put in, each once; "" stays "".

    # "A red circle.", trigger "ohwx" -> "ohwx A red circle."
    """
    if not caption:
        return ""
    if trigger and not re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption):
        caption = f"{trigger} {caption}"
    # Of what is put around it only the line breaks go: a prefix's own trailing space separates it.
    prefix = "" if prefix.strip() and caption.startswith(prefix.strip()) else prefix
    suffix = "" if suffix.strip() and caption.endswith(suffix.strip()) else suffix
    line = " ".join(f"{prefix}{caption}{suffix}".splitlines()).strip()
    return line.encode("utf-8", "replace").decode()  # a file name's stray bytes are no text


def bare(raw: str, *, ascii_punctuation: bool = True) -> str:
    """What the model said of the media, on one line, without what models say around it; "" where it says nothing.

    # "Here is a caption:\\n\\n**A red circle.**\\nLet me know!" -> "A red circle."
    """
    text = _ROLE.sub("", _TEMPLATE.sub(" ", _THINKING.sub(" ", raw)).strip())
    if ascii_punctuation:
        text = plain(text)
    text = _without_markdown(_ANOTHER_OPTION.sub("", text))
    text = _OFFER.sub("", text.strip())
    lines = (" ".join(line.split()) for line in text.splitlines())
    caption = " ".join(line for line in lines if line and not _LABEL_LINE.match(line))
    before = None
    while caption != before:  # "Sure! Here is a caption: This image shows a cat": one after the other
        before = caption
        for opening in (_ANNOUNCED, _EAGER, _LABEL):
            caption = opening.sub("", caption.strip())
        caption = _unquoted(caption)
        if shown := _SHOWS.match(caption):
            caption = caption[shown.end() :]
            caption = caption[:1].upper() + caption[1:]
    return re.sub(r"\s+([,.;:!?])(?=\s|\Z)", r"\1", caption).strip()


def plain(text: str) -> str:
    """Typographic punctuation to ASCII.

    # "a cat\u2019s tail\u2026" -> "a cat's tail..."
    """
    return re.sub(r"\s*\u2014\s*", " - ", text).translate(_ASCII)


def _without_markdown(text: str) -> str:
    """Marks gone, the words kept; list items become sentences of one paragraph."""
    text = re.sub(r"^\s*```\w*\s*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\((?:https?:|/)[^)]*\)", r"\1", text)
    text = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<![\w*])([*_])(?=[^\s*_])([^*_\n]+?)(?<=\S)\1(?![\w*])", r"\2", text)
    lines = []
    for line in text.splitlines():
        if re.match(r"\s*(?:[-*_]\s*){3,}$", line) or (re.match(r"\s*#{1,6}\s+\S.{0,60}$", line) and "." not in line):
            continue  # a rule, or a heading that is no sentence
        item = re.sub(r"^\s*(?:[-*+]\s+|\d{1,2}[.)]\s+(?=[A-Z]))", "", line).rstrip()
        if item != line.rstrip() and item[-1:].isalnum():
            item += "."
        lines.append(re.sub(r"^\s*(?:#{1,6}|>)\s+", "", item).replace("`", ""))
    return "\n".join(lines)


def _unquoted(caption: str) -> str:
    """Without quotes that enclose all of it, and only those."""
    closing = _QUOTES.get(caption[:1])
    if closing is None or len(caption) < 3 or caption[-1:] != closing:
        return caption
    inside = caption[1:-1]
    return caption if caption[0] in inside or closing in inside.replace("'s", "").replace("n't", "") else inside.strip()


def to_last_sentence(caption: str) -> str:
    """Cut back to where its last whole sentence ends; as it is where it holds none.

    # "A cat sits. It looks at the" -> "A cat sits."
    """
    ends = [m.end() for m in re.finditer(r"(?<!\b[A-Z])(?<!\b(?:Mr|Dr|St|vs))[.!?][\"')\]]*(?=\s|\Z)", caption)]
    return caption[: ends[-1]] if ends else caption
