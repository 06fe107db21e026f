"""Builds the body of a chat completion request. Pure."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...config.prompting import Order
from ...text import format_timestamp
from ...types import Request

FRAMES_MARKER = "<start_of_image>"  # in a prompt: the place of the frames; overrides --order

SoundForm = Literal["input_audio", "audio_url"]  # the types of a content part; OpenAI's first


@dataclass(frozen=True, slots=True)
class EncodedMedia:
    """The base64 files of an example or a request: an image for each frame, and the sound, if it is sent."""

    images: Sequence[bytes] = ()
    sound: bytes | None = None


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """What all requests of a session share."""

    model: str
    mime: str
    order: Order
    system: str
    time: str | None  # the format of a frame's timestamp, such as "[{}]"; None for no timestamps
    continuing: Mapping[str, Any] = field(default_factory=dict)  # for an answer whose first words are given
    sound: SoundForm | None = None  # None: the server takes none, or none is sent
    system_turn: bool = True  # whether the system message is a message of its own; else it opens the first prompt


def request_body(
    template: RequestTemplate,
    request: Request,
    media: Sequence[EncodedMedia],
    frame_indices: Sequence[int],
    dropped: Collection[str],
) -> bytes:
    """Build the JSON body of a request from bytes, because a JSON encoder would scan megabytes of base64.

    Args:
        media: That of each part of the context, then of the request.
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
    opening = f"{template.system}\n\n" if template.system and not template.system_turn else ""
    has_turn = template.system and template.system_turn
    messages = [_json({"role": "system", "content": template.system})] if has_turn else []
    labeled: list[bytes] = []  # parts of the last message, before the request's own frames
    for part, shown in zip(request.context, media, strict=False):
        parts = _media_parts(template, shown, part.frames.times_s if part.frames else ())
        if part.answer is None:
            labeled += [_text_part(part.text), *parts]
        else:
            messages += [_user_message(template, opening + part.text, parts)]
            opening = ""
            messages += [_json({"role": "assistant", "content": part.answer})]
    labeled += [_text_part(request.label)] if request.label else []
    own = replace(media[-1], images=[media[-1].images[i] for i in frame_indices])
    own_parts = _media_parts(template, own, [request.frames.times_s[i] for i in frame_indices])
    messages += [_user_message(template, opening + request.prompt, [*labeled, *own_parts])]
    if request.begin:
        parameters |= template.continuing
        messages += [_json({"role": "assistant", "content": request.begin})]
    return _json(parameters)[:-1] + b',"messages":[' + b",".join(messages) + b"]}"


def _media_parts(template: RequestTemplate, media: EncodedMedia, times_s: Sequence[float]) -> list[bytes]:
    parts: list[bytes] = []
    for image, time_s in zip(media.images, times_s, strict=True):
        if template.time is not None and len(media.images) > 1:
            parts.append(_text_part(template.time.format(format_timestamp(time_s))))
        url = b"data:" + template.mime.encode() + b";base64," + image
        parts.append(b'{"type":"image_url","image_url":{"url":"' + url + b'"}}')
    if media.sound is not None and template.sound is not None:
        parts.append(sound_part(template.sound, media.sound))
    return parts


def _user_message(template: RequestTemplate, prompt: str, parts: Sequence[bytes]) -> bytes:
    before, has_marker, after = prompt.partition(FRAMES_MARKER)
    if not has_marker:
        before, after = ("", prompt) if template.order == "media-first" else (prompt, "")
    content = [*map(_text_part, filter(None, [before])), *parts, *map(_text_part, filter(None, [after]))]
    return b'{"role":"user","content":[' + b",".join(content) + b"]}"


def _text_part(text: str) -> bytes:
    return _json({"type": "text", "text": text})


def sound_part(form: SoundForm, sound: bytes) -> bytes:
    """Return the content part of a base64 WAV file."""
    if form == "input_audio":
        return b'{"type":"input_audio","input_audio":{"format":"wav","data":"' + sound + b'"}}'
    return b'{"type":"audio_url","audio_url":{"url":"data:audio/wav;base64,' + sound + b'"}}'


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()
