"""Chooses the device and the dtype, and measures free memory. Imports torch only if the machine may have a GPU."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import psutil

from ...config.model import ModelSettings
from ...errors import StartError
from .memory import Architecture, MemoryPlan, Precision, plan

Dtype = Literal["bfloat16", "float32"]
BYTES: dict[Dtype, int] = {"bfloat16": 2, "float32": 4}
INSTALL_SELECTOR = "pytorch.org/get-started/locally"


def may_have_gpu() -> bool:
    """Whether there is a GPU driver of a kind that torch uses. If so, only torch knows whether it can use it."""
    if "torch" in sys.modules:
        return True
    if sys.platform == "linux":  # NVIDIA, Windows' own for WSL, AMD
        return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", "C:/Windows"), "System32/nvcuda.dll").exists()
    return True


def choose_device(requested: str) -> str:
    """Return the requested device; for `auto`, the best one. Raises `StartError` if it is not available."""
    if requested == "cpu" or (requested == "auto" and not may_have_gpu()):
        return "cpu"
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return next(device for device, is_available in available.items() if is_available)
    if not available[requested]:
        reason = cpu_only_torch() or f"torch finds no {requested} device"
        raise StartError(
            f"--device {requested}: {reason}. Use --device auto, or run `gemma-captioner doctor` for details"
        )
    return requested


def cpu_only_torch() -> str | None:
    """Explain why torch cannot use the NVIDIA GPU. Return None if it can, or if there is no GPU."""
    if (gpu_name := nvidia_gpu_name()) is None:
        return None
    import torch

    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return (
            f"this machine has {gpu_name}, but torch {torch.__version__} is built for CPUs only: "
            f"reinstall it with the selector at {INSTALL_SELECTOR}"
        )
    return (
        f"this machine has {gpu_name}, but torch {torch.__version__} cannot use it: update the NVIDIA driver, "
        f"which may be too old for CUDA {torch.version.cuda}"
    )


def nvidia_gpu_name() -> str | None:
    """Return the GPU's name from nvidia-smi, which works without torch."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return None
    try:
        completed = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            encoding="utf-8",
            timeout=20,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return next(iter(completed.stdout.splitlines()), None)


def free_memory(device: str) -> int:
    """Return the bytes that a new model can use. On a shared GPU, these are within this process's share."""
    if device == "cpu":
        return min(int(psutil.virtual_memory().available), _container_memory())
    import torch

    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return min(int(free), int(torch.cuda.get_per_process_memory_fraction() * total))
    return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())


def free_memory_of_other_gpus() -> int:
    """Return the free bytes of all GPUs other than the current one."""
    import torch

    current = torch.cuda.current_device() if torch.cuda.is_available() else 0
    return sum(int(torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count()) if i != current)


def _container_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return what the container's memory limit leaves (cgroup v2). psutil does not see this limit."""
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="utf-8"))
        return max(0, limit - int((cgroup / "memory.current").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no limit ("max") or no cgroup v2
        return 2**63


def has_bf16(device: str) -> bool:
    """Return whether the GPU computes in bf16. Older GPUs emulate it, and attention in it needs more memory."""
    if device != "cuda":
        return True
    import torch

    return torch.cuda.get_device_capability() >= (8, 0)


_OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """torch has an exception class for CUDA; the CPU and MPS allocators raise a plain RuntimeError."""
    import torch

    message = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in message for words in _OUT_OF_MEMORY_MESSAGES)


def choose_dtype(settings: ModelSettings, device: str, checkpoint_dtype: str | None) -> Dtype:
    """Return bf16 on an accelerator. On a CPU return bf16 if the checkpoint and the CPU use it, else fp32.

    fp16 is never used: Gemma 3 overflows in it and returns empty answers.
    """
    if settings.dtype != "auto":
        return "bfloat16" if settings.dtype == "bf16" else "float32"
    if device != "cpu":
        return "bfloat16"
    return "bfloat16" if checkpoint_dtype == "bfloat16" and is_bf16_fast_on_cpu() else "float32"


def is_bf16_fast_on_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether oneDNN multiplies bf16 matrices on this CPU. Linux lists the flags that oneDNN looks for."""
    if platform.machine() == "x86_64" and cpuinfo.is_file():
        flags = set(cpuinfo.read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split())
        return {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags or "avx_ne_convert" in flags
    import torch

    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def plan_memory(
    architecture: Architecture,
    settings: ModelSettings,
    *,
    name: str,
    device: str,
    dtype: Dtype,
    request_tokens: int,
    stored: tuple[Precision, int] | None = None,
) -> MemoryPlan:
    """Plan with the memory that is free on this machine. See `memory.plan`."""
    return plan(
        architecture,
        name=name,
        quantize=settings.quantize,
        device=device,
        dtype_bytes=BYTES[dtype],
        available=free_memory(device),
        on_other_gpus=free_memory_of_other_gpus() if device == "cuda" else 0,
        request_tokens=request_tokens,
        stored=stored,
    )
