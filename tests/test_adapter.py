"""--adapter: a LoRA as PEFT saves it, against the sum written out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines import engine_for
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.errors import ModelError, UsageError
from tests.support.engines import answers, requests

RANK, ALPHA = 4, 6
# As transformers names them, as it named them before 4.52, and of the text model alone.
NAMES = {
    "today": "model.language_model.layers.{}",
    "before": "language_model.model.layers.{}",
    "text": "model.layers.{}",
}
TARGETS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def write_adapter(folder: Path, names: str = "today", **config: Any) -> dict[str, torch.Tensor]:
    """Random, and strong enough to change answers: what is to be added, by the names in the demo's file."""
    generator = torch.Generator().manual_seed(0)
    weights = load_file(DEMO_CHECKPOINT / "model.safetensors")
    tensors, added = {}, {}
    for layer in range(json.loads((DEMO_CHECKPOINT / "config.json").read_text())["text_config"]["num_hidden_layers"]):
        for target in TARGETS:
            key = f"language_model.model.layers.{layer}.{target}.weight"
            rows, columns = weights[key].shape
            down = torch.randn(RANK, columns, generator=generator) * 0.25
            up = torch.randn(rows, RANK, generator=generator) * 0.25
            path = f"base_model.model.{NAMES[names].format(layer)}.{target}"
            tensors |= {f"{path}.lora_A.weight": down, f"{path}.lora_B.weight": up}
            scale = ALPHA / (RANK**0.5 if config.get("use_rslora") else RANK)
            added[key] = scale * up @ down
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "base_model_name_or_path": "demo"}
    (folder / "adapter_config.json").write_text(json.dumps(said | config))
    return added


def merged_demo(folder: Path, added: dict[str, torch.Tensor]) -> Path:
    shutil.copytree(DEMO_CHECKPOINT, folder)
    weights = load_file(DEMO_CHECKPOINT / "model.safetensors")
    weights |= {key: weights[key] + more for key, more in added.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def texts(**settings: Any) -> list[str]:
    with LocalEngine(Settings.from_dict({"model": "demo", "dtype": "fp32"} | settings)).open() as session:
        return [reply.text for _, reply in sorted(answers(session, requests(6, seed=2, most_frames=4)).items())]


@pytest.mark.parametrize(("names", "more"), [("today", {}), ("before", {"use_rslora": True}), ("text", {})])
def test_a_lora_is_added_to_the_weights(tmp_path, names, more):
    added = write_adapter(tmp_path / "lora", names, **more)
    expected = texts(model=str(merged_demo(tmp_path / "merged", added)))
    assert texts(adapter=str(tmp_path / "lora")) == expected != texts()


def test_beside_quantized_weights_it_is_added_to_what_they_give(tmp_path):
    write_adapter(tmp_path / "lora")
    assert texts(quantize="8bit", adapter=str(tmp_path / "lora")) != texts(quantize="8bit")


def test_it_is_part_of_what_the_model_is_called_and_of_the_hash(tmp_path, command, media):
    write_adapter(tmp_path / "lora")
    settings = Settings.from_dict({"model": "demo", "adapter": str(tmp_path / "lora")})
    assert settings.settings_hash("image") != Settings.from_dict({"model": "demo"}).settings_hash("image")
    spec = LocalEngine(settings).spec
    assert spec.model == f"demo + {tmp_path / 'lora'}" and " + " in (spec.revision or "")
    done = command("caption", media, "--model", "demo", "--adapter", tmp_path / "lora", "--dry-run")
    assert done.code == 0 and "lora in float32" in done.out, done.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_dora": True}, "uses use_dora, but only plain LoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "LOHA"}, "LOHA"),
    ],
)
def test_what_is_no_plain_lora_is_refused_with_the_reason(tmp_path, change, says):
    write_adapter(tmp_path / "lora", **change)
    with pytest.raises(ModelError, match=says):
        _ = LocalEngine(Settings.from_dict({"model": "demo", "adapter": str(tmp_path / "lora")})).spec


def test_one_for_another_model_is_refused_and_so_is_one_that_is_not_there(tmp_path):
    write_adapter(tmp_path / "lora", base_model_name_or_path="google/gemma-3-27b-it")
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    wide = {k: torch.zeros(RANK, 5376) if "lora_A" in k else v for k, v in tensors.items()}
    save_file(wide, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="use it with google/gemma-3-27b-it"):
        LocalEngine(Settings.from_dict({"model": "demo", "adapter": str(tmp_path / "lora")})).open()
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    for folder, says in [(tmp_path / "lora", "as safetensors"), (tmp_path, "has no adapter_config.json")]:
        with pytest.raises(ModelError, match=says):
            _ = LocalEngine(Settings.from_dict({"model": "demo", "adapter": str(folder)})).spec
    with pytest.raises(UsageError, match="Load it in the server"):
        engine_for(Settings.from_dict({"engine": "server", "base_url": "http://127.0.0.1:9", "adapter": "owner/lora"}))
