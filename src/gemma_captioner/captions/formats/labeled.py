"""MiniMax H3: three labeled paragraphs.

Rules: MiniMax-AI/MiniMax-H3 8d8824e, skills/h3-prompt-writing/references/base-en.txt.
"""

import re
from itertools import pairwise

from ...text import encodable
from ..clean import apply_affixes, strip_offers
from .base import FormatError
from .json_text import parse_object
from .schema import JSONObject, Object

DESCRIPTION, SOUNDSCAPE, MUSIC = (
    "integrated_multimodal_description",
    "overall_soundscape",
    "non_diegetic_music",
)
_FIELDS = (DESCRIPTION, SOUNDSCAPE, MUSIC)
_NAMES = "|".join(name.replace("_", "[ _-]") for name in _FIELDS)
# "**Overall Soundscape:**" at the beginning of a line, "overall_soundscape:" anywhere
_LABEL = re.compile(
    rf"(?:^[ \t>*_#-]*(?i:(?P<title>{_NAMES}))|(?<=\s)(?P<name>{'|'.join(_FIELDS)}))[*_]*\s*:[*_]*\s*", re.MULTILINE
)
_FENCED = re.compile(r"^\s*```\w*\s*$(.*?)^\s*```\s*$", re.MULTILINE | re.DOTALL)
# The first line of a prompt with a first or last frame.
_INSTRUCTION = re.compile(r"^(?:For the target video,|How the reference pictures align).*$", re.MULTILINE)
_DIALOGUE = r"<d>[^<>]*(?:<(?:scenetrans|cutoff)>[^<>]*)*</d>"
_NOTHING = re.compile(r"\W*(?:n/a|none|silence|no music)\W*", re.IGNORECASE)
_SHOT = re.compile(
    r"\[shot\s*(?P<number>\d+)\](?P<time>\s+at\s+(?:(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?)(?!\s*[ap]\.?m)"
    r"|(?P<only_seconds>\d+(?:\.\d+)?)\s*s(?:ec(?:ond)?s?)?\b),?)?\s*",
    re.IGNORECASE,
)
_SPEAKER = re.compile(r"\(\s*(?:speakers?|s)\s*(\d+(?:\s*(?:,|and|&)\s*(?:s|speaker)?\s*\d+)*)\s*\)", re.IGNORECASE)
_SPOKEN_IN_QUOTES = re.compile(r"\b(?:says|asks|shouts|whispers|answers|replies|sings)(?:\s\w+){0,2}[:,]\s*\"")


class H3(JSONObject):
    """Three fields, in order, each at the beginning of a line, with blank lines between them."""

    is_one_line = False
    keep = _DIALOGUE

    def _read(self, text: str) -> Object:
        if text.lstrip("`json \n").startswith("{"):
            return self._normalize(parse_object(text))
        if (fenced := _FENCED.search(text)) and _LABEL.search(fenced[1]):
            text = fenced[1]  # what follows is a remark
        text = re.sub(r"^\s*```\w*\s*$", "", text, flags=re.MULTILINE)
        labels = list(_LABEL.finditer(text))
        if not labels:
            raise FormatError(f"expected three paragraphs that start with {', '.join(f'{name}:' for name in _FIELDS)}")
        ends = [*(label.start() for label in labels[1:]), len(text)]
        fields: Object = {}
        if instruction := _INSTRUCTION.search(text, 0, labels[0].start()):
            fields["instruction"] = instruction[0].strip()
        for label, end in zip(labels, ends, strict=True):
            name = (label["title"] or label["name"]).lower().replace(" ", "_").replace("-", "_")
            if name in fields:
                raise FormatError(f"{name}: appears twice")
            fields[name] = strip_offers(text[label.end() : end].strip(), True).strip("*_ \n")
        return self._normalize(fields)

    def text_outside(self, text: str) -> str:
        label = _LABEL.search(text)
        return _INSTRUCTION.sub("", text[: label.start()]).strip("`\n ") if label else ""

    def _normalize(self, fields: Object) -> Object:
        for name in (SOUNDSCAPE, MUSIC):
            if isinstance(fields.get(name), str) and _NOTHING.fullmatch(fields[name]):
                fields[name] = "N/A"
        if isinstance(fields.get(DESCRIPTION), str):
            fields[DESCRIPTION] = _normalize_shots(" ".join(fields[DESCRIPTION].split()))
        return fields

    def _problems(self, content: Object, duration_s: float | None) -> list[str]:
        description = content[DESCRIPTION]
        problems = [*_shot_problems(description, duration_s), *_dialogue_problems(description)]
        problems += [f"{name}: no <d> here" for name in (SOUNDSCAPE, MUSIC) if "<d>" in content[name]]
        return problems

    def texts(self, content: Object) -> list[str]:
        visible = _SHOT.sub("", re.sub(_DIALOGUE, " ", content[DESCRIPTION]))
        return [visible, *(content[name] for name in (SOUNDSCAPE, MUSIC) if content[name] != "N/A")]

    def _with_affixes(self, text: str, *, trigger: str, prefix: str, suffix: str) -> str:
        """# "[Shot 1] A pier.", trigger ohwx -> "[Shot 1] ohwx A pier." """
        head, _, body = text.partition("] ")
        return f"{head}] {apply_affixes(body, trigger=trigger, prefix=prefix, suffix=suffix)}"

    def render(self, content: Object) -> str:
        fields = [f"{name}: {content[name]}" for name in _FIELDS]
        return encodable("\n\n".join([content["instruction"], *fields] if "instruction" in content else fields))


