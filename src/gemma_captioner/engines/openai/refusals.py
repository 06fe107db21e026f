"""What it means that a server does not answer. Pure: knows no server by name.

Messages and status codes that decide something are those of vLLM, SGLang, llama.cpp, Ollama, transformers serve,
OpenAI, OpenRouter, Mistral and Gemini: tests/data/refusals.jsonl.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal

TroubleKind = Literal[
    "down",  # nobody listens: wait for it
    "busy",  # later, and fewer at once
    "again",  # it may go well the next time
    "parameter",  # refused for a parameter that can be left out
    "too_much",  # refused, and fewer frames may be taken
    "refused",  # this request, however often it is asked
    "key",  # nothing will be answered with this key
    "model",  # nor with this model or URL
]


@dataclass(frozen=True, slots=True)
class Trouble:
    """No answer. said: why, in the server's words, one line. parameter: the one to leave out."""

    kind: TroubleKind
    said: str
    retry_after_s: float | None = None
    parameter: str = ""


_KINDS: Mapping[int, TroubleKind] = {
    401: "key",
    402: "key",
    403: "key",
    404: "model",
    408: "busy",
    409: "again",
    413: "too_much",
    425: "again",
    429: "busy",
    502: "busy",
    503: "busy",
    504: "busy",
    529: "busy",
}
_TOO_MUCH = re.compile(
    r"context.?(length|size|window)|maximum model length|max(imum)? (input|prompt)|prompt is too long"
    r"|input.{0,20}too (long|large)|at most \d+ image|too many images|input token count",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"unknown|unsupported|unexpected|unrecogni[sz]ed|not supported|does not support|not permitted|not allowed|forbidden"
    r"|cannot find field",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model \S+ (was |is )?(not found|does not exist|not loaded)|is pinned to", re.IGNORECASE)
_PARAMETER = re.compile(r"\b(max_completion_tokens|max_tokens|temperature|seed)\b")  # what can be left out


def refusal(status: int, said: object, headers: Mapping[str, str] | None = None) -> Trouble:
    """What a status other than 200 means. said: its body, JSON where it is any."""
    words = f"{_words(said)} ({status} {_name(status)})".strip()
    kind = _KINDS.get(status, "again" if status >= 500 else "refused")
    parameter = ""
    if status in (400, 422, 500) and _TOO_MUCH.search(words):
        kind = "too_much"
    elif status in (400, 422):
        if _UNKNOWN.search(words) and (named := _PARAMETER.search(words)):
            parameter = named[0]  # the first: another one may be named as its remedy
        kind = "parameter" if parameter else "model" if _NO_MODEL.search(words) else "refused"
    elif status == 429 and "insufficient_quota" in words:
        kind = "key"
    return Trouble(kind, words, retry_after((headers or {}).get("retry-after")), parameter)


def retry_after(header: str | None) -> float | None:
    """Seconds from now; the header holds them, or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(header)
        return max(0.0, then.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _words(said: object) -> str:
    """What a person wants of an error's body, in whatever way it is wrapped. `error.code` and `.type` tell, too."""
    match said:
        case {"error": inner} | {"detail": inner} | [{"error": _} as inner]:
            return _words(inner)
        case {"message": str(message), **rest}:
            code = rest.get("code") or rest.get("type")
            return f"{one_line(message)} [{code}]" if isinstance(code, str) else one_line(message)
        case [{"loc": [*place], "msg": message}, *_]:  # pydantic's own
            return one_line(f"{'.'.join(map(str, place))}: {message}")
        case _:
            return one_line(said if isinstance(said, str) else json.dumps(said))


def one_line(text: str) -> str:
    text = " ".join(re.sub(r"<[^>]*>", " ", text).split())  # an HTML page of a proxy
    return text if len(text) <= 300 else text[:300] + "..."


def _name(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
