"""Classifies a server's error responses. Pure.

The status codes and messages come from vLLM, SGLang, llama.cpp, Ollama, transformers serve, OpenAI, OpenRouter, Mistral
and Gemini: see tests/data/refusals.jsonl.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal

ApiFailureKind = Literal[
    "down",  # no server is listening: wait for it
    "busy",  # overloaded: retry later, with fewer concurrent requests
    "transient",  # retry
    "parameter",  # rejected because of an optional parameter: retry without it
    "too_large",  # rejected as too large: retry with fewer frames
    "refused",  # this request always fails
    "key",  # every request with this key fails
    "model",  # every request with this model or URL fails
    "setup",  # every request fails until the server is started differently
]


@dataclass(frozen=True, slots=True)
class ApiFailure:
    """A request without an answer."""

    kind: ApiFailureKind
    message: str  # the server's reason, on one line
    retry_after_s: float | None = None
    parameter: str = ""  # the rejected parameter
    remedy: str = ""  # for "setup"
    status: int = 0  # of an error response, 200 if a reply is no chat completion; else 0


_STATUS_KINDS: Mapping[int, ApiFailureKind] = {
    401: "key",
    402: "key",
    403: "key",
    404: "model",
    408: "busy",
    409: "transient",
    413: "too_large",
    425: "transient",
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
# A server without structured outputs, or one whose grammar library does not know a keyword of the schema.
_RESPONSE_FORMAT_PATTERN = re.compile(
    r"response_?format|json_schema|JSON schema|\bgrammar\b|structured output", re.IGNORECASE
)
_SETUP_ERRORS: Sequence[tuple[re.Pattern[str], str]] = (  # errors that a retry cannot cure, and the remedy
    (
        re.compile(r"image input is not supported|\bmmproj\b", re.IGNORECASE),
        "start llama-server with the projector too (--mmproj FILE), or with -hf, which loads both",
    ),
    (
        re.compile(r"not a multimodal model|at most 0 image|does not support image|no image input", re.IGNORECASE),
        "serve a Gemma checkpoint with vision",
    ),
    (
        re.compile(r"max_tokens=\d+ cannot be greater than"),
        "use a smaller --max-new-tokens, or start the server with a larger context",
    ),
    (
        re.compile(r"prompt placeholders|has no attribute|can only concatenate|chat.?template|jinja", re.IGNORECASE),
        "its chat template cannot read the messages. vLLM: start it with --chat-template-content-format openai; "
        "others: with the chat template of the original model",
    ),
)
_OPTIONAL_PARAMETER_PATTERN = re.compile(r"\b(max_completion_tokens|max_tokens|temperature|seed)\b")


def classify_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> ApiFailure:
    """Classify a response with a status other than 200. body: its parsed JSON, else its text."""
    text = f"{_error_text(body)} ({status} {_status_phrase(status)})".strip()
    kind = _STATUS_KINDS.get(status, "transient" if status >= 500 else "refused")
    parameter = remedy = ""
    if status in (400, 422, 500):
        remedy = next((remedy for pattern, remedy in _SETUP_ERRORS if pattern.search(text)), "")
    if remedy:
        kind = "setup"
    elif status in (400, 422, 500) and _TOO_LARGE_PATTERN.search(text):
        kind = "too_large"
    elif status in (400, 422, 500, 501) and _RESPONSE_FORMAT_PATTERN.search(text):
        kind, parameter = "parameter", "response_format"
    elif status in (400, 422):
        if _UNKNOWN_PARAMETER_PATTERN.search(text) and (named := _OPTIONAL_PARAMETER_PATTERN.search(text)):
            parameter = named[0]  # the first one: the message may suggest another as the replacement
        kind = "parameter" if parameter else "model" if _MODEL_NOT_FOUND_PATTERN.search(text) else "refused"
    elif status == 429 and "insufficient_quota" in text:
        kind = "key"
    return ApiFailure(kind, text, retry_after((headers or {}).get("retry-after")), parameter, remedy, status)


def retry_after(header: str | None) -> float | None:
    """Parse the retry-after header, which holds seconds or a date. Return seconds from now."""
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
    """Extract the readable message from an error's body, with its `code` or `type`."""
    match body:
        case {"error": inner} | {"detail": inner} | [{"error": _} as inner]:
            return _error_text(inner)
        case {"message": str(message), **rest}:
            code = rest.get("code") or rest.get("type")
            return f"{shorten_to_one_line(message)} [{code}]" if isinstance(code, str) else shorten_to_one_line(message)
        case [{"loc": [*place], "msg": message}, *_]:  # a validation error of FastAPI
            return shorten_to_one_line(f"{'.'.join(map(str, place))}: {message}")
        case _:
            return shorten_to_one_line(body if isinstance(body, str) else json.dumps(body))


def shorten_to_one_line(text: str) -> str:
    text = " ".join(re.sub(r"<[^>]*>", " ", text).split())  # removes the tags of a proxy's HTML page
    return text if len(text) <= 300 else text[:300] + "..."


def _status_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
