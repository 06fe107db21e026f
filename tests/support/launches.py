"""Counts the kernels of a decode step of real size on the meta device, which computes nothing."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForImageTextToText

from gemma_captioner.engines.local.fused import FusedLayers
from gemma_captioner.engines.local.generation import DecodeRunner
from gemma_captioner.engines.local.memory import GEMMA3_SIZES
from tests.support.engines import gemma3_config

# Of each compiled function, the kernels that Inductor generates for CUDA; a test compares them with its code.
KERNELS = {"forward": 1, "apply_rotary_pos_emb": 2, "_gated_product": 1}
ROWS, COLUMNS = 64, 448
_NO_KERNEL = ("empty", "new_empty", "_unsafe_view", "detach")


class LaunchCounter(TorchDispatchMode):
    """Counts operations that write memory. An attention call counts as one, as CUDA's fused kernels do."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        is_view = all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        name = func.overloadpacket.__name__
        if not is_view and not name.startswith(_NO_KERNEL):
            self.launches.append(name)
        return outputs


def count(monkeypatch: Any, size: str, *, fused: bool) -> tuple[list[str], int]:
    """Return the names of a step's kernels, and the number of layers."""
    model, known = meta_model(size), GEMMA3_SIZES[size]
    counter = LaunchCounter()

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, **kwargs: Any):
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # PyTorch converts it, in every layer
            counter.launches += ["convert mask"] * 3
        if key.shape[-2] % 8:  # PyTorch copies the mask to an aligned width, in every layer
            counter.launches.append("pad mask")
        counter.launches.append("attention")
        return torch.empty(query.shape, dtype=query.dtype, device=query.device)

    def compile(function):
        def compiled(*args, **kwargs):
            counter.launches += ["compiled"] * KERNELS[function.__name__]
            before = len(counter.launches)
            result = function(*args, **kwargs)
            del counter.launches[before:]
            return result

        return compiled

    lines: list[str] = []
    layers = FusedLayers(model.model.language_model, lines.append, compile)
    layers.enabled, layers.is_checking = fused, False
    with layers, torch.no_grad():
        runner = DecodeRunner(model, ROWS, COLUMNS, constant_shapes=True)
        for layer in runner.cache.layers.layers:
            layer.lazy_initialization(
                *torch.empty((2, ROWS, known.kv_heads, 1, known.head_dim), device="meta").bfloat16()
            )
        runner.use_rows(ROWS, COLUMNS - 1)
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
            with counter:
                runner.forward()
    assert lines == []
    return counter.launches, model.config.text_config.num_hidden_layers


def meta_model(size: str) -> Any:
    config = gemma3_config(GEMMA3_SIZES[size], num_hidden_layers=1)
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
