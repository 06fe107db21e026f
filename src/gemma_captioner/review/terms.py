"""The filter language: terms such as `flag:too_long`, `words>20` and `-"a phrase"`. All of them must match. Pure.

# cat -"black cat" words>20 -> the word, not the phrase, more than 20 words
"""

import operator
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from ..captions.flags import REJECTION_REASONS
from ..config.selection import FLAGS
from ..dataset.discover import matches as matches_glob
from ..errors import UsageError
from ..text import suggest
from .library import ReviewItem
from .patterns import compile_pattern, search
from .tags import split_tags

Matcher = Callable[[ReviewItem], bool]
ANY = "any"
WORD, EXPRESSION = "", "re"  # keys


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. source: as it was typed. operator: ":", ">", ">=", "<", "<=" or "="; "" for a word."""

    source: str
    key: str
    operator: str
    value: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Of a picture or clip. seconds: its duration, 0.0 for an image."""

    width: int
    height: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FilterContext:
    """What filters read beside the item itself.

    proposed: the numbers of items that have a new caption. count_tokens: None without a text encoder. sizes: the known
    ones, by item number. flags: those of the folder.
    """

    proposed: Container[int] = ()
    count_tokens: Callable[[str], int] | None = None
    sizes: Mapping[int, PixelSize] = field(default_factory=dict)
    flags: Container[str] = ()


# Parsing

_TOKEN = re.compile(
    r"(?<!\S)(?=\S)(?P<not>-?)(?:(?P<key>[A-Za-z_]\w*)(?P<operator>:?(?:[<>]=?|=)|:))?"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"?(?!\S)|(?P<bare>\S*))'
)


def parse(text: str, *, is_regex: bool = False) -> list[Term]:
    """Return the terms. is_regex: what has no known key is one regular expression, the last term.

    # -flag:any "a cat" -> ("flag", ":", "any", negated), ("", "", "a cat")
    """
    found = [(token, _term(token)) for token in _TOKEN.finditer(text)]
    if not is_regex:
        return [term for _, term in found]
    terms, rest, end = [], [], 0
    for token, term in found:
        if term.key in FILTERS:
            terms.append(term)
            rest.append(text[end : token.start()].strip())
            end = token.end()
    expression = " ".join(filter(None, [*rest, text[end:].strip()]))
    return [*terms, Term(expression, EXPRESSION, ":", expression)] if expression else terms


def _term(token: re.Match[str]) -> Term:
    source, key, sign, quoted = token[0], (token["key"] or "").lower(), token["operator"] or "", token["quoted"]
    value = token["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    if key in FILTERS or sign.startswith(":"):
        return Term(source, key, sign.removeprefix(":") or ":", value, bool(token["not"]))
    is_negated = bool(token["not"]) and source != "-"
    word = source.removeprefix("-") if is_negated else source  # 3>2 is a word
    return Term(source, WORD, "", word if quoted is None or key else value, is_negated)


def written(key: str, value: str, sign: str = ":") -> str:
    """# "state", "by hand" -> state:"by hand"      "words", "20", ">=" -> words>=20"""
    if re.search(r'[\s"\\]|^[<>=]', value):
        value = '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    return f"{key}{sign}{value}"


def joined(terms: Iterable[Term]) -> str:
    return " ".join(term.source for term in terms)


# Filters


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter, which a term names by its key.

    matcher: (term, context) -> function of an item. Raises `UsageError` with the term and what is allowed.
    """

    example: str
    help: str
    matcher: Callable[[Term, FilterContext], Matcher]


def compile_terms(terms: Iterable[Term], context: FilterContext) -> Matcher:
    """Return whether an item matches all terms. Raises `UsageError` that names the wrong term and what is allowed."""
    matchers = [_compile_term(term, context) for term in terms]
    return lambda entry: all(matcher(entry) for matcher in matchers)


def _compile_term(term: Term, context: FilterContext) -> Matcher:
    if term.key == WORD:
        matcher = _word(term.value.casefold())
    elif term.key in FILTERS:
        matcher = FILTERS[term.key].matcher(term, context)
    else:
        raise _refuse(term, f"unknown filter {term.key}. {suggest(term.key, FILTERS)}. Quote it to search for the text")
    return (lambda entry: not matcher(entry)) if term.is_negated else matcher


def _word(word: str) -> Matcher:
    return lambda entry: word in entry.caption.text.casefold() or word in entry.name.casefold()


def _expression(term: Term, context: FilterContext) -> Matcher:
    expression = compile_pattern(term.value, is_regex=True)
    return lambda entry: search(expression, entry.caption.text) or search(expression, entry.name)


def _refuse(term: Term, remedy: str) -> UsageError:
    return UsageError(f"{term.source}: {remedy}")


def _choice(
    choices: Mapping[str, Callable[[ReviewItem, FilterContext], bool]], term: Term, context: FilterContext
) -> Matcher:
    """# state:by-hand, state:"by hand" """
    chosen = choices.get(re.sub("[-_]", " ", term.value.lower()))
    if chosen is None or term.operator != ":":
        raise _refuse(term, f"give one of {', '.join(written(term.key, choice) for choice in choices)}")
    return lambda entry: chosen(entry, context)


def _flag(term: Term, context: FilterContext) -> Matcher:
    flag = term.value.lower()
    if term.operator != ":":
        return _number(lambda entry, context: len(entry.flags), term, context)
    if flag == ANY:
        return lambda entry: bool(entry.flags)
    if flag not in context.flags and flag not in KNOWN_FLAGS:
        raise _refuse(term, f"unknown flag. {suggest(flag, (ANY, *KNOWN_FLAGS))}")
    return lambda entry: flag in entry.flags


def _text(of: Callable[[ReviewItem, str], bool], term: Term, context: FilterContext) -> Matcher:
    value = term.value.casefold()
    if not value or term.operator != ":":
        raise _refuse(term, f"give some text, for example {FILTERS[term.key].example}")
    return lambda entry: of(entry, value)


_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "=": operator.eq, ":": operator.eq,
}  # fmt: skip


