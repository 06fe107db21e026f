"""Checks of this machine: packages, GPU, memory, model hub, extras."""

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..config.decoding import FrameSamplingSettings
from ..config.model import DEFAULT_MODEL
from ..engines.local import memory
from ..engines.local.memory import GEMMA3_SIZES, GEMMA4_SIZES, GIB
from . import Diagnostic

EXTRAS = {  # extra -> a package that only this extra installs
    "quantize": "bitsandbytes",
    "scenes": "scenedetect-headless",
    "media": "ImageHash",
    "server": "openai",
    "review": "nicegui",
    "export": "pyarrow",
    "cluster": "ray",
    "cloud": "universal-pathlib",
    "transcribe": "faster-whisper",
}
_REQUEST_TOKENS = FrameSamplingSettings().frames * 260 + 1024  # a clip of default length, its prompt and its caption


def diagnose_machine() -> Iterator[Diagnostic]:
    """Yield one finding per part of this machine."""
    from ..engines.local import hardware  # imports torch, which takes seconds, if there may be a GPU

    yield Diagnostic("good", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Diagnostic(
        "good",
        "packages",
        ", ".join(f"{name} {version(name)}" for name in ("gemma-captioner", "torch", "transformers", "av")),
    )
    device = hardware.choose_device("auto")
    if problem := hardware.cpu_only_torch():
        yield Diagnostic("bad", "GPU", problem)
    elif device == "cpu":
        yield Diagnostic(
            "note",
            "GPU",
            "none: a CPU is enough for the demo, but the smallest Gemma takes minutes per file. Rent a GPU with 24 GB "
            "or more, or use a server with --base-url",
        )
    else:
        name = hardware.nvidia_gpu_name() or device
        yield Diagnostic("good", "GPU", f"{name}, used by torch as {device}")
    yield from _memory(device, hardware.free_memory(device))
    yield from _hub()
    for extra, package in EXTRAS.items():
        try:
            yield Diagnostic("good", f"extra {extra}", f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Diagnostic("note", f"extra {extra}", f"not installed: pip install 'gemma-captioner[{extra}]'")


def _memory(device: str, available: int) -> Iterator[Diagnostic]:
    yield Diagnostic("good", "free memory", f"{available / GIB:.1f} GiB on {device}")
    for size, architecture in (GEMMA3_SIZES | GEMMA4_SIZES).items():
        fits = {
            precision: memory.required_bytes(architecture, precision, device, 2, _REQUEST_TOKENS)
            for precision in memory.precisions("auto", device)
        }
        names = {"none": "bf16", "8bit": "8bit", "4bit": "4bit"}
        summary = ", ".join(
            f"{names[p]} {(weights + working) / GIB:.1f} GiB (weights {weights / GIB:.1f}) "
            f"{'fits' if weights + working <= available else 'does not fit'}"
            for p, (weights, working) in fits.items()
        )
        any_fits = any(sum(needed) <= available for needed in fits.values())
        yield Diagnostic("good" if any_fits else "note", f"{size}-it", summary)


def _hub() -> Iterator[Diagnostic]:
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_CACHE as cache
    from huggingface_hub.constants import HF_HUB_OFFLINE

    disk = next(folder for folder in (Path(cache), *Path(cache).parents) if folder.is_dir())
    yield Diagnostic("good", "disk for models", f"{shutil.disk_usage(disk).free / GIB:.0f} GiB free at {cache}")
    token = huggingface_hub.get_token()
    yield Diagnostic(
        "good" if token else "note",
        "Hugging Face token",
        "set" if token else "none: open models need none. For gated models, run `hf auth login`",
    )
    if HF_HUB_OFFLINE:
        yield Diagnostic(
            "note", "hub", "HF_HUB_OFFLINE is set: only downloaded models work. Unset it to download others"
        )
        return
    try:
        huggingface_hub.HfApi().model_info(DEFAULT_MODEL, timeout=10)
    except Exception as error:  # any network error is a finding, not a failure of the command
        reason = " ".join(str(error).split())[:120]
        yield Diagnostic("note", "hub", f"does not answer ({reason}): only downloaded models and `demo` work")
    else:
        yield Diagnostic("good", "hub", f"answers, and has {DEFAULT_MODEL}")
