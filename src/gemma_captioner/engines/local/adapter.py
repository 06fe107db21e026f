"""Finds a LoRA adapter that PEFT saved and merges it into the model's weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelError
from .checkpoint import locate, map_loading_errors
from .quantized import current_module_name

if TYPE_CHECKING:  # finding an adapter does not need torch
    import torch
    from torch import nn

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_UNSUPPORTED = ("use_dora", "lora_bias", "modules_to_save", "fan_in_fan_out", "layer_replication", "target_parameters")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter that was found."""

    name: str  # as the user gave it
    folder: Path
    revision: str  # the hub's commit; for a folder, a digest of its contents
    config: Mapping[str, Any]
    on_hub: bool


def resolve_adapter(name: str, token: str | None) -> Adapter:
    """Find the adapter and fetch its configuration, but not its weights. Raises `ModelError`."""
    with map_loading_errors(name, token):
        folder, on_hub = locate(name, token, [_CONFIG])
        if not (folder / _CONFIG).is_file():
            raise ModelError(
                f"{name} has no {_CONFIG}: give a folder or a Hugging Face id of a LoRA adapter saved by PEFT"
            )
        content = (folder / _CONFIG).read_bytes()
        config = json.loads(content)
        if not on_hub and not (folder / _WEIGHTS).is_file():
            raise ModelError(f"{name} has no {_WEIGHTS}: save the adapter as safetensors")
        digest = content if on_hub else content + str((folder / _WEIGHTS).stat().st_size).encode()
    unsupported = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unsupported:
        what = ", ".join(unsupported) or f"{config.get('peft_type')} with bias {config.get('bias')}"
        raise ModelError(
            f"{name} uses {what}, but only plain LoRA adapters are supported: merge it into the model with PEFT first"
        )
    return Adapter(name, folder, folder.name if on_hub else hashlib.sha256(digest).hexdigest()[:12], config, on_hub)


def merge(model: "nn.Module", adapter: Adapter, token: str | None) -> None:
    """Set W to W + s B A, where s = alpha / rank. Quantized weights do not change: a hook adds s B A x to their output.

    Raises `ModelError` if the adapter belongs to another model.
    """
    import torch
    from safetensors.torch import load_file

    with map_loading_errors(adapter.name, token):
        if adapter.on_hub:
            from huggingface_hub import snapshot_download

            snapshot_download(adapter.name, revision=adapter.revision, allow_patterns=[_WEIGHTS], token=token)
        tensors = load_file(adapter.folder / _WEIGHTS)
    modules = {name.removeprefix("model."): module for name, module in model.named_modules()}
    for key in sorted(tensors):
        path = key.removesuffix(".lora_A.weight")
        if path == key and key.endswith(".lora_B.weight"):
            continue
        down, up = tensors[key], tensors.get(f"{path}.lora_B.weight")
        path = current_module_name(path.removeprefix("base_model.model."))
        name = path.removeprefix("model.")  # a LoRA of the text model alone omits "language_model."
        layer = modules.get(name) or modules.get(f"language_model.{name}")
        shape = getattr(layer, "out_features", None), getattr(layer, "in_features", None)
        if up is None or layer is None or shape != (up.shape[0], down.shape[1]):
            base = adapter.config.get("base_model_name_or_path")
            raise ModelError(f"adapter {adapter.name} does not match the model ({key}): use it with {base}")
        with torch.no_grad():
            _add(layer, down, up, _scale(adapter.config, path))


def _scale(config: Mapping[str, Any], path: str) -> float:
    def lookup(name: str) -> float:
        patterns = config.get(f"{'rank' if name == 'r' else 'alpha'}_pattern") or {}
        return float(next((v for k, v in patterns.items() if path.endswith(k)), config[name]))

    rank = lookup("r")
    return lookup("lora_alpha") / (rank**0.5 if config.get("use_rslora") else rank)


def _add(layer: Any, down: "torch.Tensor", up: "torch.Tensor", scale: float) -> None:
    from torch import nn

    weight = layer.weight
    down, up = down.to(weight.device), up.to(weight.device) * scale
    if type(layer) is nn.Linear:
        weight.copy_(weight.float() + up.float() @ down.float())
        return

    def hook(_: Any, inputs: tuple["torch.Tensor", ...], output: "torch.Tensor") -> "torch.Tensor":
        x = inputs[0].to(down.dtype)
        return output + (x @ down.T @ up.T).to(output.dtype)

    layer.register_forward_hook(hook)
