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

ApiFailureKind = Literal[
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
class ApiFailure:
    """No answer. message: why, in the server's words, one line. parameter: the one to leave out."""

    kind: ApiFailureKind
    message: str
    retry_after_s: float | None = None
    parameter: str = ""


_STATUS_KINDS: Mapping[int, ApiFailureKind] = {
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
_TOO_LARGE_PATTERN = re.compile(
    r"context.?(length|size|window)|maximum model length|max(imum)? (input|prompt)|prompt is too long"
    r"|input.{0,20}too (long|large)|at most \d+ image|too many images|input token count",
    re.IGNORECASE,
)
_UNKNOWN_PARAMETER_PATTERN = re.compile(
    r"unknown|unsupported|unexpected|unrecogni[sz]ed|not supported|does not support|not permitted|not allowed|forbidden"
    r"|cannot find field",
    re.IGNORECASE,
)
_MODEL_NOT_FOUND_PATTERN = re.compile(
    r"model \S+ (was |is )?(not found|does not exist|not loaded)|is pinned to", re.IGNORECASE
)
_OPTIONAL_PARAMETER_PATTERN = re.compile(
    r"\b(max_completion_tokens|max_tokens|temperature|seed)\b"
)  # what can be left out


def classify_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> ApiFailure:
    """What a status other than 200 means. body: its body, JSON where it is any."""
    text = f"{_error_text(body)} ({status} {_status_phrase(status)})".strip()
    kind = _STATUS_KINDS.get(status, "again" if status >= 500 else "refused")
    parameter = ""
    if status in (400, 422, 500) and _TOO_LARGE_PATTERN.search(text):
        kind = "too_much"
    elif status in (400, 422):
        if _UNKNOWN_PARAMETER_PATTERN.search(text) and (named := _OPTIONAL_PARAMETER_PATTERN.search(text)):
            parameter = named[0]  # the first: another one may be named as its remedy
        kind = "parameter" if parameter else "model" if _MODEL_NOT_FOUND_PATTERN.search(text) else "refused"
    elif status == 429 and "insufficient_quota" in text:
        kind = "key"
    return ApiFailure(kind, text, retry_after((headers or {}).get("retry-after")), parameter)


def retry_after(header: str | None) -> float | None:
    """Seconds from now; the header holds them, or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _error_text(body: object) -> str:
    """What a person wants of an error's body, in whatever way it is wrapped. `error.code` and `.type` tell, too."""
    match body:
        case {"error": inner} | {"detail": inner} | [{"error": _} as inner]:
            return _error_text(inner)
        case {"message": str(message), **rest}:
            code = rest.get("code") or rest.get("type")
            return f"{one_line(message)} [{code}]" if isinstance(code, str) else one_line(message)
        case [{"loc": [*place], "msg": message}, *_]:  # pydantic's own
            return one_line(f"{'.'.join(map(str, place))}: {message}")
        case _:
            return one_line(body if isinstance(body, str) else json.dumps(body))


def one_line(text: str) -> str:
    text = " ".join(re.sub(r"<[^>]*>", " ", text).split())  # an HTML page of a proxy
    return text if len(text) <= 300 else text[:300] + "..."


def _status_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
