"""Supports checkpoints that are stored quantized."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ...config.model import Quantize
from ...errors import ModelError, UsageError
from .checkpoint import Checkpoint, weight_bytes
from .hardware import Dtype
from .memory import Precision


def stored_precision(
    checkpoint: Checkpoint, quantize: Quantize, device: str, dtype: Dtype
) -> tuple[Precision, int] | None:
    """Return the stored precision and the bytes of the weights; None if the weights are not quantized.

    Raises `UsageError` if --quantize contradicts it, and `ModelError` if a required package or device is missing.
    """
    if (quantization := checkpoint.quantization) is None:
        return None
    precision, method = precision_of(quantization), str(quantization.get("quant_method"))
    if quantize not in ("auto", precision):
        raise UsageError(
            f"{checkpoint.name} is stored in {precision} ({method}), so --quantize {quantize} is not possible: "
            "remove it, or use the 16-bit checkpoint"
        )
    import torch
    from transformers.quantizers.auto import AutoHfQuantizer

    try:  # checked before the download
        quantizer = AutoHfQuantizer.from_config(dict(quantization), pre_quantized=True)
        quantizer.validate_environment(device_map={"": device}, dtype=getattr(torch, dtype))
    except (ImportError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{checkpoint.name} is quantized with {method}, which does not work on this machine: {reason}"
        ) from error
    return precision, weight_bytes(checkpoint)


def precision_of(quantization: Mapping[str, Any]) -> Precision:
    """Return the closest `Precision` for any quantization method."""
    text = json.dumps(quantization).lower()
    bits = re.search(r'"(?:num_)?bits": (\d+)', text)
    is_4bit = bool(quantization.get("load_in_4bit")) or (int(bits[1]) <= 4 if bits else "int4" in text or "fp4" in text)
    return "4bit" if is_4bit else "8bit"


def current_module_name(module: str) -> str:
    """Convert a layer's name from before transformers 4.52 to its current name."""
    return module.replace("language_model.model.", "language_model.").replace("vision_model.", "")


def config_of(checkpoint: Checkpoint) -> Any:
    """Load the configuration and add the current names of the layers that are not quantized.

    transformers converts old names of weights when it loads them, but not the names in this list.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    quantization = getattr(config, "quantization_config", None) or {}
    if names := quantization.get("llm_int8_skip_modules"):
        today = (rf"(?:.*\.)?{current_module_name(name)}" for name in names)
        quantization["llm_int8_skip_modules"] = [*names, *today]
    return config
