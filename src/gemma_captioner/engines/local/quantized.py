"""Checkpoints that are quantized already: what they are stored in, and what they need to be loaded."""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers.quantizers.auto import AutoHfQuantizer

from ...config.model import Quantize
from ...errors import ModelError, UsageError
from .checkpoint import Checkpoint, weight_bytes
from .memory import Precision


def stored(found: Checkpoint, asked: Quantize, device: str, dtype: torch.dtype) -> tuple[Precision, int] | None:
    """Its precision and its weights' bytes; None where its weights are not quantized.

    Raises `UsageError` for a --quantize that contradicts it, `ModelError` where what it needs is not here.
    """
    if (how := found.quantization) is None:
        return None
    precision, method = precision_of(how), str(how.get("quant_method"))
    if asked not in ("auto", precision):
        raise UsageError(
            f"{found.name} is stored in {precision} ({method}), which --quantize {asked} contradicts: leave it out, or "
            "take the checkpoint in 16 bits"
        )
    try:  # before a download, not after it
        quantizer = AutoHfQuantizer.from_config(dict(how), pre_quantized=True)
        quantizer.validate_environment(device_map={"": device}, dtype=dtype)
    except (ImportError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{found.name} is quantized by {method}, which cannot be used here: {reason}") from error
    return precision, weight_bytes(found)


def precision_of(quantization: Mapping[str, Any]) -> Precision:
    """The nearer of those that a plan knows, whatever the method calls it."""
    said = json.dumps(quantization).lower()
    bits = re.search(r'"(?:num_)?bits": (\d+)', said)
    is_4bit = bool(quantization.get("load_in_4bit")) or (int(bits[1]) <= 4 if bits else "int4" in said or "fp4" in said)
    return "4bit" if is_4bit else "8bit"


def name_of_today(module: str) -> str:
    """A layer's name as transformers has it since 4.52, from the one that it may have had before."""
    return module.replace("language_model.model.", "language_model.").replace("vision_model.", "")


def config_of(found: Checkpoint) -> Any:
    """Its configuration; which layers are not quantized, it may tell by older names.

    transformers renames weights as it loads them, and not the names in this list.
    """
    config = transformers.AutoConfig.from_pretrained(found.folder, local_files_only=True)
    quantization = getattr(config, "quantization_config", None) or {}
    if names := quantization.get("llm_int8_skip_modules"):
        today = (rf"(?:.*\.)?{name_of_today(name)}" for name in names)
        quantization["llm_int8_skip_modules"] = [*names, *today]
    return config
