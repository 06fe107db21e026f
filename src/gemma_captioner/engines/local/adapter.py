"""A LoRA as PEFT saves it: found like a model, and merged into the weights that it was trained for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import ModelError
from .checkpoint import map_loading_errors
from .quantized import name_of_today

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_UNKNOWN = ("use_dora", "lora_bias", "modules_to_save", "fan_in_fan_out", "layer_replication", "target_parameters")


@dataclass(frozen=True, slots=True)
class Adapter:
    """name: as it was given. revision: the hub's commit, or for a folder a digest of what is in it."""

    name: str
    folder: Path
    revision: str
    config: Mapping[str, Any]
    on_hub: bool


def resolve_checkpoint(name: str, token: str | None) -> Adapter:
    """Find it and fetch its description, not its weights. Raises `ModelError`."""
    with map_loading_errors(name, token):
        folder, on_hub = Path(name).expanduser(), False
        if not folder.exists() and not name.startswith((".", "/", "~")):
            from huggingface_hub import snapshot_download

            folder, on_hub = Path(snapshot_download(name, allow_patterns=[_CONFIG], token=token)), True
        if not (folder / _CONFIG).is_file():
            raise ModelError(f"{name} holds no {_CONFIG}: give a LoRA that PEFT saved, a folder or a Hugging Face id")
        said = (folder / _CONFIG).read_bytes()
        config = json.loads(said)
        if not on_hub and not (folder / _WEIGHTS).is_file():
            raise ModelError(f"{name} holds no {_WEIGHTS}: save the adapter in safetensors")
        digest = said if on_hub else said + str((folder / _WEIGHTS).stat().st_size).encode()
    found = [key for key in _UNKNOWN if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or found:
        what = ", ".join(found) or f"{config.get('peft_type')} with bias {config.get('bias')}"
        raise ModelError(f"{name} is no plain LoRA ({what}), which alone can be merged: merge it with PEFT first")
    return Adapter(name, folder, folder.name if on_hub else hashlib.sha256(digest).hexdigest()[:12], config, on_hub)


@torch.no_grad()
def merge(model: nn.Module, adapter: Adapter, token: str | None) -> None:
    """W + s B A, with s = alpha / rank. Quantized weights stay, and s B A x is added to what they give.

    Raises `ModelError` where the adapter is for another model.
    """
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
        path = name_of_today(path.removeprefix("base_model.model."))
        name = path.removeprefix("model.")  # a LoRA of the text model alone does not call it the language model
        layer = modules.get(name) or modules.get(f"language_model.{name}")
        shape = getattr(layer, "out_features", None), getattr(layer, "in_features", None)
        if up is None or layer is None or shape != (up.shape[0], down.shape[1]):
            base = adapter.config.get("base_model_name_or_path")
            raise ModelError(f"{adapter.name} does not fit the model ({key}): it was trained for {base}")
        _add(layer, down, up, _scale(adapter.config, path))


def _scale(config: Mapping[str, Any], path: str) -> float:
    def of(name: str) -> float:
        patterns = config.get(f"{'rank' if name == 'r' else 'alpha'}_pattern") or {}
        return float(next((v for k, v in patterns.items() if path.endswith(k)), config[name]))

    rank = of("r")
    return of("lora_alpha") / (rank**0.5 if config.get("use_rslora") else rank)


def _add(layer: Any, down: torch.Tensor, up: torch.Tensor, scale: float) -> None:
    weight = layer.weight
    down, up = down.to(weight.device), up.to(weight.device) * scale
    if type(layer) is nn.Linear:
        weight.copy_(weight.float() + up.float() @ down.float())
        return

    def hook(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        seen = inputs[0].to(down.dtype)
        return output + (seen @ down.T @ up.T).to(output.dtype)

    layer.register_forward_hook(hook)
