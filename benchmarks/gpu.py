"""Measures the GPU alone: Gemma 3 in real sizes with random weights on decoded frames, against plain `generate`.

Run it as `throughput.py --only gpu`. `--gpu-smoke` runs the same code on a CPU with a tiny model.
"""

import gc
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import baselines
import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, Gemma3Processor

from gemma_captioner.config.prompting import CLIP_PROMPT, IMAGE_PROMPT
from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.memory import GEMMA3_SIZES, Architecture
from gemma_captioner.types import Failed, Frames, MediaItem, Request

DUMMY_ITEM = MediaItem(Path("a.png"), "image", "a.png", Path("a.txt"), Path())
WINDOW, GLOBAL_EVERY = 1024, 6  # every sixth layer attends globally
ENDS, PAD = [1, 6], 0  # token ids of the demo's tokenizer
TINY = Architecture(6, 64, 128, 2, 1, 32, 2048, 2, 64, 96, image_size=56, image_tokens=4)

Run = dict[str, float]  # `rate` in items/s, and other measurements by name
Methods = dict[str, Callable[[], Run]]
Runs = dict[str, list[Run]]


@dataclass(frozen=True, slots=True)
class Workload:
    device: str
    sizes: dict[str, Architecture]
    images: int
    clips: int
    new_tokens: int
    batch: int
    matrix: int  # size of the matrices that measure the rate of arithmetic


GPU = Workload("cuda", {name: GEMMA3_SIZES[name] for name in ("gemma-3-4b", "gemma-3-12b")}, 128, 32, 128, 32, 8192)
SMOKE = Workload("cpu", {"tiny": TINY}, 3, 2, 4, 2, 256)


def measure(work: Workload, interleave: Callable[[Methods], Runs]) -> Iterator[tuple[str, Runs]]:
    """Yield the name and the runs of each model."""
    flops, bandwidth = rates(work)
    demo, any_size = AutoProcessor.from_pretrained(DEMO_CHECKPOINT, backend="pil"), next(iter(work.sizes.values()))
    demo.image_processor.size = {"height": any_size.image_size, "width": any_size.image_size}
    parts = (demo.image_processor, demo.tokenizer, demo.chat_template)
    processor = Gemma3Processor(*parts, image_seq_length=any_size.image_tokens)
    requests = requests_for(work, any_size.image_size)
    # Prepared before timing, because this does not measure the host.
    batches = [inputs_of(processor, requests[i : i + work.batch]) for i in range(0, len(requests), work.batch)]
    for name, size in work.sizes.items():
        found = runs_of(work, size, processor, requests, batches, interleave)
        release_memory()
        limit = len(requests) / floor_seconds(size, batches, work.new_tokens, flops, bandwidth)
        for run in found["ours"] + found["b"]:
            run["% of limit"] = 100 * run["rate"] / limit
        yield name, found | {"limit": [{"rate": limit, "TFLOP/s": flops / 1e12, "GB/s": bandwidth / 1e9}]}


def runs_of(
    work: Workload,
    size: Architecture,
    processor: Any,
    requests: list[Request],
    batches: list[Any],
    interleave: Callable[[Methods], Runs],
) -> Runs:
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), size, processor, work.device)
        settings = {"model": folder, "device": work.device, "dtype": "bf16", "quantize": "none"}
        since = time.perf_counter()
        engine = LocalEngine(Settings.from_dict(settings, {"batch_size": work.batch, "order": "text-first"}))
        session: Any = engine.open()
        load_s = time.perf_counter() - since
    with session:
        ours(session, [replace(r, max_new_tokens=3) for r in (requests[0], requests[-1])])  # loads the kernels
        plain(session.model, batches[:1] + batches[-1:], 3)
        stages, items = StageTimer(session.model), len(requests)
        methods: Methods = {
            "ours": lambda: stages.of(lambda: ours(session, requests), items) | {"loading s": load_s},
            "b": lambda: stages.of(lambda: plain(session.model, batches, work.new_tokens), items),
        }
        return interleave(methods)


def release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# The model has random weights, and the frames are noise.


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


def write_checkpoint(folder: Path, size: Architecture, processor: Any, device: str) -> None:
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config_of(size), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    del model
    release_memory()


def requests_for(work: Workload, side: int) -> list[Request]:
    """Images come before clips, so that batches of every method hold items of one kind."""
    rng = np.random.default_rng(0)
    kinds = [(1, IMAGE_PROMPT)] * work.images + [(baselines.FRAMES, CLIP_PROMPT)] * work.clips
    requests = []
    for number, (count, prompt) in enumerate(kinds):
        frames = Frames(rng.integers(0, 256, (count, side, side, 3), np.uint8), tuple(map(float, range(count))))
        requests.append(Request(number, DUMMY_ITEM, frames, prompt, work.new_tokens))
    return requests


