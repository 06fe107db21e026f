"""What a server's replies say, in whichever of the protocol's dialects. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ...records import FinishReason
from .refusals import Trouble, one_line, refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """Tokens are 0 where the server does not count them."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int


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
        return Trouble("again", f"the reply is none that the protocol knows: {one_line(text)}")
    if reply.error:
        code = reply.error.get("code") if isinstance(reply.error, dict) else None
        return refusal(code if isinstance(code, int) else 500, reply.error)
    if not reply.choices:
        return Trouble("again", f"the reply has no choices: {one_line(text)}")
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
