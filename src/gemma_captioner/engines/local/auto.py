"""`--model auto`: the first model and precision that fit in memory. And what to expect without a GPU.

Both are reported before anything is downloaded, so they use the tables of memory.py, not a checkpoint's configuration.
"""

from importlib.util import find_spec

from ...config.model import DEFAULT_MODEL, SMALLER_MODEL
from ...config.settings import Settings
from ...errors import MemoryShortageError
from . import hardware
from .checkpoint import is_downloaded
from .memory import GEMMA3_SIZES, GEMMA4_SIZES, GIB, MemoryPlan

_FRAME_TOKENS = 264  # 256 soft tokens and the markers around them
_ALLOWANCE = 1024  # for the turns of the chat template and the values of variables
_BITS = {"none": "16", "8bit": "8", "4bit": "4"}


def choose_auto_model(settings: Settings) -> tuple[str, str]:
    """Return the model's name, and a line that reports the choice.

    A precision that requires a package that is missing does not count as one that fits; the line names the package.
    """
    device = hardware.choose_device(settings.model.device)
    hint = ""
    for model in (DEFAULT_MODEL, SMALLER_MODEL):
        try:
            plan = _plan(settings, model, device)
        except MemoryShortageError:
            continue
        if plan.precision != "none" and find_spec("bitsandbytes") is None:
            hint = hint or (
                f"; {model} would fit in {_BITS[plan.precision]} bits with pip install 'gemma-captioner[quantize]'"
            )
            continue
        fits = f"in {_BITS[plan.precision]} bits it is the first that fits in memory"
        return model, f"--model auto: {model}, {fits} ({plan.available / GIB:.1f} GiB free on {device}){hint}"
    return SMALLER_MODEL, f"--model auto: {SMALLER_MODEL}, although it may not fit in memory{hint}"


def _plan(settings: Settings, model: str, device: str) -> MemoryPlan:
    prompts = max(len(text) for texts in settings.prompts.values() for text in texts)
    return hardware.plan_memory(
        GEMMA3_SIZES[model.partition("/")[2].removesuffix("-it")],
        settings.model,
        name=model,
        device=device,
        dtype=hardware.choose_dtype(settings.model, device, "bfloat16"),
        request_tokens=settings.frames("clip") * _FRAME_TOKENS
        + prompts
        + _ALLOWANCE
        + max(settings.max_new_tokens("image"), settings.max_new_tokens("clip")),
    )


def warning_without_gpu(model: str, device: str) -> str | None:
    """What a run of this model on a CPU means, and the alternatives. None on a GPU, and for unknown or tiny models."""
    name = model.rpartition("/")[2].lower()
    size = next((a for known, a in (GEMMA3_SIZES | GEMMA4_SIZES).items() if name.startswith(known.lower())), None)
    if device != "cpu" or size is None:
        return None
    download = "" if is_downloaded(model) else f", after a download of about {2 * size.parameters / 1e9:.0f} GB"
    is_small = size.parameters <= GEMMA3_SIZES["gemma-3-4b"].parameters
    smaller = "" if is_small else f", or --model {SMALLER_MODEL} (smaller)"
    return (
        f"{hardware.cpu_only_torch() or 'No GPU was found'}. {model} takes minutes per file on a CPU{download}. "
        f"Instead: --model demo (tries the tool, cannot describe photographs), a server with a GPU "
        f"(--engine server --base-url URL){smaller}. Ctrl-C stops the run"
    )