def inputs_of(processor: Any, requests: list[Request]) -> Any:
    questions = [(r.prompt, [Image.fromarray(pixels) for pixels in r.frames.pixels]) for r in requests]
    return baselines.inputs_of(processor, questions).to(torch.bfloat16)


# The methods. Each returns the number of generated tokens.


def ours(session: Any, requests: list[Request]) -> int:
    waiting, left, drawn = deque(requests), len(requests), 0
    while left:
        while waiting and session.available_slots:
            session.submit(waiting.popleft())
        for answer in session.poll(1.0):
            if isinstance(answer, Failed):
                sys.exit(f"ours failed: {answer.error}")
            left, drawn = left - 1, drawn + answer.new_tokens
    return drawn


@torch.inference_mode()
def plain(model: Any, batches: list[Any], new_tokens: int) -> int:
    drawn = 0
    for inputs in batches:
        given = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        # The session cleared the model's generation config, so this passes the end tokens.
        said = model.generate(**given, max_new_tokens=new_tokens, do_sample=False, eos_token_id=ENDS, pad_token_id=PAD)
        drawn += int((said[:, given["input_ids"].shape[1] :] != PAD).sum())
    return drawn


class StageTimer:
    """Times the vision tower and the prefill with the device's clock. The rest of a run is decoding."""

    def __init__(self, model: Any) -> None:
        self._on_cuda = model.device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []  # two per call of a stage
        for stage, module in (("vision s", model.model.vision_tower), ("prefill s", model.model.language_model)):

            def mark(module: Any, args: Any, kwargs: dict[str, Any], output: Any = None, stage: str = stage) -> None:
                # A single token is a decode step. During graph capture, no event may be recorded.
                if stage == "vision s" or kwargs["inputs_embeds"].shape[1] > 1:
                    self._marks.append((stage, self._timestamp()))

            module.register_forward_pre_hook(mark, with_kwargs=True)
            module.register_forward_hook(mark, with_kwargs=True)

    def _timestamp(self) -> Any:
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def of(self, run: Callable[[], int], items: int) -> dict[str, float]:
        self._marks.clear()
        release_memory()
        if self._on_cuda:
            torch.cuda.reset_peak_memory_stats()
        since = time.perf_counter()
        drawn = run()
        if self._on_cuda:
            torch.cuda.synchronize()
        whole = time.perf_counter() - since
        took = {"vision s": 0.0, "prefill s": 0.0}
        for (stage, begin), (_, end) in zip(self._marks[::2], self._marks[1::2], strict=True):
            took[stage] += begin.elapsed_time(end) / 1000 if self._on_cuda else end - begin
        facts = {"decode s": whole - sum(took.values()), "tokens an item": drawn / items}
        facts["batches"] = sum(stage == "prefill s" for stage, _ in self._marks) / 2
        if self._on_cuda:
            facts["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        return {"rate": items / whole} | took | facts


# The limit: the time of the arithmetic and of memory reads at the measured rates of the device.


def floor_seconds(size: Architecture, batches: list[Any], new_tokens: int, flops: float, bandwidth: float) -> float:
    """Return the minimum time for these batches. Omits attention between prompt tokens, a few percent."""
    patches = (size.image_size // size.patch_size) ** 2
    v, i = size.vision_hidden, size.vision_intermediate
    frame = size.vision_layers * patches * (2 * (4 * v * v + 2 * v * i) + 4 * patches * v)
    weights = 2 * (size.linear_parameters + size.vocabulary * size.hidden)
    unwindowed = size.layers // GLOBAL_EVERY
    seconds = 0.0
    for inputs in batches:
        rows, columns = inputs["input_ids"].shape
        kept = unwindowed * columns + (size.layers - unwindowed) * min(columns, WINDOW)
        cache = 4 * kept * size.kv_heads * size.head_dim  # keys and values of two bytes
        seconds += (len(inputs["pixel_values"]) * frame + rows * columns * 2 * size.linear_parameters) / flops
        seconds += (new_tokens - 1) * (weights + rows * cache) / bandwidth
    return seconds


def rates(work: Workload) -> tuple[float, float]:
    """Return (bf16 operations/s of a large product, bytes/s that a large copy reads and writes)."""
    a, b = torch.randn(2, work.matrix, work.matrix, device=work.device).bfloat16()
    many = torch.zeros(64 * work.matrix**2, dtype=torch.uint8, device=work.device)  # 4 GiB for a GPU
    copy = torch.empty_like(many)
    return 2 * work.matrix**3 / _seconds(work, lambda: a @ b), 2 * len(many) / _seconds(work, lambda: copy.copy_(many))


def _seconds(work: Workload, call: Callable[[], Any]) -> float:
    for count in (3, 20):  # the first calls warm up
        since = time.perf_counter()
        for _ in range(count):
            call()
        if work.device == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - since) / count