def _number(of: Callable[[ReviewItem, FilterContext], float | None], term: Term, context: FilterContext) -> Matcher:
    """An item without this number, such as a caption without a file, does not match."""
    if not re.fullmatch(r"\d+(\.\d+)?", term.value):
        signs = ", ".join(list(_COMPARE)[:5])
        raise _refuse(term, f"give a number after {signs}, for example {FILTERS[term.key].example}")
    compare, limit = _COMPARE[term.operator], float(term.value)

    def matches(entry: ReviewItem) -> bool:
        value = of(entry, context)
        return value is not None and compare(value, limit)

    return matches


def _tokens(term: Term, context: FilterContext) -> Matcher:
    if (count := context.count_tokens) is None:
        raise _refuse(term, "no text encoder is known: start the page with --target, for example --target sdxl")
    return _number(lambda entry, context: count(entry.caption.text), term, context)


def _of_size(number: Callable[[PixelSize], float]) -> Callable[[Term, FilterContext], Matcher]:
    def of(entry: ReviewItem, context: FilterContext) -> float | None:
        size = context.sizes.get(entry.number)
        return None if size is None else number(size)

    return partial(_number, of)


def _in_name(entry: ReviewItem, value: str) -> bool:
    return matches_glob(entry.name, [value]) if re.search(r"[*?\[]", value) else value in entry.name.casefold()


def _in_folder(entry: ReviewItem, value: str) -> bool:
    return f"{entry.folder}/".casefold().startswith(f"{value.rstrip('/')}/")


def _in_caption(entry: ReviewItem, value: str) -> bool:
    return value in entry.caption.text.casefold()


def _has_tag(entry: ReviewItem, value: str) -> bool:
    return " ".join(value.split()) in split_tags(entry.caption.text.casefold())


STATES: Mapping[str, Callable[[ReviewItem, FilterContext], bool]] = {
    "open": lambda entry, context: entry.caption.digest is not None and entry.decision is None,
    "approved": lambda entry, context: entry.decision == "approved",
    "rejected": lambda entry, context: entry.decision == "rejected",
    "uncaptioned": lambda entry, context: entry.caption.digest is None,
    "failed": lambda entry, context: entry.failure is not None or entry.access_error is not None,
    "recaptioned": lambda entry, context: entry.number in context.proposed,
    "by hand": lambda entry, context: entry.caption.digest is not None and entry.provenance is None,
}
_KINDS: Mapping[str, Callable[[ReviewItem, FilterContext], bool]] = {
    "image": lambda entry, context: entry.item.kind == "image",
    "clip": lambda entry, context: entry.item.kind == "clip",
}
KNOWN_FLAGS = tuple(dict.fromkeys((*REJECTION_REASONS, *FLAGS)))
SIZE_KEYS = frozenset(("size", "width", "height", "seconds"))  # which require that the media are opened

FILTERS: Mapping[str, Filter] = {
    "flag": Filter("flag:too_long", "captions with this flag; flag:any for any, flag>1 for several", _flag),
    "state": Filter("state:open", ", ".join(STATES), partial(_choice, STATES)),
    "kind": Filter("kind:clip", "images or clips", partial(_choice, _KINDS)),
    "words": Filter("words>20", "length in words", partial(_number, lambda entry, context: entry.caption.count)),
    "tokens": Filter("tokens>75", "length in tokens of the text encoder of --target", _tokens),
    "chars": Filter(
        "chars<100", "length in characters", partial(_number, lambda entry, context: len(entry.caption.text))
    ),
    "tags": Filter(
        "tags>30", "how many comma-separated tags", partial(_number, lambda e, context: len(split_tags(e.caption.text)))
    ),
    "size": Filter("size<512", "shorter side in pixels", _of_size(lambda size: min(size.width, size.height))),
    "width": Filter("width>=1024", "width in pixels", _of_size(lambda size: size.width)),
    "height": Filter("height>=1024", "height in pixels", _of_size(lambda size: size.height)),
    "seconds": Filter("seconds>5", "duration of a clip", _of_size(lambda size: size.seconds)),
    "name": Filter("name:day1/*.jpg", "part of a file name, or a glob", partial(_text, _in_name)),
    "folder": Filter("folder:day1", "in this folder", partial(_text, _in_folder)),
    "caption": Filter("caption:cat", "in captions, not in names", partial(_text, _in_caption)),
    "tag": Filter("tag:solo", "a whole tag of a comma-separated caption", partial(_text, _has_tag)),
    "re": Filter('re:"^a .* cat"', "a regular expression in captions and names", _expression),
    "mark": Filter("mark:red", "shows all, with this text highlighted", partial(_text, lambda entry, value: True)),
}
# Terms without a key, for the list of all terms.
PLAIN_TERMS = (
    ("cat", "in captions and names"),
    ('"a red cat"', "these words in this order"),
    ("-cat", "not this; works with every term"),
)


def highlighted(terms: Iterable[Term]) -> list[str]:
    """The texts that the terms search for in captions.

    # cat -dog mark:red words>3 -> cat, red
    """
    keys = (WORD, "caption", "tag", "mark")
    return list(dict.fromkeys(t.value for t in terms if t.key in keys and t.value and not t.is_negated))
