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
from . import Finding

if TYPE_CHECKING:  # it wants an extra, which `engine_for` names where it is missing
    from ..engines.openai import ServerEngine

_COLOURS = {"red": (220, 40, 40), "blue": (50, 80, 220)}
_GROUND = (240, 240, 240)
_AT_ONCE = (1, 8)
_ROUNDS = 3  # of requests, so many at once
_SPEED_TOKENS = 64


def examine_server(flat: Mapping[str, Any]) -> Iterator[Finding]:
    """flat: settings by their flat names, of the server and the model."""
    try:
        yield from _examine(flat)
    except CaptionerError as error:
        yield Finding("bad", "server", str(error))


def _examine(flat: Mapping[str, Any]) -> Iterator[Finding]:
    # A person waits: what does not answer in a minute is told.
    asked = {"engine": "server", "request_timeout": 60.0, "item_timeout": 60.0, "wait_for_server": "1s", **flat}
    engine = _engine(asked)
    names = [str(model["id"]) for model in engine.models]
    listed = ", ".join(names) or "none listed; --model names the one to ask"
    yield Finding("good" if names else "note", "models", listed)
    yield Finding("good", "asked", engine.describe())
    told = f"{engine.context:,} tokens" if engine.context else "the server does not say"
    yield Finding("good" if engine.context else "note", "context", told)
    red, blue = (_square(engine, name) for name in _COLOURS)
    one = "What colour is the square in this image? Answer with one word."
    yield _sees(engine, "images", one, [red], "red")
    both = "What colours are the squares in these two images, in their order? Answer with two words."
    yield _sees(engine, "several images", both, [red, blue], "red", "blue")
    yield _speed(asked, red)


def _engine(asked: Mapping[str, Any]) -> "ServerEngine":
    return cast("ServerEngine", engine_for(Settings.from_dict(asked)))


def _square(engine: Engine, colour: str) -> Pixels:
    """uint8 [height, width, 3], as large as the model's frames."""
    width, height = resized_dimensions(engine.spec.size, 896, 896)
    pixels: Pixels = np.full((height, width, 3), _GROUND, np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = _COLOURS[colour]
    return pixels


def _request(number: int, prompt: str, pictures: Sequence[Pixels], max_new_tokens: int) -> Request:
    item = MediaItem(Path("square.png"), "image", "square.png", Path("square.txt"), Path())
    frames = Frames(np.stack(pictures), tuple(float(i) for i in range(len(pictures))))
    return Request(number, item, frames, prompt, max_new_tokens)


def _answers(engine: Engine, requests: Sequence[Request]) -> tuple[list[Reply | Failed], float]:
    """And the seconds that they took, the connection's beginning left out."""
    answers: list[Reply | Failed] = []
    waiting = list(requests)
    with engine.open() as session:
        since = time.monotonic()
        while len(answers) < len(requests):
            while waiting and session.free:
                session.submit(waiting.pop())
            answers += session.poll(0.1)
        return answers, time.monotonic() - since


def _sees(engine: Engine, what: str, prompt: str, pictures: Sequence[Pixels], *colours: str) -> Finding:
    [answer], _ = _answers(engine, [_request(0, prompt, pictures, _SPEED_TOKENS)])
    if isinstance(answer, Failed):
        return Finding("bad", what, f"refused: {answer.error}")
    said = " ".join(answer.text.lower().split())
    places = [said.find(colour) for colour in colours]
    seen = -1 not in places and places == sorted(places)
    if seen:
        return Finding("good", what, f"{' and '.join(colours)} read back")
    return Finding("bad", what, f"{' and '.join(colours)} sent, and read back as {answer.text!r}: does it see images?")


def _speed(asked: Mapping[str, Any], picture: Pixels) -> Finding:
    said = []
    for at_once in _AT_ONCE:
        engine = _engine({**asked, "concurrency": at_once})
        requests = [
            _request(n, "Describe this image in detail.", [picture], _SPEED_TOKENS) for n in range(_ROUNDS * at_once)
        ]
        answers, seconds = _answers(engine, requests)
        if any(isinstance(answer, Failed) for answer in answers):
            return Finding("bad", "speed", next(a.error for a in answers if isinstance(a, Failed)))
        said.append(f"{len(answers) / seconds:.2g} images/s at concurrency {at_once}")
    return Finding("good", "speed", ", ".join(said) + f", {_SPEED_TOKENS} tokens at the most each")
