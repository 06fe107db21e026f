"""Prefill attention that skips what the mask hides: what it computes, counted, and that nothing changes."""

from collections import defaultdict
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, Gemma3Config

from gemma_captioner.engines.local.attention import QUERY_CHUNK, SKIPPING_ATTENTION, key_ranges

FRAMES, TOKENS_PER_FRAME, PROMPT = 12, 256, 3210  # a clip for Gemma 3


@pytest.fixture(scope="module")
def model() -> Any:
    """One layer of each kind with the window of the published sizes, and narrow."""
    text = {
        "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "vocab_size": 99, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 1024,
    }  # fmt: skip
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text, vision_config=vision, image_token_index=98)
    return AutoModelForImageTextToText.from_config(config).eval()


def prompt(rows: int) -> dict[str, torch.Tensor]:
    """Prompts of 12 frames: images of 256 tokens between short texts. All rows but the first are shorter."""
    is_image = torch.zeros(rows, PROMPT, dtype=torch.long)
    for start in range(20, 20 + FRAMES * 264, 264):
        is_image[:, start + 3 : start + 3 + TOKENS_PER_FRAME] = 1
    mask = torch.ones(rows, PROMPT, dtype=torch.long)
    for row in range(1, rows):
        mask[row, : 264 * row] = 0
    ids = torch.tensor([[Random(row).randrange(5, 90) for _ in range(PROMPT)] for row in range(rows)])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": is_image * mask}


def run(model: Any, name: str, monkeypatch: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
    """Return the logits of the last token, and the operations of each layer in pairs of a query and a key."""
    model.set_attn_implementation({"text_config": name})
    pairs: dict[int, int] = defaultdict(int)
    layers = [layer.self_attn for layer in model.model.language_model.layers]
    current = [0]
    hooks = [
        attention.register_forward_pre_hook(lambda *args, i=i: current.__setitem__(0, i))
        for i, attention in enumerate(layers)
    ]
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(query, key, *args, **kwargs):
        pairs[current[0]] += query.shape[2] * key.shape[2]
        return attend(query, key, *args, **kwargs)

    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
        logits = model(**inputs, logits_to_keep=1).logits
    for hook in hooks:
        hook.remove()
    return logits, [pairs[i] for i in range(len(layers))]


@pytest.mark.parametrize("rows", [1, 3])
def test_hidden_keys_are_skipped_and_the_logits_stay(model, monkeypatch, rows):
    inputs = prompt(rows)
    expected, dense = run(model, "sdpa", monkeypatch, inputs)
    found, computed = run(model, SKIPPING_ATTENTION, monkeypatch, inputs)
    assert torch.allclose(found, expected, atol=1e-5)
    sliding, full = (c / d for c, d in zip(computed, dense, strict=True))
    print(f"{rows} rows: sliding {sliding:.3f}, full {full:.3f} of dense")
    assert sliding <= 0.5 and full <= 0.7


def test_ranges_follow_the_mask():
    length = 3 * QUERY_CHUNK
    position = torch.arange(length)
    causal = position[:, None] >= position
    assert key_ranges(causal[None, None]) == [(0, 512), (0, 1024), (0, 1536)]
    window = causal & (position[:, None] - position < 100)
    assert key_ranges(window[None, None]) == [(0, 512), (413, 1024), (925, 1536)]
    window[500, 700] = True  # part of an image sees the rest of it
    padded = causal & (position >= 600)  # queries that see nothing get one key
    assert key_ranges(window[None, None])[0] == (0, 701)
    assert key_ranges(padded[None, None])[0][1] - key_ranges(padded[None, None])[0][0] >= 1
    assert key_ranges(torch.stack([window, padded])[:, None])[1] == (413, 1024)
