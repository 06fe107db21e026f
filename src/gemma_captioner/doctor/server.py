"""`doctor --base-url`: sends requests to a server to find its models, limits and speed."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..config.settings import Settings
from ..engines import engine_for
from ..engines.base import Engine
from ..errors import CaptionerError
from ..types import Audio, Failed, Frames, MediaItem, Pixels, Reply, Request, resized_dimensions
from . import Diagnostic

if TYPE_CHECKING:  # it requires an extra; `engine_for` names the extra if it is missing
    from ..engines.openai import ServerEngine

_COLORS = {"red": (220, 40, 40), "blue": (50, 80, 220)}
_BACKGROUND = (240, 240, 240)
_CONCURRENCY_LEVELS = (1, 8)
_REQUESTS_PER_SLOT = 3  # the speed test sends this many requests per unit of concurrency
_MAX_NEW_TOKENS = 64


def diagnose_server(flat: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield one finding per property of the server. `flat` has settings of the server and the model by option name."""
    try:
        yield from _diagnose(flat)
    except CaptionerError as error:
        yield Diagnostic("bad", "server", str(error))


def _diagnose(flat: Mapping[str, Any]) -> Iterator[Diagnostic]:
    # Timeouts are short because a person waits for the result.
    settings = {"engine": "server", "request_timeout": 60.0, "item_timeout": 60.0, "wait_for_server": "1s", **flat}
    engine = _engine(settings)
    names = [str(model["id"]) for model in engine.models]  # fails if there is no server
    server = engine.server()
    yield Diagnostic("good" if server else "note", "server", server or "unknown: none of its endpoints reports a name")
    listed = ", ".join(names) or "the server lists none: name the model with --model"
    yield Diagnostic("good" if names else "note", "models", listed)
    yield Diagnostic("good", "tested", engine.describe())
    red, blue = (_square(engine, name) for name in _COLORS)
    one = "What color is the square in this image? Answer with one word."
    yield _check_vision(engine, one, red, "red")
    yield _check_several_images(engine, [red, blue])
    yield _check_sound(settings, red)
    context = engine.context  # after the first requests: Ollama reports that of a loaded model only
    report = f"{context:,} tokens" if context else "the server does not report it"
    yield Diagnostic("good" if context else "note", "context", report)
    yield _speed(settings, red)


def _engine(settings: Mapping[str, Any]) -> "ServerEngine":
    return cast("ServerEngine", engine_for(Settings.from_dict(settings)))


def _square(engine: Engine, color: str) -> Pixels:
    """A square in the middle of a plain image: uint8 [height, width, 3], at the input size of the model."""
    width, height = resized_dimensions(engine.spec.size, 896, 896)
    pixels: Pixels = np.full((height, width, 3), _BACKGROUND, np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = _COLORS[color]
    return pixels


def _request(
    number: int, prompt: str, images: Sequence[Pixels], max_new_tokens: int, audio: Audio | None = None
) -> Request:
    item = MediaItem(Path("square.png"), "image", "square.png", Path("square.txt"), Path())
    frames = Frames(np.stack(images), tuple(float(i) for i in range(len(images))), audio=audio)
    return Request(number, item, frames, prompt, max_new_tokens)


def _ask(engine: Engine, prompt: str, images: Sequence[Pixels], audio: Audio | None = None) -> str | Failed:
    """Return the answer to one request. An error that would end a run is a failure too."""
    request = _request(0, prompt, images, _MAX_NEW_TOKENS, audio)
    try:
        [answer], _ = _run_requests(engine, [request])
    except CaptionerError as error:
        return Failed(request.item, str(error))
    return answer if isinstance(answer, Failed) else answer.text


def _run_requests(engine: Engine, requests: Sequence[Request]) -> tuple[list[Reply | Failed], float]:
    """Return the answers and the seconds that they took, without the time to connect."""
    answers: list[Reply | Failed] = []
    pending = list(requests)
    with engine.open() as session:
        start = time.monotonic()
        while len(answers) < len(requests):
            while pending and session.available_slots:
                session.submit(pending.pop())
            answers += session.poll(0.1)
        return answers, time.monotonic() - start


def _check_vision(engine: Engine, prompt: str, image: Pixels, color: str) -> Diagnostic:
    """Whether the answer names the color of the image."""
    answer = _ask(engine, prompt, [image])
    if isinstance(answer, Failed):
        return Diagnostic("bad", "images", f"request failed: {answer.error}")
    if re.search(rf"\b{color}\b", answer.lower()):
        return Diagnostic("good", "images", f"the model recognizes {color}")
    return Diagnostic(
        "bad", "images", f"sent {color}, but the model answered {answer!r}: check that the model accepts images"
    )


def _check_several_images(engine: Engine, images: Sequence[Pixels]) -> Diagnostic:
    """Whether the server accepts several images in one message. A small model may describe them wrongly."""
    answer = _ask(engine, "Describe these images.", images)
    if isinstance(answer, Failed):
        return Diagnostic("bad", "several images", f"request failed: {answer.error}. Clips need them")
    return Diagnostic("good", "several images", f"the server accepts them; the model answered {answer!r}")


def _check_sound(settings: Mapping[str, Any], image: Pixels) -> Diagnostic:
    """Whether the server accepts sound with an image. That the model hears a tone says little about speech or music."""
    from ..engines.openai.hearing import tone  # requires the extra

    reports: list[str] = []
    engine = engine_for(Settings.from_dict({**settings, "audio": "auto", "for": "ltx:ltx2"}), reports.append)
    if not engine.spec.max_audio_s:
        return Diagnostic("note", "sound", f"{engine.spec.model} takes none: captions cannot describe it")
    answer = _ask(engine, "Is the sound speech, music, a tone or silence? Answer with one word.", [image], tone(2.0))
    report = next((line for line in reports if line.startswith("the server takes")), "")
    if isinstance(answer, Failed):
        return Diagnostic("note", "sound", f"request failed: {answer.error}")
    if "no sound" in report:
        return Diagnostic("note", "sound", f"{report.partition(': clips')[0]}: captions cannot describe it")
    return Diagnostic("good", "sound", f"{report}; of a tone of 440 Hz, the model says {answer!r}")


def _speed(settings: Mapping[str, Any], image: Pixels) -> Diagnostic:
    speeds = []
    for concurrency in _CONCURRENCY_LEVELS:
        engine = _engine({**settings, "concurrency": concurrency})
        requests = [
            _request(n, "Describe this image in detail.", [image], _MAX_NEW_TOKENS)
            for n in range(_REQUESTS_PER_SLOT * concurrency)
        ]
        answers, seconds = _run_requests(engine, requests)
        if failed := [answer for answer in answers if isinstance(answer, Failed)]:
            return Diagnostic("bad", "speed", failed[0].error)
        speeds.append(f"{len(answers) / seconds:.2g} images/s at concurrency {concurrency}")
    return Diagnostic("good", "speed", f"{', '.join(speeds)}, with at most {_MAX_NEW_TOKENS} tokens per caption")
