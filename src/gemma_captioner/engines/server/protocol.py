"""What is sent to a server and what its replies mean. Pure: knows nothing of connections, and of no server by name.

Messages and status codes that decide something are those of vLLM, SGLang, llama.cpp, Ollama, LM Studio, transformers
serve, OpenAI, OpenRouter and Gemini; tests/test_server_protocol.py has them word for word.
"""

import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from ...records import FinishReason, Request
from ...settings import Order

FRAMES_HERE = "<start_of_image>"  # in a prompt: where the frames go, whatever the order


@dataclass(frozen=True, slots=True)
class Form:
    """What every request of a session has in common. time: how a frame's is told, "[{}]", None where it is not."""

    model: str
    mime: str
    order: Order
    system: str
    time: str | None


def body(
    form: Form, request: Request, pictures: Sequence[Sequence[bytes]], places: Sequence[int], left_out: Collection[str]
) -> bytes:
    """The JSON of a request. pictures: base64, of each example's frames and of its own; places: which of its own go.

    It is put together from bytes: a JSON encoder would look at every character of megabytes of base64.
    """
    parameters: dict[str, Any] = {"max_tokens": request.max_new_tokens, "temperature": request.temperature}
    if request.temperature > 0:
        parameters["seed"] = request.seed & 0x7FFFFFFF  # some read it as a signed 32-bit number
    if "max_tokens" in left_out:
        parameters["max_completion_tokens"] = request.max_new_tokens  # what it is called since
    parameters = {"model": form.model} | {k: v for k, v in parameters.items() if k not in left_out}
    messages = [_json({"role": "system", "content": form.system})] if form.system else []
    for example, shown in zip(request.examples, pictures, strict=False):
        times_s = example.frames.times_s if example.frames else ()
        messages += [_question(form, example.prompt, shown, times_s)]
        messages += [_json({"role": "assistant", "content": example.answer})]
    own, times_s = pictures[-1], request.frames.times_s
    messages += [_question(form, request.prompt, [own[i] for i in places], [times_s[i] for i in places])]
    return _json(parameters)[:-1] + b',"messages":[' + b",".join(messages) + b"]}"


def _question(form: Form, prompt: str, pictures: Sequence[bytes], times_s: Sequence[float]) -> bytes:
    media: list[str | bytes] = []
    for picture, time_s in zip(pictures, times_s, strict=True):
        if form.time is not None and len(pictures) > 1:
            media.append(form.time.format(f"{int(time_s) // 60:02d}:{int(time_s) % 60:02d}"))
        media.append(picture)
    parts = [*media, prompt] if form.order == "media-first" else [prompt, *media]
    before, marked, after = prompt.partition(FRAMES_HERE)
    if marked:
        parts = [before, *media, after]
    said = b",".join(_part(part, form.mime) for part in parts if part)
    return b'{"role":"user","content":[' + said + b"]}"


def _part(part: str | bytes, mime: str) -> bytes:
    if isinstance(part, str):
        return _json({"type": "text", "text": part})
    return b'{"type":"image_url","image_url":{"url":"data:' + mime.encode() + b";base64," + part + b'"}}'


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()


# Replies


@dataclass(frozen=True, slots=True)
class Answer:
    """Tokens are 0 where the server does not count them."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int


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


class _Part(BaseModel):
    type: str = "text"
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    reasoning: Any = None  # vLLM, OpenRouter
    reasoning_content: Any = None  # SGLang, llama.cpp, transformers


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(BaseModel):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_CUT_OFF = ("length", "max_tokens", "model_length")
_THOUGHTS = (("<think>", "</think>"), ("<|channel>", "<channel|>"))  # where a server leaves them in the text
_TURN_ENDS = re.compile(r"<end_of_turn>|<turn\|>|<eos>")  # where it does not stop at them, or shows them


def read_reply(text: str) -> Answer | Trouble:
    """The body of a reply with status 200."""
    try:
        reply = _Reply.model_validate_json(_in_one_piece(text))
    except (ValidationError, ValueError, TypeError, LookupError, AttributeError):
        return Trouble("again", f"the reply is none that the protocol knows: {_line(text)}")
    if reply.error:
        code = reply.error.get("code") if isinstance(reply.error, dict) else None
        return refusal(code if isinstance(code, int) else 500, reply.error)
    if not reply.choices:
        return Trouble("again", f"the reply has no choices: {_line(text)}")
    choice = reply.choices[0]
    if choice.finish_reason == "content_filter":
        return Trouble("refused", "the server's filter withheld the answer")
    if choice.finish_reason in ("error", "abort"):
        return Trouble("again", "the server broke the answer off")
    content = choice.message.content or ""
    said = content if isinstance(content, str) else "".join(p.text for p in content if p.type.endswith("text"))
    for opening, closing in _THOUGHTS:
        said = said.rpartition(closing)[2].partition(opening)[0]
    if not said.strip() and (content or choice.message.reasoning or choice.message.reasoning_content):
        return Trouble("refused", "the answer is reasoning alone: turn it off in the server, or raise --max-new-tokens")
    ended = _TURN_ENDS.search(said)
    cut_off = choice.finish_reason in _CUT_OFF and ended is None
    usage = reply.usage or _Usage()
    return Answer(
        said[: ended.start()] if ended else said,
        "length" if cut_off else "stop",
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
    )


def _in_one_piece(text: str) -> str:
    """A reply that is streamed although nobody asked for it, as one that is not."""
    if not text.startswith("data:"):
        return text
    said, finish_reason = "", None
    for line in text.splitlines():
        if line.startswith("data:") and (data := line.removeprefix("data:").strip()) != "[DONE]":
            for choice in json.loads(data)["choices"][:1]:
                said += choice["delta"].get("content") or ""
                finish_reason = choice.get("finish_reason") or finish_reason
    if finish_reason is None:
        raise ValueError("the stream breaks off")
    return json.dumps({"choices": [{"message": {"content": said}, "finish_reason": finish_reason}]})


# Refusals

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
            return f"{_line(message)} [{code}]" if isinstance(code, str) else _line(message)
        case [{"loc": [*place], "msg": message}, *_]:  # pydantic's own
            return _line(f"{'.'.join(map(str, place))}: {message}")
        case _:
            return _line(said if isinstance(said, str) else json.dumps(said))


def _line(text: str) -> str:
    text = " ".join(re.sub(r"<[^>]*>", " ", text).split())  # an HTML page of a proxy
    return text if len(text) <= 300 else text[:300] + "..."


def _name(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
