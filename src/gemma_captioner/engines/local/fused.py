"""Compiles the elementwise work of a language model's layers: RMSNorm, RoPE and the gated product of the MLP.

Without compilation, these are most kernels of a decode step: ten for each of six norms, ten for RoPE. Inductor fuses
a norm into one kernel, RoPE into two, and the product into one. They round where the eager kernels round; only the
sum of a norm may be added up in another order.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .hardware import is_out_of_memory

_CHECKED_ROWS = 16
_MAX_DIFFERENCE = 2**-7  # relative: two units in the last place of bf16

Function = Callable[..., Any]


def compile_region(function: Function) -> Function:
    """Compile a function for any number of rows. Each width and each dtype is compiled separately."""
    torch._dynamo.config.recompile_limit = 64  # widths of heads, of the hidden state and of the MLP; one row or several
    compiled = torch.compile(function, dynamic=False, options={"emulate_precision_casts": True})

    def run(*args: Any, **kwargs: Any) -> Any:
        for tensor in args:
            if isinstance(tensor, torch.Tensor):
                for dim in range(tensor.dim() - 1):
                    torch._dynamo.maybe_mark_dynamic(tensor, dim)
        return compiled(*args, **kwargs)

    return run


class FusedLayers:
    """Replaces parts of a language model by compiled ones. If one fails or differs, all become eager again."""

    def __init__(
        self, language_model: nn.Module, report: Callable[[str], None], compile: Callable[[Function], Function]
    ) -> None:
        """Compile nothing yet.

        Args:
            language_model: Its modules are changed in place.
            report: Receives one line for the user if the compiled parts are given up.
            compile: `compile_region`, or a replacement for tests.
        """
        self._report, self._compile = report, compile
        self.enabled = True
        self.is_checking = True  # compare some rows with the eager results, for which the host waits
        self._compiled: dict[Function, Function] = {}
        self._replaced: list[nn.Module] = []
        for module in language_model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                self._replace(module, self._norm)
            elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
                self._replace(module, self._mlp)
        # The layers look RoPE up in their own Python module, whose other models it does not change.
        self._namespace: Any = sys.modules[type(language_model).__module__]
        self._rope: Function = self._namespace.apply_rotary_pos_emb

    def __enter__(self) -> None:
        if self.enabled:
            self._namespace.apply_rotary_pos_emb = self._fused_rope

    def __exit__(self, *exc: object) -> None:
        self._namespace.apply_rotary_pos_emb = self._rope

    def undo(self) -> None:
        """Leave the model as it was. Otherwise, its parts would keep it alive until the garbage collector runs."""
        for module in self._replaced:
            del module.forward
        self._replaced = []

    def _replace(self, module: nn.Module, fused: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        eager = type(module).forward
        self._replaced.append(module)
        module.forward = lambda x: fused(module, x) if self.enabled else eager(module, x)

    # Inputs are flattened to two dimensions, so that few shapes are compiled

    def _norm(self, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
        swap = x.dim() == 4 and not x.is_contiguous()  # columns come before heads in memory
        ordered = x.transpose(1, 2) if swap else x
        flat: torch.Tensor = self._run(type(norm).forward, norm, ordered.reshape(-1, x.shape[-1]))
        return flat.view(ordered.shape).transpose(1, 2) if swap else flat.view(ordered.shape)

    def _mlp(self, mlp: Any, x: torch.Tensor) -> torch.Tensor:
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        product = self._run(_gated_product, mlp.act_fn, gate.flatten(0, -2), up.flatten(0, -2))
        return mlp.down_proj(product.view(gate.shape))  # type: ignore[no-any-return]

    def _fused_rope(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._rope, *args, **kwargs)

    def _run(self, eager: Function, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled function, or the eager one if that is not possible."""
        if self.enabled:
            try:
                if eager not in self._compiled:
                    self._compiled[eager] = self._compile(eager)
                result = self._compiled[eager](*args, **kwargs)
                if not self.is_checking or _agree(result, eager(*map(_first_rows, args), **kwargs)):
                    return result
                self._give_up("their results differ")
            except Exception as error:  # a compiler may raise any exception
                if is_out_of_memory(error):
                    raise
                self._give_up(str(error).strip().split("\n")[0] or type(error).__name__)
        return eager(*args, **kwargs)

    def _give_up(self, reason: str) -> None:
        self.enabled = False
        self._report(f"the model runs without compiled kernels, which is slower ({reason})")


def _gated_product(activation: Function, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return activation(gate) * up  # type: ignore[no-any-return]


def _first_rows(value: Any) -> Any:
    return value[:_CHECKED_ROWS] if isinstance(value, torch.Tensor) else value


def _agree(result: Any, expected: Any) -> bool:
    if isinstance(expected, tuple):
        return all(map(_agree, result, expected))
    found, expected = _first_rows(result).float(), expected.float()
    nearly_zero = _MAX_DIFFERENCE * float(expected.abs().nan_to_num().max())
    return torch.allclose(found, expected, rtol=_MAX_DIFFERENCE, atol=nearly_zero, equal_nan=True)
