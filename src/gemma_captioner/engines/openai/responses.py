"""Parses a server's responses in the dialects of the protocol. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ...text import parse_json
from ...types import FinishReason
from .errors import ApiFailure, classify_response, shorten_to_one_line


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. Token counts are 0 if the server does not report them."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int


class _ContentPart(BaseModel):
    type: str = "text"
    text: str | None = None


class _Message(BaseModel):
    content: str | list[str | _ContentPart] | None = None
    refusal: Any = None  # OpenAI
    reasoning: Any = None  # vLLM, OpenRouter
    reasoning_content: Any = None  # SGLang, llama.cpp, transformers


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Response(BaseModel):
    choices: list[_Choice] = []
    usage: Any = None
    error: Any = None


_LENGTH_FINISH_REASONS = ("length", "max_tokens", "model_length")
_TEXT_PART_TYPES = ("text", "output_text")  # other types are reasoning
_REASONING_MARKERS = (  # the beginning and end of reasoning that a server leaves in the text
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<|channel>", "<channel|>"),
    ("<|start|>", "<|channel|>final<|message|>"),
    ("<|channel|>", "<|channel|>final<|message|>"),
)
# Some servers do not stop at these, or include them in the text.
_END_OF_TURN = re.compile(r"<end_of_turn>|<turn\|>|<eos>|<\|return\|>|<\|end\|>")


def parse_response(text: str) -> Completion | ApiFailure:
    """Parse the body of a response with status 200."""
    try:
        response = _Response.model_validate_json(_replace_lone_surrogates(_merge_stream(text)))
    except (ValidationError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        shown = shorten_to_one_line(text) or "it is empty"
        return ApiFailure("transient", f"the reply is not a chat completion: {shown}", status=200)
    if response.error:
        code = response.error.get("code") if isinstance(response.error, dict) else None
        return classify_response(code if isinstance(code, int) else 500, response.error)
    if not response.choices:
        return ApiFailure("transient", f"the reply has no choices: {shorten_to_one_line(text)}", status=200)
    choice = response.choices[0]
    finish_reason = str(choice.finish_reason).lower()
    if finish_reason == "content_filter":
        return ApiFailure("refused", "the server's content filter blocked the answer")
    if finish_reason in ("error", "abort"):
        return ApiFailure("transient", "the server aborted the answer")
    content = choice.message.content or ""
    answer = content if isinstance(content, str) else "".join(map(_text_of, content))
    for opening, closing in _REASONING_MARKERS:
        answer = answer.rpartition(closing)[2].partition(opening)[0]
    if not answer.strip() and choice.message.refusal:
        return ApiFailure("refused", f"the model refused: {shorten_to_one_line(str(choice.message.refusal))}")
    is_blank = isinstance(content, str) and not content.strip()
    if not answer.strip() and (not is_blank or choice.message.reasoning or choice.message.reasoning_content):
        return ApiFailure(
            "refused", "the answer contains only reasoning: turn it off in the server, or raise --max-new-tokens"
        )
    end_of_turn = _END_OF_TURN.search(answer)
    is_truncated = finish_reason in _LENGTH_FINISH_REASONS and end_of_turn is None
    return Completion(
        answer[: end_of_turn.start()] if end_of_turn else answer,
        "length" if is_truncated else "stop",
        _count(response.usage, "prompt_tokens"),
        _count(response.usage, "completion_tokens"),
    )


def _text_of(part: str | _ContentPart) -> str:
    if isinstance(part, str):
        return part
    return part.text or "" if part.type in _TEXT_PART_TYPES else ""


def _count(usage: Any, name: str) -> int:
    """Return a token count, or 0 if it is missing or invalid."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _replace_lone_surrogates(text: str) -> str:
    """Replace halves of a character in JSON by U+FFFD: a server in JavaScript may cut an emoji in half.

    # The JSON text {"a": "\\ud83d"} (half an emoji) becomes {"a": "?"}, with U+FFFD in place of the question mark.
    """
    decoded = json.dumps(parse_json(text), ensure_ascii=False)
    return decoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _merge_stream(text: str) -> str:
    """Convert a reply that the server streamed without being asked to a plain one."""
    events = re.findall(r"^data:(.*)", text, re.MULTILINE)  # a line of JSON never starts like this
    if not events:
        return text
    answer, finish_reason = "", None
    for data in events:
        if data.strip() != "[DONE]":
            for choice in json.loads(data)["choices"][:1]:
                answer += choice["delta"].get("content") or ""
                finish_reason = choice.get("finish_reason") or finish_reason
    if finish_reason is None:
        raise ValueError("the stream is incomplete")
    return json.dumps({"choices": [{"message": {"content": answer}, "finish_reason": finish_reason}]})
