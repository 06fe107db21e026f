"""`doctor --base-url`: what a server has and bears, found out by asking it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..config.settings import Settings
from ..engines import engine_for
from ..engines.base import Engine
from ..errors import CaptionerError
from ..types import Failed, Frames, MediaItem, Pixels, Reply, Request, resized_dimensions
from . import Diagnostic

if TYPE_CHECKING:  # it wants an extra, which `engine_for` names where it is missing
    from ..engines.openai import ServerEngine

_COLORS = {"red": (220, 40, 40), "blue": (50, 80, 220)}
_BACKGROUND = (240, 240, 240)
_CONCURRENCY_LEVELS = (1, 8)
_REQUESTS_PER_SLOT = 3  # of requests, so many at once
_SPEED_TOKENS = 64


def diagnose_server(flat: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """flat: settings by their flat names, of the server and the model."""
    try:
        yield from _diagnose(flat)
    except CaptionerError as error:
        yield Diagnostic("bad", "server", str(error))


def _diagnose(flat: Mapping[str, Any]) -> Iterator[Diagnostic]:
    # A person waits: what does not answer in a minute is told.
    settings = {"engine": "server", "request_timeout": 60.0, "item_timeout": 60.0, "wait_for_server": "1s", **flat}
    engine = _engine(settings)
    names = [str(model["id"]) for model in engine.models]
    listed = ", ".join(names) or "none listed; --model names the one to ask"
    yield Diagnostic("good" if names else "note", "models", listed)
    yield Diagnostic("good", "asked", engine.describe())
    told = f"{engine.context:,} tokens" if engine.context else "the server does not say"
    yield Diagnostic("good" if engine.context else "note", "context", told)
    red, blue = (_square(engine, name) for name in _COLORS)
    one = "What colour is the square in this image? Answer with one word."
    yield _check_vision(engine, "images", one, [red], "red")
    both = "What colours are the squares in these two images, in their order? Answer with two words."
    yield _check_vision(engine, "several images", both, [red, blue], "red", "blue")
    yield _speed(settings, red)


def _engine(settings: Mapping[str, Any]) -> "ServerEngine":
    return cast("ServerEngine", engine_for(Settings.from_dict(settings)))


def _square(engine: Engine, color: str) -> Pixels:
    """uint8 [height, width, 3], as large as the model's frames."""
    width, height = resized_dimensions(engine.spec.size, 896, 896)
    pixels: Pixels = np.full((height, width, 3), _BACKGROUND, np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = _COLORS[color]
    return pixels


def _request(number: int, prompt: str, images: Sequence[Pixels], max_new_tokens: int) -> Request:
    item = MediaItem(Path("square.png"), "image", "square.png", Path("square.txt"), Path())
    frames = Frames(np.stack(images), tuple(float(i) for i in range(len(images))))
    return Request(number, item, frames, prompt, max_new_tokens)


def _run_requests(engine: Engine, requests: Sequence[Request]) -> tuple[list[Reply | Failed], float]:
    """And the seconds that they took, the connection's beginning left out."""
    answers: list[Reply | Failed] = []
    pending = list(requests)
    with engine.open() as session:
        since = time.monotonic()
        while len(answers) < len(requests):
            while pending and session.available_slots:
                session.submit(pending.pop())
            answers += session.poll(0.1)
        return answers, time.monotonic() - since


def _check_vision(engine: Engine, what: str, prompt: str, images: Sequence[Pixels], *colors: str) -> Diagnostic:
    [answer], _ = _run_requests(engine, [_request(0, prompt, images, _SPEED_TOKENS)])
    if isinstance(answer, Failed):
        return Diagnostic("bad", what, f"refused: {answer.error}")
    said = " ".join(answer.text.lower().split())
    positions = [said.find(color) for color in colors]
    is_right = -1 not in positions and positions == sorted(positions)
    if is_right:
        return Diagnostic("good", what, f"{' and '.join(colors)} read back")
    return Diagnostic(
        "bad", what, f"{' and '.join(colors)} sent, and read back as {answer.text!r}: does it see images?"
    )


def _speed(settings: Mapping[str, Any], image: Pixels) -> Diagnostic:
    said = []
    for concurrency in _CONCURRENCY_LEVELS:
        engine = _engine({**settings, "concurrency": concurrency})
        requests = [
            _request(n, "Describe this image in detail.", [image], _SPEED_TOKENS)
            for n in range(_REQUESTS_PER_SLOT * concurrency)
        ]
        answers, seconds = _run_requests(engine, requests)
        if any(isinstance(answer, Failed) for answer in answers):
            return Diagnostic("bad", "speed", next(a.error for a in answers if isinstance(a, Failed)))
        said.append(f"{len(answers) / seconds:.2g} images/s at concurrency {concurrency}")
    return Diagnostic("good", "speed", ", ".join(said) + f", {_SPEED_TOKENS} tokens at the most each")
