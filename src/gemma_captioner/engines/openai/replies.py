"""What a server's replies say, in whichever of the protocol's dialects. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ...types import FinishReason
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
    text: str | None = None


class _Message(BaseModel):
    content: str | list[str | _Part] | None = None
    refusal: Any = None  # OpenAI
    reasoning: Any = None  # vLLM, OpenRouter
    reasoning_content: Any = None  # SGLang, llama.cpp, transformers


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Reply(BaseModel):
    choices: list[_Choice] = []
    usage: Any = None
    error: Any = None


_CUT_OFF = ("length", "max_tokens", "model_length")
_SAID = ("text", "output_text")  # parts that are no thoughts
_THOUGHTS = (  # where a server leaves them in the text: what they begin and end with
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<|channel>", "<channel|>"),
    ("<|start|>", "<|channel|>final<|message|>"),
    ("<|channel|>", "<|channel|>final<|message|>"),
)
# Where a server does not stop at them, or shows them.
_TURN_ENDS = re.compile(r"<end_of_turn>|<turn\|>|<eos>|<\|return\|>|<\|end\|>")


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
    finish_reason = str(choice.finish_reason).lower()
    if finish_reason == "content_filter":
        return Trouble("refused", "the server's filter withheld the answer")
    if finish_reason in ("error", "abort"):
        return Trouble("again", "the server broke the answer off")
    content = choice.message.content or ""
    said = content if isinstance(content, str) else "".join(map(_text_of, content))
    for opening, closing in _THOUGHTS:
        said = said.rpartition(closing)[2].partition(opening)[0]
    if not said.strip() and choice.message.refusal:
        return Trouble("refused", f"the model refuses: {one_line(str(choice.message.refusal))}")
    if not said.strip() and (content or choice.message.reasoning or choice.message.reasoning_content):
        return Trouble("refused", "the answer is reasoning alone: turn it off in the server, or raise --max-new-tokens")
    ended = _TURN_ENDS.search(said)
    cut_off = finish_reason in _CUT_OFF and ended is None
    return Answer(
        said[: ended.start()] if ended else said,
        "length" if cut_off else "stop",
        _count(reply.usage, "prompt_tokens"),
        _count(reply.usage, "completion_tokens"),
    )


def _text_of(part: str | _Part) -> str:
    if isinstance(part, str):
        return part
    return part.text or "" if part.type in _SAID else ""


def _count(usage: Any, name: str) -> int:
    """A count that makes no sense never costs a caption."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _in_one_piece(text: str) -> str:
    """A reply that is streamed although nobody asked for it, as one that is not."""
    events = re.findall(r"^data:(.*)", text, re.MULTILINE)  # which no line of JSON begins with
    if not events:
        return text
    said, finish_reason = "", None
    for data in events:
        if data.strip() != "[DONE]":
            for choice in json.loads(data)["choices"][:1]:
                said += choice["delta"].get("content") or ""
                finish_reason = choice.get("finish_reason") or finish_reason
    if finish_reason is None:
        raise ValueError("the stream breaks off")
    return json.dumps({"choices": [{"message": {"content": said}, "finish_reason": finish_reason}]})
