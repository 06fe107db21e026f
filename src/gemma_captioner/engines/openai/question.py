"""What a server is sent. Pure."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...config.prompting import Order
from ...text import format_timestamp
from ...types import Request

FRAMES_HERE = "<start_of_image>"  # in a prompt: where the frames go, whatever the order


@dataclass(frozen=True, slots=True)
class Form:
    """What every request of a session has in common. time: how a frame's is told, "[{}]", None where it is not.

    continuing: parameters that make the server go on from an answer that is begun.
    """

    model: str
    mime: str
    order: Order
    system: str
    time: str | None
    continuing: Mapping[str, Any] = field(default_factory=dict)


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
    if request.begin:
        parameters |= form.continuing
        messages += [_json({"role": "assistant", "content": request.begin})]
    return _json(parameters)[:-1] + b',"messages":[' + b",".join(messages) + b"]}"


def _question(form: Form, prompt: str, pictures: Sequence[bytes], times_s: Sequence[float]) -> bytes:
    media: list[str | bytes] = []
    for picture, time_s in zip(pictures, times_s, strict=True):
        if form.time is not None and len(pictures) > 1:
            media.append(form.time.format(format_timestamp(time_s)))
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
