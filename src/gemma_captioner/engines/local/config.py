"""Reads a checkpoint's configuration without transformers, and counts the model's parameters from it.

A published configuration leaves out what equals the defaults of its class. Tests compare the defaults here with those
of transformers' classes, and the counts with the real models, for every published size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

_GEMMA3_TEXT = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
}
_GEMMA4_UNIFIED_TEXT = _GEMMA3_TEXT | {
    "vocab_size": 262_144,
    "num_hidden_layers": 30,
    "max_position_embeddings": 262_144,
    "attention_k_eq_v": False,
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
}
_GEMMA4_TEXT = _GEMMA4_UNIFIED_TEXT | {
    "max_position_embeddings": 131_072,
    "vocab_size_per_layer_input": 262_144,
    "hidden_size_per_layer_input": 256,
    "enable_moe_block": False,
    "num_experts": None,
    "top_k_experts": None,
    "moe_intermediate_size": None,
}
_GEMMA4_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 16,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "head_dim": 64,
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "position_embedding_size": 10_240,
}
_GEMMA4_AUDIO = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "subsampling_conv_channels": (128, 32),
    "conv_kernel_size": 5,
    "output_proj_dims": 1536,
}
_SIGLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "image_size": 224,
    "patch_size": 16,
}
_UNIFIED_VISION = {
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "mm_embed_dim": 3840,
    "mm_posemb_size": 1120,
    "output_proj_dims": 3840,
}
# Model type -> part of the configuration -> what the part may leave out.
DEFAULTS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "gemma3": {"text": _GEMMA3_TEXT, "vision": _SIGLIP},
    "gemma4": {"text": _GEMMA4_TEXT, "vision": _GEMMA4_VISION, "audio": _GEMMA4_AUDIO},
    "gemma4_unified": {"text": _GEMMA4_UNIFIED_TEXT, "vision": _UNIFIED_VISION, "audio": {"audio_embed_dim": 640}},
}
_GLOBAL_HEAD_DIM = 512  # of Gemma 4's layers with full attention


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The parts of a configuration that decide sizes, complete.

    Attributes:
        text: The language model's values, in transformers' names.
        vision: The vision tower's values.
        audio: The audio tower's values. None if the model has none.
        layers: (key-value heads, head width, whether keys are also the values) of each layer of the language model.
        tokens_per_image: The soft tokens of an image, for a model whose images are all of one size.
        dtype: The name of the stored dtype, as torch has it. None if the configuration does not say.
    """

    text: SimpleNamespace
    vision: SimpleNamespace
    audio: SimpleNamespace | None
    layers: tuple[tuple[int, int, bool], ...]
    tokens_per_image: int
    dtype: str | None


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """Complete the values of a `config.json`."""
    defaults = DEFAULTS[values["model_type"]]
    parts = {name: SimpleNamespace(**kept | (values.get(f"{name}_config") or {})) for name, kept in defaults.items()}
    text, vision = parts["text"], parts["vision"]
    return ModelConfig(
        text=text,
        vision=vision,
        audio=parts["audio"] if values.get("audio_config") else None,
        layers=tuple(_layers(text)),
        tokens_per_image=values.get("mm_tokens_per_image") or 256,
        dtype=values.get("dtype", values.get("torch_dtype")),
    )


def _layers(text: SimpleNamespace) -> list[tuple[int, int, bool]]:
    """A configuration that transformers 5 saved lists what differs in a layer; a published one has `global_*`."""
    base = text.num_key_value_heads, text.head_dim, False
    if not hasattr(text, "attention_k_eq_v"):
        return [base] * text.num_hidden_layers
    kinds = getattr(text, "layer_types", None) or ["sliding_attention"] * 5 + ["full_attention"]
    saved = {int(layer): differs for layer, differs in (getattr(text, "per_layer_config", None) or {}).items()}
    published = {"head_dim": getattr(text, "global_head_dim", None) or _GLOBAL_HEAD_DIM}
    if text.attention_k_eq_v and getattr(text, "num_global_key_value_heads", None):
        published["num_key_value_heads"] = text.num_global_key_value_heads
    layers = []
    for number in range(text.num_hidden_layers):
        is_global = kinds[number % len(kinds)] == "full_attention" or number == text.num_hidden_layers - 1
        differs = saved.get(number, {}) if saved else published if is_global else {}
        heads, width = differs.get("num_key_value_heads", base[0]), differs.get("head_dim", base[1])
        layers.append((heads, width, text.attention_k_eq_v and is_global))
    return layers


def count_gemma4_parameters(config: ModelConfig) -> tuple[int, int]:
    """Count the weights of (the language model's linear layers, which quantization shrinks; all others)."""
    text = config.text
    hidden = text.hidden_size
    linear, other = 0, text.vocab_size * hidden + hidden  # embeddings, which are also the output layer; the last norm
    owners = text.num_hidden_layers - getattr(text, "num_kv_shared_layers", 0)
    per_layer = getattr(text, "hidden_size_per_layer_input", 0) or 0
    for number, (kv_heads, width, keys_are_values) in enumerate(config.layers):
        has_keys = number < owners  # the last layers may use the keys and values of earlier ones
        wide = not has_keys and text.use_double_wide_mlp
        projections = 2 * text.num_attention_heads + has_keys * (2 - keys_are_values) * kv_heads
        linear += hidden * width * projections + 3 * hidden * text.intermediate_size * (1 + wide)
        other += 4 * hidden + width * (1 + has_keys)  # norms
        if per_layer:
            other += 2 * hidden * per_layer + hidden
        if getattr(text, "enable_moe_block", False):
            experts = 3 * hidden * text.moe_intermediate_size
            other += text.num_experts * (experts + hidden + 1) + 4 * hidden  # experts, router, norms
    if per_layer:
        width = text.num_hidden_layers * per_layer
        other += text.vocab_size_per_layer_input * width + hidden * width + per_layer
    return linear, other + _vision_parameters(config) + _audio_parameters(config)


def _vision_parameters(config: ModelConfig) -> int:
    v, hidden = config.vision, config.text.hidden_size
    if hasattr(v, "mm_embed_dim"):  # one projection of a token's pixels, three norms with biases
        pixels, width = 3 * (v.patch_size * v.pooling_kernel_size) ** 2, v.mm_embed_dim
        positions = 2 * v.mm_posemb_size * width
        return int(2 * pixels + pixels * width + width + 4 * width + positions + v.output_proj_dims * hidden)
    width, pixels = v.hidden_size, 3 * v.patch_size**2
    attention = 2 * width * v.head_dim * (v.num_attention_heads + v.num_key_value_heads)
    layer = attention + 3 * width * v.intermediate_size + 4 * width + 2 * v.head_dim
    return int(v.num_hidden_layers * layer + (pixels + 2 * v.position_embedding_size + hidden) * width)


def _audio_parameters(config: ModelConfig) -> int:
    a, hidden = config.audio, config.text.hidden_size
    if a is None:
        return 0
    if hasattr(a, "audio_embed_dim"):
        return int(a.audio_embed_dim * hidden)
    width, (first, second) = a.hidden_size, a.subsampling_conv_channels
    head = width // a.num_attention_heads
    feed_forward = 8 * width * width + 2 * width
    convolution = 3 * width * width + a.conv_kernel_size * width + 2 * width
    layer = 2 * feed_forward + convolution + 5 * width * width + head + 3 * width
    stem = 9 * first + first + 9 * first * second + second + first // 4 * second * width
    out = a.output_proj_dims
    return int(stem + a.num_hidden_layers * layer + width * out + out + out * hidden)
