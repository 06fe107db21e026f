"""Gemma 4 through the same door: a tiny checkpoint of random weights, against transformers' own way with it."""

import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
from transformers.models.gemma4.configuration_gemma4 import Gemma4Config, Gemma4TextConfig, Gemma4VisionConfig
from transformers.models.gemma4.image_processing_pil_gemma4 import get_aspect_ratio_preserving_size

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local.checkpoint import DEMO
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.errors import UsageError
from gemma_captioner.types import Frames, MediaItem, PatchBudget, Request

RENAMED = {
    "<start_of_image>": "<|image>",
    "<end_of_image>": "<image|>",
    "<image_soft_token>": "<|image|>",
    "<start_of_turn>": "<|turn>",
    "<end_of_turn>": "<turn|>",
}
TEMPLATE = """{{ bos_token }}{%- for message in messages -%}{{ '<|turn>' + message['role'] + '\\n' }}
{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}{{ '<|image|>' }}
{%- else -%}{{ part['text'] | trim }}{%- endif -%}{%- endfor -%}{{ '<turn|>\\n' }}{%- endfor -%}
{%- if enable_thinking is not defined or enable_thinking -%}{{ 'Think.' }}{%- endif -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}"""
IMAGES = {"patch_size": 4, "max_soft_tokens": 70, "pooling_kernel_size": 3}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gemma4") / "tiny"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        said = (DEMO / name).read_text()
        for old, new in RENAMED.items():
            said = said.replace(old, new)
        (folder / name).write_text(said.replace("Gemma3Processor", "Gemma4Processor"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "Gemma4ImageProcessor"} | IMAGES)
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in (
        ("boi_token_id", "<|image>"), ("eoi_token_id", "<image|>"), ("image_token_id", "<|image|>"),
    )}  # fmt: skip
    text = Gemma4TextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, sliding_window=48, hidden_size_per_layer_input=16,
        vocab_size_per_layer_input=len(tokenizer), num_kv_shared_layers=2, max_position_embeddings=4096,
        layer_types=["sliding_attention", "full_attention"] * 3, per_layer_config={}, pad_token_id=0,
        use_bidirectional_attention="vision",
    )  # fmt: skip
    vision = Gemma4VisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        head_dim=16, patch_size=4, pooling_kernel_size=3,
    )  # fmt: skip
    torch.manual_seed(0)
    config = Gemma4Config(text_config=text, vision_config=vision, audio_config=None, **ids)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)  # so that answers differ
    model.save_pretrained(folder)
    return folder


def request(number: int, frames: int, *, shape: tuple[int, int]) -> Request:
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (frames, shape[1], shape[0], 3), np.uint8)
    item = MediaItem(Path("a.png"), "image", "a.png", Path("a.txt"), Path())
    return Request(number, item, Frames(pixels, tuple(float(7 * i) for i in range(frames))), "Say what it is.", 12)


def stock_tokens(folder: Path, asked: Request) -> list[int]:
    """By its image processor, its text written out, and `generate`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    budget = {"max_soft_tokens": 280 if len(asked.frames.pixels) == 1 else 70}
    inputs = AutoImageProcessor.from_pretrained(folder, backend="pil")(
        [Image.fromarray(frame) for frame in asked.frames.pixels], return_tensors="pt", do_resize=False, **budget
    )
    images = ["<|image>" + "<|image|>" * int(n) + "<image|>" for n in inputs.pop("num_soft_tokens_per_image")]
    if len(images) > 1:
        images = [f"{7 * i // 60:02d}:{7 * i % 60:02d} {image}" for i, image in enumerate(images)]
    text = f"<bos><|turn>user\n{' '.join(images)}{asked.prompt}<turn|>\n<|turn>model\n"
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        sequence = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).long(),
            **inputs,
            max_new_tokens=asked.max_new_tokens,
            do_sample=False,
            eos_token_id=[1, tokenizer.convert_tokens_to_ids("<turn|>")],
            pad_token_id=0,
        )
    return sequence[0, ids.shape[1] :].tolist()


def test_batches_give_what_transformers_gives_one_by_one(checkpoint):
    budget = {1: PatchBudget(280, 12), 5: PatchBudget(70, 12)}
    shapes = [(640, 480), (300, 900), (100, 100)]
    asked = [
        request(i, n, shape=budget[n].of(*shape)) for i, (n, shape) in enumerate((n, s) for n in budget for s in shapes)
    ]
    engine = LocalEngine(Settings.of({"model": str(checkpoint), "dtype": "fp32", "batch_size": 3}))
    assert engine.spec.size == budget[1] and engine.spec.clip_size == budget[5]
    with engine.open() as session:
        for start in (0, 3):
            batch = asked[start : start + 3]
            rows = session.generate([_waiting(session, r) for r in batch])
            for row, one in zip(rows, batch, strict=True):
                expected = stock_tokens(checkpoint, one)
                assert row[: len(expected)] == expected


def _waiting(session, asked):
    from gemma_captioner.engines.local.session import _Waiting

    return _Waiting(asked, session.tokens_of(asked), 0.0)


def test_a_picture_is_brought_to_the_size_that_its_image_processor_chooses():
    rng = Random(3)
    for _ in range(500):
        width, height = rng.randint(1, 5000), rng.randint(1, 5000)
        tokens = rng.choice([70, 140, 280, 560, 1120])
        try:
            expected = get_aspect_ratio_preserving_size(height, width, 16, tokens * 9, 3)
        except ValueError:
            continue
        assert PatchBudget(tokens, 48).of(width, height) == expected[::-1]


def test_the_command_line_captions_with_it(command, media, checkpoint):
    done = command("caption", media, "--model", checkpoint, "--max-new-tokens", 4, "--json", "--image-tokens", 70)
    assert done.json["captioned"] + done.json["failed"] == 8, done.err
    assert all("without a caption" in f["error"] or "empty" in f["error"] for f in done.json["failures"]), done.json
    assert "weights 0.0" in command("caption", media, "--model", checkpoint, "--dry-run", "--existing", "overwrite").out


def test_the_budget_is_gemma_4s_and_unknown_families_are_refused_by_name(command, media, checkpoint, tmp_path):
    with pytest.raises(UsageError, match="Gemma 4"):
        _ = LocalEngine(Settings.of({"model": "demo", "image_tokens": 140})).spec
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    done = command("caption", media, "--model", other)
    assert done.code == 1 and "'llava'" in done.err and "gemma4" in done.err
