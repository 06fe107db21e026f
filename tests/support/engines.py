"""Makes requests from drawn images and clips, and collects their answers."""

import time
from pathlib import Path
from random import Random
from typing import Any

from gemma_captioner.config.settings import Settings
from gemma_captioner.demo.drawing import draw, random_scene
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.memory import Architecture
from gemma_captioner.types import Failed, Frames, MediaItem, Reply, Request

DUMMY_ITEM = MediaItem(Path("a.png"), "image", "a.png", Path("a.txt"), Path())
WORDS = "Describe the picture or clip in one sentence with all that you see and where it is going to".split()
NEW_TOKENS = 20


def request(number: int, num_frames: int = 1, **options: Any) -> Request:
    name = f"{number}.png"
    item = MediaItem(Path(name), "image", name, Path(f"{number}.txt"), Path())
    pixels = draw(random_scene(Random(number), clip=num_frames > 1), num_frames)
    frames = Frames(pixels, tuple(float(i) for i in range(num_frames)))
    return Request(
        number, item, frames, options.pop("prompt", "Describe this."), options.pop("max_new_tokens", 8), **options
    )


def requests(count: int, *, seed: int, most_frames: int = 16, new_tokens: int = NEW_TOKENS) -> list[Request]:
    """Make half images and half clips of 1 to `most_frames` frames, with prompts of 1 to 40 words."""
    rng = Random(seed)
    made = []
    for number in range(count):
        num_frames = 1 if rng.random() < 0.5 else rng.randint(1, most_frames)
        pixels = draw(random_scene(rng, clip=num_frames > 1), num_frames)
        prompt = " ".join(rng.choices(WORDS, k=rng.randint(1, 40))) + rng.choice([".", ""])
        frames = Frames(pixels, tuple(float(i) for i in range(num_frames)))
        made.append(Request(number, DUMMY_ITEM, frames, prompt, new_tokens))
    return made


def answers(session: Any, requests: list[Request], timeout_s: float = 60) -> dict[int, Reply | Failed]:
    """Submit requests as slots become free. Return request id -> answer."""
    waiting, got = list(requests), {}
    deadline = time.monotonic() + timeout_s
    while len(got) < len(requests):
        assert time.monotonic() < deadline
        while waiting and session.available_slots:
            session.submit(waiting.pop(0))
        for answer in session.poll(0.5):
            assert answer.request_id not in got, "answered twice"
            got[answer.request_id] = answer
    return got


def demo_server_settings(url: str, **more: Any) -> Settings:
    """Settings for the demo checkpoint behind a server, with lossless images."""
    asked = {
        "engine": "server",
        "base_url": url,
        "model": str(DEMO_CHECKPOINT),
        "image_size": 64,
        "image_format": "png",
    }
    return Settings.from_dict(asked, more)


def gemma3_config(size: Architecture, **vision: object) -> Any:
    """The configuration of a published size. vision: the values of its vision tower."""
    from transformers import Gemma3Config

    text = {
        "num_hidden_layers": size.layers,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "vocab_size": size.vocabulary,
    }
    return Gemma3Config(text_config=text, vision_config={"model_type": "siglip_vision_model", **vision})
