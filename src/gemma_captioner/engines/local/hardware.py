"""What there is to run a model on: device, free memory, arithmetic."""

import shutil
import subprocess
from pathlib import Path

import psutil
import torch

from ...config.model import ModelSettings
from ...errors import StartError

INSTALL_SELECTOR = "pytorch.org/get-started/locally"


def choose_device(requested: str) -> str:
    """`auto` -> the best there is. Raises `StartError` for one that is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return next(device for device, is_available in available.items() if is_available)
    if not available[requested]:
        reason = cpu_only_torch() or f"torch sees no {requested} device"
        raise StartError(
            f"--device {requested}: {reason}. --device auto takes what there is; `gemma-captioner doctor` tells"
        )
    return requested


def cpu_only_torch() -> str | None:
    """The commonest broken install, said in words: an NVIDIA card, and a torch that was built without CUDA."""
    if torch.cuda.is_available() or (gpu_name := nvidia_gpu_name()) is None:
        return None
    if torch.version.cuda is None:
        return (
            f"{gpu_name} is here, but this torch ({torch.__version__}) was built for CPUs only: "
            f"reinstall it with the selector at {INSTALL_SELECTOR}"
        )
    return (
        f"{gpu_name} is here, but torch {torch.__version__} cannot use it: update its driver, "
        f"which may be older than CUDA {torch.version.cuda} wants"
    )


def nvidia_gpu_name() -> str | None:
    """Its name by the driver's own tool, which needs no torch."""
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
    """Bytes that a new model could take."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min(int(psutil.virtual_memory().available), _container_memory())


def free_memory_of_other_gpus() -> int:
    """Bytes free on the GPUs besides the current one."""
    current = torch.cuda.current_device() if torch.cuda.is_available() else 0
    return sum(int(torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count()) if i != current)


def _container_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit leaves (cgroup v2), which the machine's own figures do not show."""
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="utf-8"))
        return max(0, limit - int((cgroup / "memory.current").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no such limit: "max"
        return 2**63


def choose_dtype(settings: ModelSettings, device: str, checkpoint_dtype: str | None) -> torch.dtype:
    """bf16 on an accelerator. On a CPU what the checkpoint is stored in, unless that is bf16 and the CPU lacks it.

    Never fp16: Gemma 3 overflows in it and answers nothing.
    """
    if settings.dtype != "auto":
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[settings.dtype]
    if device != "cpu":
        return torch.bfloat16
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    fast = checkpoint_dtype == "bfloat16" and onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