def _normalize_shots(text: str) -> str:
    """Write shots, times, speakers and dialogue in the usual form.

    # "[shot 2] at 2.5 seconds, the man (Speaker 1)" -> "[Shot 2] At 00:02.500, the man (S1)"
    """
    text = re.sub(r"[*_]*(\[shot\s*\d+\])[*_]*", r"\1", text, flags=re.IGNORECASE)  # bold
    if not re.match(r"\[shot\s*\d+\]", text, re.IGNORECASE):
        text = f"[Shot 1] {text}"
    if (first := _SHOT.match(text)) and _time_s(first) == 0:
        text = f"[Shot 1] {text[first.end() :][:1].upper()}{text[first.end() + 1 :]}"
    text = _SHOT.sub(_shot_text, text)
    text = _SPEAKER.sub(lambda ids: f"({','.join(f'S{number}' for number in _numbers(ids[1]))})", text)
    return re.sub(r"(<d>\[[^\]]+\])\s*[\"\u201c](.*?)[\"\u201d]\s*</d>", r"\1 \2</d>", text)


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)


def _shot_text(shot: re.Match[str]) -> str:
    number, time_s = int(shot["number"]), _time_s(shot)
    if time_s is None:
        return f"[Shot {number}] "
    return f"[Shot {number}] At {int(time_s // 60):02d}:{time_s % 60:06.3f}, "


def _time_s(shot: re.Match[str]) -> float | None:
    return (
        None
        if shot["time"] is None
        else 60 * int(shot["minutes"] or 0) + float(shot["seconds"] or shot["only_seconds"])
    )


def _shot_problems(description: str, duration_s: float | None) -> list[str]:
    shots = [(int(shot["number"]), _time_s(shot)) for shot in _SHOT.finditer(description)]
    problems = []
    if shots[0] != (1, None):
        problems.append("the first shot is [Shot 1], without a time")
    for (before, earlier_s), (number, time_s) in pairwise(shots):
        name = f"[Shot {number}]"
        if number != before + 1:
            problems.append(f"{name} follows [Shot {before}]: number the shots 1, 2, 3")
        elif time_s is None:
            problems.append(f"{name} needs the time of its cut: {name} At MM:SS.mmm,")
        elif time_s <= (earlier_s or 0):
            problems.append(f"{name}: its time must be after that of the shot before")
        elif duration_s is not None and time_s >= duration_s:
            problems.append(f"{name} is cut at {time_s:g} s, but the clip ends at {duration_s:g} s")
    return problems


def _dialogue_problems(description: str) -> list[str]:
    problems = []
    spoken = list(re.finditer(_DIALOGUE, description))
    if not len(spoken) == description.count("<d>") == description.count("</d>"):
        problems.append("every <d> needs its </d>, with nothing but the spoken words between")
    if not all(re.match(r"<d>\[[^\]\[<>]+\] ?\S", dialogue[0]) for dialogue in spoken):
        problems.append("dialogue starts with its language: <d>[English] words</d>")
    named = [int(number) for ids in re.findall(r"\(S\d+(?:,S\d+)*\)", description) for number in _numbers(ids)]
    if spoken and (not named or description.index("(S") > spoken[0].start()):
        problems.append("whoever speaks needs an id before the words, such as (S1)")
    if named and set(named) != set(range(1, max(named) + 1)):
        problems.append("speakers are numbered (S1), (S2), (S3), without gaps")
    if _SPOKEN_IN_QUOTES.search(re.sub(_DIALOGUE, " ", description)):
        problems.append("write spoken words as <d>[English] words</d>, not in quotes")
    return problems
