"""Counts the CUDA kernels that Inductor generates for a function, on a machine without CUDA.

Triton's package is needed and installed for this alone; nothing is compiled for a device. Run in a process of its own,
because it tells torch that there is an H100: python -m tests.support.inductor PACKAGES
"""

import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

H100 = SimpleNamespace(
    name="H100",
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    total_memory=80 << 30,
    shared_memory_per_block_optin=232448,
    L2_cache_size=50 << 20,
    gcnArchName="",
)


def pretend_to_have_an_h100() -> None:
    for name, value in {
        "get_device_properties": H100,
        "get_device_capability": (9, 0),
        "current_device": 0,
        "device_count": 1,
        "is_available": True,
        "get_device_name": "H100",
    }.items():
        setattr(torch.cuda, name, lambda *args, value=value: value)
    from torch._dynamo.device_interface import CudaInterface

    torch.utils._triton.triton_hash_with_backend = lambda: ""
    CudaInterface.get_device_properties = staticmethod(lambda device=None: H100)
    CudaInterface.get_compute_capability = staticmethod(lambda device=None: 90)
    CudaInterface.Worker.get_device_properties = staticmethod(lambda device=None: H100)


def kernels(function: Callable[..., Any], make_inputs: Callable[[], tuple[Any, ...]]) -> int:
    """Return the number of kernels in the code for `function`. make_inputs: makes tensors on "cuda"."""
    from torch._inductor import config, metrics
    from torch._inductor.debug import DebugContext
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    shapes = ShapeEnv()
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    with mode, torch.no_grad():
        inputs = make_inputs()
        traced = make_fx(function, decomposition_table=select_decomp_table())(*inputs)
    metrics.reset()
    lowering = GraphLowering(traced, example_inputs=inputs, shape_env=shapes, aot_mode=False)
    handlers = V.set_graph_handler(lowering), V.set_fake_mode(mode), V.set_debug_handler(DebugContext())
    with handlers[0], handlers[1], handlers[2], config.patch(emulate_precision_casts=True):
        lowering.run(*inputs)
        lowering.codegen()
    return int(metrics.generated_kernel_count)


def main() -> None:
    from transformers.activations import ACT2FN
    from transformers.models.gemma3 import modeling_gemma3
    from transformers.models.gemma4 import modeling_gemma4

    from gemma_captioner.engines.local.fused import _gated_product

    pretend_to_have_an_h100()

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="cuda", dtype=torch.bfloat16)

    def heads(count: int) -> torch.Tensor:
        return empty(64, 1, count, 256).transpose(1, 2)

    def norm(kind: type, width: int) -> int:
        module = SimpleNamespace(eps=1e-6, with_scale=True)
        module._norm = lambda x: kind._norm(module, x)

        def forward(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            module.weight = weight
            return kind.forward(module, x)

        return kernels(forward, lambda: (empty(width), empty(64, width)))

    found = {}
    for family, name in ((modeling_gemma3, "Gemma3RMSNorm"), (modeling_gemma4, "Gemma4RMSNorm")):
        found |= {f"{name} {width}": norm(getattr(family, name), width) for width in (256, 2560, 3840)}

    def rotate_half(x: torch.Tensor) -> torch.Tensor:  # without slices, which require a torch built for CUDA
        first, second = x.chunk(2, dim=-1)
        return torch.cat((-second, first), dim=-1)

    modeling_gemma3.rotate_half = rotate_half
    found["rope"] = kernels(
        lambda *inputs: modeling_gemma3.apply_rotary_pos_emb(*inputs),
        lambda: (heads(8), heads(4), empty(64, 1, 256), empty(64, 1, 256)),
    )
    activation = ACT2FN["gelu_pytorch_tanh"]
    found["gated product"] = kernels(
        lambda gate, up: _gated_product(activation, gate, up), lambda: (empty(64, 10240), empty(64, 10240))
    )
    print(json.dumps(found))


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main()
