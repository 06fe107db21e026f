"""Gemma 3 in real sizes with random weights, made on the device: no network, no checkpoint on disk."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import baselines
import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, Gemma3Processor

from gemma_captioner.config.prompting import CLIP_PROMPT, IMAGE_PROMPT
from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.base import EngineSpec
from gemma_captioner.engines.local import hardware, memory
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.families import FAMILIES
from gemma_captioner.engines.local.memory import GEMMA3_SIZES, Architecture
from gemma_captioner.engines.local.processor import Processor
from gemma_captioner.engines.local.session import LocalSession
from gemma_captioner.types import Frames, MediaItem, Request

ITEM = MediaItem(Path("a.png"), "image", "a.png", Path("a.txt"), Path())
WINDOW, GLOBAL_EVERY = 1024, 6  # every sixth layer attends globally
ATTENTION = {"": "sdpa", "text_config": "sdpa", "vision_config": "sdpa"}
TINY = Architecture(6, 64, 128, 2, 1, 32, 2048, 2, 64, 96, image_size=56, image_tokens=4)


@dataclass(frozen=True, slots=True)
class Workload:
    device: str
    sizes: dict[str, Architecture]
    image_rows: Sequence[int]  # batch sizes
    clip_rows: Sequence[int]
    new_tokens: int
    matrix: int  # size of the matrices that measure the rate of arithmetic
    batches: int  # of the check for memory that grows


GPU = Workload(
    "cuda", {n: GEMMA3_SIZES[n] for n in ("gemma-3-4b", "gemma-3-12b")}, (32, 64, 128, 192, 256), (8, 32), 128, 8192, 60
)
SMOKE = Workload("cpu", {"tiny": TINY}, (3,), (2,), 4, 256, 2)


@dataclass
class Bench:
    """A session on a random model, and the lines that it reported."""

    session: LocalSession
    processor: Any
    plan: memory.MemoryPlan
    lines: list[str] = field(default_factory=list)

    @property
    def model(self) -> Any:
        return self.session.model


def processor_for(size: Architecture) -> Any:
    demo = AutoProcessor.from_pretrained(DEMO_CHECKPOINT, backend="pil")
    demo.image_processor.size = {"height": size.image_size, "width": size.image_size}
    parts = (demo.image_processor, demo.tokenizer, demo.chat_template)
    return Gemma3Processor(*parts, image_seq_length=size.image_tokens)


def session_processor(size: Architecture) -> Processor:
    """What the engine uses in place of `processor_for`."""
    demo = FAMILIES["gemma3"].load_processor(DEMO_CHECKPOINT)
    demo.images.size = {"height": size.image_size, "width": size.image_size}
    return replace(demo, tokens_per_image=size.image_tokens)


def open_bench(work: Workload, size: Architecture, *, name: str, layers: int | None = None) -> Bench:
    """Make a model with random weights and a session on it. layers: fewer than the size has."""
    size = replace(size, layers=layers or size.layers)
    processor = processor_for(size)
    with torch.device(work.device):
        model: Any = AutoModelForImageTextToText.from_config(
            config_of(size), dtype=torch.bfloat16, attn_implementation=ATTENTION
        )
    free_memory()
    settings = Settings.from_dict({"model": "demo", "device": work.device, "dtype": "bf16", "order": "text-first"})
    clip_tokens = baselines.FRAMES * (size.image_tokens + 8) + 200 + work.new_tokens
    available = hardware.free_memory(work.device) + size.weight_bytes("none", 2)
    plan = memory.plan(
        size, name=name, quantize="none", device=work.device, dtype_bytes=2, available=available,
        request_tokens=clip_tokens,
    )  # fmt: skip
    frame = (size.image_size, size.image_size)
    spec = EngineSpec(frame, {"image": 300, "clip": 300}, 131_072, name, None)
    lines: list[str] = []
    session = LocalSession(
        model.eval(), FAMILIES["gemma3"], session_processor(size), spec, plan, settings, lines.append
    )
    return Bench(session, processor, plan, lines)


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def config_of(size: Architecture) -> Any:
    config = AutoConfig.from_pretrained(DEMO_CHECKPOINT).to_dict()  # keep the token ids, replace the sizes
    config["mm_tokens_per_image"] = size.image_tokens
    config["text_config"] |= {
        "num_hidden_layers": size.layers,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "query_pre_attn_scalar": size.head_dim,
        "vocab_size": size.vocabulary,
        "layer_types": ["full_attention" if i % GLOBAL_EVERY == 5 else "sliding_attention" for i in range(size.layers)],
        "sliding_window": WINDOW,
        "max_position_embeddings": 131_072,
    }
    config["text_config"]["rope_parameters"]["full_attention"] |= {"rope_type": "linear", "factor": 8.0}
    config["vision_config"] |= {
        "num_hidden_layers": size.vision_layers,
        "hidden_size": size.vision_hidden,
        "intermediate_size": size.vision_intermediate,
        "num_attention_heads": 16,
        "image_size": size.image_size,
        "patch_size": size.patch_size,
    }
    return AutoConfig.for_model(**config)


def requests_for(size: Architecture, count: int, *, clips: bool, new_tokens: int, seed: int = 0) -> list[Request]:
    """Requests about noise."""
    rng = np.random.default_rng(seed)
    frames, prompt = (baselines.FRAMES, CLIP_PROMPT) if clips else (1, IMAGE_PROMPT)
    side = size.image_size
    return [
        Request(
            number,
            ITEM,
            Frames(rng.integers(0, 256, (frames, side, side, 3), np.uint8), tuple(map(float, range(frames)))),
            prompt,
            new_tokens,
        )
        for number in range(count)
    ]


def inputs_of(processor: Any, requests: Sequence[Request]) -> Any:
    """The inputs of `generate`, on the host."""
    questions = [(r.prompt, [Image.fromarray(pixels) for pixels in r.frames.pixels]) for r in requests]
    return baselines.inputs_of(processor, questions).to(torch.bfloat16)


# The floor: the time of the arithmetic and of memory reads at the measured rates of the device.


def floor_seconds(
    size: Architecture, requests: Sequence[Request], columns: int, flops: float, bandwidth: float
) -> float:
    """Return the minimum time of one batch. Omits attention between prompt tokens, a few percent."""
    patches = (size.image_size // size.patch_size) ** 2
    v, i = size.vision_hidden, size.vision_intermediate
    frame = size.vision_layers * patches * (2 * (4 * v * v + 2 * v * i) + 4 * patches * v)
    weights = 2 * (size.linear_parameters + size.vocabulary * size.hidden)
    unwindowed = size.layers // GLOBAL_EVERY
    kept = unwindowed * columns + (size.layers - unwindowed) * min(columns, WINDOW)
    cache = 4 * kept * size.kv_heads * size.head_dim  # keys and values of two bytes
    frames = sum(len(r.frames.pixels) for r in requests)
    arithmetic = (frames * frame + len(requests) * columns * 2 * size.linear_parameters) / flops
    return arithmetic + (requests[0].max_new_tokens - 1) * (weights + len(requests) * cache) / bandwidth
