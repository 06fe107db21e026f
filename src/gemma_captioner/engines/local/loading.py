"""Loads a checkpoint's weights onto its device in the planned precision."""

import logging
from typing import Any

import torch
import transformers
from transformers.utils import logging as transformers_logging

from ...errors import ModelError
from .adapter import Adapter, merge
from .attention import SKIPPING_ATTENTION
from .checkpoint import Checkpoint, map_loading_errors
from .hardware import Dtype
from .memory import MemoryPlan
from .quantized import config_of

transformers_logging.set_verbosity_error()
# 8-bit layers log a warning at every call that they cast inputs to fp16. The user can do nothing about it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# Flash attention makes image tokens causal; eager attention needs 1 GB per image. Gemma 4's audio tower supports only
# eager, so it is not listed.
_ATTENTION = {"": "sdpa", "text_config": SKIPPING_ATTENTION, "vision_config": "sdpa"}


def check_config(checkpoint: Checkpoint) -> None:
    """Raise `ModelError` if transformers does not accept the configuration."""
    with map_loading_errors(checkpoint.name, checkpoint.token):
        transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)


def load_model(checkpoint: Checkpoint, dtype: Dtype, plan: MemoryPlan, adapter: Adapter | None = None) -> Any:
    """Load the model. Raises `ModelError`, also if weights are missing: transformers would initialize them randomly."""
    options: dict[str, Any] = {}
    if plan.precision != "none" and not plan.is_stored:
        options["quantization_config"] = _quantization_config(plan.precision)
    if plan.is_stored:
        options["config"] = config_of(checkpoint)
    if plan.device != "cpu" or plan.precision != "none":  # each tensor goes to its device as it is read
        options["device_map"] = "auto" if plan.spread else {"": plan.device}
    transformers_logging.disable_progress_bar()
    with map_loading_errors(checkpoint.name, checkpoint.token):
        load: Any = transformers.AutoModelForImageTextToText.from_pretrained  # its annotation omits the loading report
        model, report = load(
            checkpoint.folder,
            dtype=getattr(torch, dtype),
            attn_implementation=_ATTENTION,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    if missing := sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"])):
        raise ModelError(
            f"{checkpoint.name} has {len(missing)} missing weights (the first is {missing[0]}): download it again"
        )
    if adapter is not None:
        merge(model, adapter, checkpoint.token)
    return model.eval()


def _quantization_config(precision: str) -> Any:
    # The vision and audio towers stay in 16 bits: they are small, and their layer widths are not multiples of 64.
    # The output layer stays in 16 bits too.
    skip_modules = ["model.vision_tower", "model.multi_modal_projector", "model.embed_vision", "lm_head"]
    skip_modules += ["model.audio_tower", "model.embed_audio"]
    skip_modules += [r".*\.router", r".*\.per_layer_(model_projection|input_gate|projection)"]
    return transformers.BitsAndBytesConfig(
        load_in_8bit=precision == "8bit",
        load_in_4bit=precision == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=skip_modules,
    )
