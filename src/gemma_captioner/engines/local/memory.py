"""Plans memory before any weight is read. Imports neither torch nor transformers.

The configuration gives the number of parameters; a test compares it with the real classes. The rest is an upper
estimate: KV cache and activations of a batch, activations of the vision tower, and a margin.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

from ...config.model import Quantize
from ...errors import MemoryShortageError
from .config import ModelConfig

GIB = 2**30
Precision = Literal["none", "8bit", "4bit"]
# Bytes per weight of the language model's linear layers; other weights stay in 16 bits. In 4 bits, 64 weights share one
# 32-bit scale.
LINEAR_BYTES: dict[Precision, float] = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
_MASK_BYTES = 7  # per pair of prompt tokens during prefill: two masks, one of them also in 16 bits
VISION_CHUNK = 4  # frames per call of the vision tower
_RUNTIME_BYTES = {"cuda": GIB, "mps": GIB, "cpu": GIB // 4}  # context, kernels, allocator overhead
_MAX_BATCH_SIZE = {"cuda": 256, "mps": 8, "cpu": 16}  # requests: a larger batch adds latency without throughput


@dataclass(frozen=True, slots=True)
class Architecture:
    """The values of a configuration that determine memory."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int = 262_208
    vision_layers: int = 27
    vision_hidden: int = 1152
    vision_intermediate: int = 4304
    image_size: int = 896
    patch_size: int = 14
    image_tokens: int = 256
    cache_width: int | None = None  # cached values per token, if layers have different heads or share their cache
    more_width: int = 0  # additional activations per token: per-layer inputs, experts
    parameter_counts: tuple[int, int] | None = None  # (linear, other), if there is no formula

    @classmethod
    def of(cls, config: ModelConfig, parameter_counts: tuple[int, int] | None = None, image_tokens: int = 0) -> Self:
        """Read a configuration. image_tokens: the token budget of one frame (Gemma 4), else 0.

        A unified Gemma 4 has no vision tower: the pixels of each token's square are projected directly.
        """
        text, vision = config.text, config.vision
        # The last layers may share the keys and values of earlier layers.
        owners = config.layers[: text.num_hidden_layers - getattr(text, "num_kv_shared_layers", 0)]
        experts = (getattr(text, "top_k_experts", None) or 0) * (getattr(text, "moe_intermediate_size", None) or 0)
        has_tower = hasattr(vision, "num_hidden_layers")
        patch = vision.patch_size if has_tower else vision.patch_size * vision.pooling_kernel_size
        patches = image_tokens * (vision.pooling_kernel_size**2 if has_tower else 1) if image_tokens else 0
        return cls(
            parameter_counts=parameter_counts,
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            intermediate=text.intermediate_size * (2 if getattr(text, "use_double_wide_mlp", False) else 1),
            heads=text.num_attention_heads,
            kv_heads=config.layers[0][0],
            head_dim=config.layers[0][1],
            vocabulary=text.vocab_size,
            cache_width=sum(2 * heads * width for heads, width, _ in owners),
            more_width=3 * text.num_hidden_layers * (getattr(text, "hidden_size_per_layer_input", None) or 0)
            + 3 * (experts + (text.top_k_experts * text.hidden_size if experts else 0)),
            vision_layers=vision.num_hidden_layers if has_tower else 0,
            vision_hidden=vision.hidden_size if has_tower else vision.mm_embed_dim,
            vision_intermediate=vision.intermediate_size if has_tower else 3 * patch**2,
            # For images that keep their aspect ratio: a square with at least as many patches.
            image_size=(math.isqrt(patches - 1) + 1) * patch if patches else vision.image_size,
            patch_size=patch,
            image_tokens=image_tokens or config.tokens_per_image,
        )

    @property
    def linear_parameters(self) -> int:
        """The weights of the language model's linear layers, which quantization shrinks."""
        if self.parameter_counts is not None:
            return self.parameter_counts[0]
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def other_parameters(self) -> int:
        """Embeddings (shared with the output), norms, vision tower and projector."""
        if self.parameter_counts is not None:
            return self.parameter_counts[1]
        text = self.vocabulary * self.hidden + self.layers * (4 * self.hidden + 2 * self.head_dim) + self.hidden
        v, i = self.vision_hidden, self.vision_intermediate
        patches = (self.image_size // self.patch_size) ** 2
        layer = 4 * (v * v + v) + 2 * v * i + v + i + 4 * v
        vision = self.vision_layers * layer + 3 * self.patch_size**2 * v + v + patches * v + 2 * v
        return text + vision + v * self.hidden + v

    @property
    def parameters(self) -> int:
        return self.linear_parameters + self.other_parameters

    def weight_bytes(self, precision: Precision, dtype_bytes: int) -> int:
        linear = LINEAR_BYTES.get(precision, dtype_bytes)
        return int(self.linear_parameters * linear + self.other_parameters * dtype_bytes)

    def token_bytes(self, dtype_bytes: int) -> int:
        """Return the cache and activations of one token. Assumes a full cache in every layer."""
        cache = self.cache_width or 2 * self.layers * self.kv_heads * self.head_dim
        activations = 8 * self.hidden + 3 * self.intermediate + self.more_width
        return (cache + activations) * dtype_bytes

    def vision_bytes(self, dtype_bytes: int) -> int:
        """Return the vision tower's activations for one chunk of frames: of its attention or its MLP."""
        patches = (self.image_size // self.patch_size) ** 2
        width = max(8 * self.vision_hidden, 3 * self.vision_hidden + 2 * self.vision_intermediate)
        return VISION_CHUNK * patches * width * dtype_bytes


GEMMA3_SIZES = {
    "gemma-3-4b": Architecture(34, 2560, 10240, 8, 4, 256),
    "gemma-3-12b": Architecture(48, 3840, 15360, 16, 8, 256),
    "gemma-3-27b": Architecture(62, 5376, 21504, 32, 16, 128),
}


def _gemma4(
    sizes: tuple[int, int, int, int, int, int],
    vision: tuple[int, int, int, int],
    parameter_counts: tuple[int, int],
    cache: int,
    more: int = 0,
) -> Architecture:
    """sizes: the first six fields of `Architecture`. vision: layers, hidden, intermediate, patch."""
    layers, hidden, intermediate, patch = vision
    return Architecture(*sizes, 262_144, layers, hidden, intermediate, 816, patch, 280, cache, more, parameter_counts)


_SMALL, _LARGE, _UNIFIED = (16, 768, 3072, 16), (27, 1152, 4304, 16), (0, 3840, 6912, 48)
# The values that `Architecture.of` reads from the published configurations; a test compares them.
GEMMA4_SIZES = {
    "gemma-4-E2B": _gemma4(
        (35, 1536, 12288, 8, 1, 256), _SMALL, (1_835_532_288, 3_268_765_216), cache=9216, more=26880
    ),
    "gemma-4-E4B": _gemma4(
        (42, 2560, 10240, 8, 2, 256), _SMALL, (3_890_216_960, 4_050_883_872), cache=28672, more=32256
    ),
    "gemma-4-12B": _gemma4((48, 3840, 15360, 16, 8, 256), _UNIFIED, (10_899_947_520, 1_059_782_656), cache=172032),
    "gemma-4-26B-A4B": _gemma4(
        (30, 2816, 2112, 16, 8, 256), _LARGE, (1_645_445_120, 24_160_488_752), cache=112640, more=84480
    ),
    "gemma-4-31B": _gemma4((60, 5376, 21504, 32, 16, 256), _LARGE, (29_286_727_680, 1_986_358_832), cache=450560),
}


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The chosen precision, the memory in bytes, and the batch limits."""

    precision: Precision
    device: str
    available: int
    weights: int
    working: int  # everything but the weights, for one request
    max_batch_tokens: int  # prompt and answer tokens
    max_batch_size: int
    spread: bool = False  # over all GPUs
    is_stored: bool = False  # the checkpoint is stored in this precision

    @property
    def needed(self) -> int:
        return self.weights + self.working

    def __str__(self) -> str:
        spread = ", spread over all GPUs" if self.spread else ""
        return (
            f"{self.needed / GIB:.1f} GiB of {self.available / GIB:.1f} GiB free on {self.device}{spread} "
            f"(weights {self.weights / GIB:.1f}, cache and activations for one file {self.working / GIB:.1f}); "
            f"maximum batch: {self.max_batch_tokens:,} tokens, batch size {self.max_batch_size}"
        )


def required_bytes(
    architecture: Architecture, precision: Precision, device: str, dtype_bytes: int, tokens: int
) -> tuple[int, int]:
    """Return the bytes of (the weights, everything else for one request of `tokens` tokens)."""
    per_token = architecture.token_bytes(dtype_bytes) + _MASK_BYTES * tokens
    working = architecture.vision_bytes(dtype_bytes) + tokens * per_token
    return architecture.weight_bytes(precision, dtype_bytes), working + _RUNTIME_BYTES[device]


def precisions(quantize: Quantize, device: str) -> tuple[Precision, ...]:
    """Return what --quantize allows, the most exact first. bitsandbytes does not support Apple GPUs."""
    if quantize != "auto":
        return (quantize,)
    return ("none",) if device == "mps" else ("none", "8bit", "4bit")


def plan(
    architecture: Architecture,
    *,
    name: str,
    quantize: Quantize,
    device: str,
    dtype_bytes: int,
    available: int,
    request_tokens: int,
    on_other_gpus: int = 0,
    stored: tuple[Precision, int] | None = None,
) -> MemoryPlan:
    """Choose the most exact precision that fits on one device or on all GPUs together.

    stored: the precision and the bytes of the weights, for a checkpoint that is stored quantized. Raises
    `MemoryShortageError` if the model does not fit; the message names one that does.
    """
    for precision in precisions(quantize, device) if stored is None else stored[:1]:
        weights, working = required_bytes(architecture, precision, device, dtype_bytes, request_tokens)
        weights = weights if stored is None else stored[1]
        # Each GPU holds whole layers, which wastes some of the memory of several.
        for capacity in (available, int(0.9 * (available + on_other_gpus))):
            if weights + working > capacity:
                continue
            # Keep a tenth in reserve: the estimate is rough, and the allocator fragments memory.
            spare = int(0.9 * (capacity - weights)) - working
            per_token = architecture.token_bytes(dtype_bytes) + _MASK_BYTES * request_tokens
            batch_tokens = request_tokens + max(0, spare) // per_token
            spread = capacity > available
            max_batch_size = _MAX_BATCH_SIZE[device]
            return MemoryPlan(
                precision, device, capacity, weights, working, batch_tokens, max_batch_size, spread, stored is not None
            )
    how = f"in its stored {precision}" if stored else f"even with --quantize {precision}"
    raise MemoryShortageError(
        f"{name} needs {(weights + working) / GIB:.1f} GiB on {device} {how}, and "
        f"{available / GIB:.1f} are free: {_fallback_hint(device, dtype_bytes, available, request_tokens, quantize)}"
    )


def _fallback_hint(device: str, dtype_bytes: int, available: int, tokens: int, quantize: Quantize) -> str:
    fits = [largest_that_fits(sizes, device, dtype_bytes, available, tokens) for sizes in (GEMMA3_SIZES, GEMMA4_SIZES)]
    if not any(fits):
        return "no Gemma fits. Free some memory, use fewer --frames, or use a larger machine"
    named = " or ".join(f"{largest[0]} with --quantize {largest[1]}" for largest in fits if largest)
    return f"use the largest model that fits, {named}, or fewer --frames"


def largest_that_fits(
    sizes: dict[str, Architecture], device: str, dtype_bytes: int, available: int, tokens: int
) -> tuple[str, Precision] | None:
    for size, architecture in reversed(sizes.items()):
        for precision in precisions("auto", device):
            if sum(required_bytes(architecture, precision, device, dtype_bytes, tokens)) <= available:
                return size, precision
    return None
