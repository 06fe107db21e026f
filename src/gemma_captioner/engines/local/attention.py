"""Attention for the language model that skips keys which the mask hides: half of all in a prompt of several frames.

Importing this module registers it with transformers under the name `SKIPPING_ATTENTION`.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SKIPPING_ATTENTION = "skipping_sdpa"
QUERY_CHUNK = 512  # queries that share a range of keys


def key_ranges(mask: torch.Tensor) -> list[tuple[int, int]]:
    """Return the range of keys, [first, end), that any query of a chunk sees, for each chunk of queries.

    mask: bool [rows, 1, queries, keys], True where a query sees a key.

    # 1,024 tokens, causal -> (0, 512), (0, 1024)      with a window of 100 tokens -> (0, 512), (413, 1024)
    """
    seen = mask.any(0)[0]
    chunks = torch.stack([chunk.any(0) for chunk in torch.split(seen, QUERY_CHUNK)]).int()
    first, after = chunks.argmax(-1), chunks.flip(-1).argmax(-1)
    pairs = torch.stack([first, mask.shape[-1] - after], -1).tolist()
    return [(first, end) for first, end in pairs]


def skipping_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' `sdpa`, which it calls for each chunk of queries with the keys that the chunk sees."""
    if attention_mask is None or attention_mask.dtype != torch.bool or query.shape[2] <= QUERY_CHUNK:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    mask_with_ranges: Any = attention_mask  # all layers of a kind get the same mask
    if not hasattr(mask_with_ranges, "key_ranges"):
        mask_with_ranges.key_ranges = key_ranges(attention_mask)
    outputs = []
    for start, (first, end) in zip(range(0, query.shape[2], QUERY_CHUNK), mask_with_ranges.key_ranges, strict=True):
        queries = slice(start, start + QUERY_CHUNK)
        mask = attention_mask[:, :, queries, first:end]
        keys, values = key[:, :, first:end], value[:, :, first:end]
        outputs.append(sdpa_attention_forward(module, query[:, :, queries], keys, values, mask, **kwargs)[0])
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(SKIPPING_ATTENTION, skipping_attention)
AttentionMaskInterface.register(SKIPPING_ATTENTION, sdpa_mask)
