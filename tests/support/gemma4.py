"""Gemma 4 checkpoints for tests: the published configurations, and tiny checkpoints derived from them.

tests/data/gemma4 holds the published configurations with their sources. A tiny checkpoint is narrower and shallower. It
keeps the structure: the order of layers, shared keys and values, two head widths, per-layer inputs, experts, the audio
tower, and unified vision.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT

PUBLISHED = Path(__file__).parents[1] / "data" / "gemma4"
SIZES = ("E2B", "E4B", "12B", "26B-A4B", "31B")
PATCH, KERNEL = 4, 3  # a token covers 12 x 12 pixels in a tiny checkpoint, 48 x 48 in a real one
_TOKENS = {
    "<start_of_image>": "<|image>",
    "<end_of_image>": "<image|>",
    "<image_soft_token>": "<|image|>",
    "<start_of_turn>": "<|turn>",
    "<end_of_turn>": "<turn|>",
}
_AUDIO_TOKENS = {"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
_VIDEO_TOKEN = "<|video|>"
# The published templates without tools: system message, content parts and thinking.
_HEAD = """{{ bos_token }}
{%- set thinks = enable_thinking is defined and enable_thinking -%}
{%- set rest = messages -%}
{%- if thinks or messages[0]['role'] in ['system', 'developer'] -%}
{{ '<|turn>system\\n' }}{%- if thinks -%}{{ '<|think|>' }}{%- endif -%}
{%- if messages[0]['role'] in ['system', 'developer'] -%}
{{ messages[0]['content'] | trim }}{%- set rest = messages[1:] -%}
{%- endif -%}{{ '<turn|>\\n' }}
{%- endif -%}
{%- for message in rest -%}
{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{%- if message['content'] is string -%}{{ message['content'] | trim }}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'text' -%}{{ item['text'] | trim }}
"""
_TAIL = """{%- endif -%}
{%- endfor -%}
{%- endif -%}{{ '<turn|>\\n' }}
{%- endfor -%}
"""
TEMPLATES = {
    "blank lines": _HEAD
    + """{%- elif item['type'] == 'image' -%}{{ '\\n\\n<|image|>\\n\\n' }}
{%- elif item['type'] == 'video' -%}{{ '\\n\\n<|video|>\\n\\n' }}
{%- elif item['type'] == 'audio' -%}{{ '<|audio|>' }}
"""
    + _TAIL
    + "{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}\n",
    "empty thought": _HEAD
    + """{%- elif item['type'] == 'image' -%}{{ '<|image|>' }}
{%- elif item['type'] == 'video' -%}{{ '<|video|>' }}
{%- elif item['type'] == 'audio' -%}{{ '<|audio|>' }}
"""
    + _TAIL
    + """{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}
{%- if not thinks -%}{{ '<|channel>thought\\n<channel|>' }}{%- endif -%}
{%- endif -%}
""",
}
TEMPLATE_OF = {"E2B": "blank lines", "E4B": "blank lines", "12B": "empty thought", "26B-A4B": "empty thought"}


def published(size: str) -> dict[str, Any]:
    """The configuration as it is published."""
    config: dict[str, Any] = json.loads((PUBLISHED / f"{size}.json").read_text(encoding="utf-8"))
    return config


def config_of(values: dict[str, Any]) -> Any:
    return CONFIG_MAPPING[values["model_type"]].from_dict(values)


def model_of(config: Any) -> Any:
    """At full size, on no device: nothing is allocated."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def tiny(size: str, tokenizer: Any, patch: int = PATCH, head_dim: int = 16) -> dict[str, Any]:
    config = published(size)
    text, vision, audio = config["text_config"], config["vision_config"], config["audio_config"]
    period = text["layer_types"].index("full_attention") + 1
    shared = period if text["num_kv_shared_layers"] else 0
    layers = 2 * period + shared  # the last period looks at the second's keys and values where any is shared
    text |= {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "layer_types": text["layer_types"][:layers],
        "num_kv_shared_layers": shared,
        "num_attention_heads": text["num_attention_heads"] // 2,
        "num_key_value_heads": max(1, text["num_key_value_heads"] // 2),
        "head_dim": head_dim,
        "global_head_dim": 2 * head_dim,
        "sliding_window": 48,
        "hidden_size_per_layer_input": text["hidden_size_per_layer_input"] // 32,
        "vocab_size": len(tokenizer),
        "vocab_size_per_layer_input": len(tokenizer),
    }
    if text["num_global_key_value_heads"]:
        text["num_global_key_value_heads"] = max(1, text["num_global_key_value_heads"] // 2)
    if text.get("enable_moe_block"):
        text |= {"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 24}
    vision["patch_size"] = patch
    if config["model_type"] == "gemma4_unified":
        vision |= {"mm_embed_dim": 48, "output_proj_dims": 48, "model_patch_size": patch * KERNEL}
    else:
        vision |= {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "global_head_dim": 16,
        }
        if audio is not None:
            audio |= {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 24}
            audio |= {"subsampling_conv_channels": [128, 4]}  # the first is the number of mel bins
    ids = {"boi_token_id": "<|image>", "eoi_token_id": "<image|>", "image_token_id": "<|image|>"}
    ids |= {"boa_token_id": "<|audio>", "eoa_token_id": "<audio|>", "audio_token_id": "<|audio|>"}
    ids |= {"video_token_id": _VIDEO_TOKEN}
    ends = {"eos_token_id": tokenizer.convert_tokens_to_ids(["<eos>", "<turn|>"])}  # published: [1, 106]
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()}
    return config | ids | ends | {"dtype": "float32"}


def write_description(folder: Path, size: str, template: str | None = None, patch: int = 16) -> None:
    """Write the tokenizer (the demo's vocabulary, Gemma 4's special tokens), the chat template and the processor."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (DEMO_CHECKPOINT / name).read_text(encoding="utf-8")
        for old, new in _TOKENS.items():
            text = text.replace(old, new)
        values = json.loads(text.replace("Gemma3Processor", "Gemma4Processor"))
        if name == "tokenizer.json":
            vocabulary = values["model"]["vocab"]
            for token in (*_AUDIO_TOKENS.values(), _VIDEO_TOKEN):
                flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
                values["added_tokens"].append({"id": len(vocabulary), "content": token, "special": True, **flags})
                vocabulary[token] = len(vocabulary)
        else:
            values |= _AUDIO_TOKENS | {"extra_special_tokens": [_VIDEO_TOKEN]}
        (folder / name).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    template = template or TEMPLATES[TEMPLATE_OF.get(size, "empty thought")]
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    family = "Gemma4Unified" if published(size)["model_type"] == "gemma4_unified" else "Gemma4"
    images = {"image_processor_type": f"{family}ImageProcessor", "max_soft_tokens": 280}
    images |= {"patch_size": patch, "pooling_kernel_size": KERNEL, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    videos = images | {"video_processor_type": f"{family}VideoProcessor", "max_soft_tokens": 70}
    del videos["image_processor_type"]
    # Published with every size, also with those that take no sound or no video.
    sounds = {"feature_extractor_type": f"{family}AudioFeatureExtractor", "sampling_rate": 16_000}
    processor = {"processor_class": f"{family}Processor", "image_processor": images, "image_seq_length": 280}
    processor |= {"video_processor": videos, "feature_extractor": sounds}
    processor |= {"audio_seq_length": 750, "audio_ms_per_token": 40}
    (folder / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")


def write_full_size(folder: Path, size: str) -> Path:
    """Write a full-size checkpoint without weights, for memory plans."""
    write_description(folder, size)
    (folder / "config.json").write_text(json.dumps(published(size)), encoding="utf-8")
    (folder / "model.safetensors").touch()
    return folder


def write_tiny(folder: Path, size: str, template: str | None = None, patch: int = PATCH, head_dim: int = 16) -> Path:
    """Write a tiny checkpoint with random fp32 weights."""
    write_description(folder, size, template, patch)
    torch.manual_seed(0)
    config = config_of(tiny(size, AutoTokenizer.from_pretrained(folder), patch, head_dim))
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)  # makes answers differ
    model.save_pretrained(folder)
    return folder


def write_served(folder: Path, size: str) -> Path:
    """Write a tiny checkpoint that servers can load: frames of the real size, heads that vLLM has a CPU kernel for."""
    return write_tiny(folder / f"gemma-4-{size}-tiny", size, patch=16, head_dim=32)


def causal(checkpoint: Path, folder: Path) -> Path:
    """A copy whose image tokens attend to earlier tokens only."""
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["use_bidirectional_attention"] = None
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
