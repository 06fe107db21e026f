"""Builds the body of a chat completion request. Pure."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...config.prompting import Order
from ...text import format_timestamp
from ...types import Request

FRAMES_MARKER = "<start_of_image>"  # in a prompt: the place of the frames; overrides --order


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """What all requests of a session share."""

    model: str
    mime: str
    order: Order
    system: str
    time: str | None  # the format of a frame's timestamp, such as "[{}]"; None for no timestamps
    continuing: Mapping[str, Any] = field(default_factory=dict)  # for an answer whose first words are given


def request_body(
    template: RequestTemplate,
    request: Request,
    images: Sequence[Sequence[bytes]],
    frame_indices: Sequence[int],
    dropped: Collection[str],
) -> bytes:
    """Build the JSON body of a request from bytes, because a JSON encoder would scan megabytes of base64.

    Args:
        images: Base64 images of each example, then of the request.
        frame_indices: The indices of the request's frames to send.
        dropped: The parameters that the server does not support.
    """
    parameters: dict[str, Any] = {"max_tokens": request.max_new_tokens, "temperature": request.temperature}
    if request.temperature > 0:
        parameters["seed"] = request.seed & 0x7FFFFFFF  # some servers read a signed 32-bit number
    if request.schema is not None:
        parameters["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "caption", "schema": request.schema},
        }
    if "max_tokens" in dropped:
        parameters["max_completion_tokens"] = request.max_new_tokens  # its newer name
    parameters = {"model": template.model} | {k: v for k, v in parameters.items() if k not in dropped}
    messages = [_json({"role": "system", "content": template.system})] if template.system else []
    for example, example_images in zip(request.examples, images, strict=False):
        times_s = example.frames.times_s if example.frames else ()
        messages += [_user_message(template, example.prompt, example_images, times_s)]
        messages += [_json({"role": "assistant", "content": example.answer})]
    own_images, times_s = images[-1], request.frames.times_s
    messages += [
        _user_message(
            template, request.prompt, [own_images[i] for i in frame_indices], [times_s[i] for i in frame_indices]
        )
    ]
    if request.begin:
        parameters |= template.continuing
        messages += [_json({"role": "assistant", "content": request.begin})]
    return _json(parameters)[:-1] + b',"messages":[' + b",".join(messages) + b"]}"


def _user_message(template: RequestTemplate, prompt: str, images: Sequence[bytes], times_s: Sequence[float]) -> bytes:
    media: list[str | bytes] = []
    for image, time_s in zip(images, times_s, strict=True):
        if template.time is not None and len(images) > 1:
            media.append(template.time.format(format_timestamp(time_s)))
        media.append(image)
    parts = [*media, prompt] if template.order == "media-first" else [prompt, *media]
    before, has_marker, after = prompt.partition(FRAMES_MARKER)
    if has_marker:
        parts = [before, *media, after]
    content = b",".join(_content_part(part, template.mime) for part in parts if part)
    return b'{"role":"user","content":[' + content + b"]}"


def _content_part(part: str | bytes, mime: str) -> bytes:
    if isinstance(part, str):
        return _json({"type": "text", "text": part})
    return b'{"type":"image_url","image_url":{"url":"data:' + mime.encode() + b";base64," + part + b'"}}'


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()
