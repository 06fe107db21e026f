"""Real Gemma weights and the real tokenizer, with a random vision tower: see tests/support/real_gemma.py."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.loading import load_model
from gemma_captioner.types import Frames, Request
from tests.support.engines import DUMMY_ITEM, request
from tests.support.real_gemma import VISION, real_gemma
from tests.test_fidelity import LocalRunner, Reference
from tests.test_startup import compare_tokenizers

pytestmark = [pytest.mark.prove, pytest.mark.filterwarnings("ignore:.*generation flags:UserWarning")]

SIDE = VISION["image_size"]
PARAGRAPH = (  # in the style of an encyclopedia
    "Photography is the art, application, and practice of creating images by recording light, either electronically "
    "by means of an image sensor, or chemically by means of a light-sensitive material such as photographic film. It "
    "is employed in many fields of science, manufacturing, and business, as well as its more direct uses for art, "
    "film and video production, recreational purposes, hobby, and mass communication."
)


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return real_gemma()


def settings(checkpoint: Path, **more: object) -> Settings:
    return Settings.from_dict({"model": str(checkpoint), "dtype": "fp32", "device": "cpu", **more})


def asked(number: int, num_frames: int, prompt: str, **options: object) -> Request:
    """Drawn frames at the model's own size: no processor resizes them."""
    drawn = request(number, num_frames).frames
    large = np.stack([np.asarray(Image.fromarray(f).resize((SIDE, SIDE))) for f in drawn.pixels])
    return Request(number, DUMMY_ITEM, Frames(large, drawn.times_s), prompt, **{"max_new_tokens": 12, **options})


def test_batches_and_single_items_give_what_generate_gives(checkpoint):
    prompts = ["Describe this image.", "A photo of", "The video shows a person who"]
    requests = [asked(n, frames, prompts[n % 3]) for n, frames in enumerate((1, 1, 2, 3, 1, 2))]
    reference = Reference(checkpoint)
    expected = [reference.tokens(r, "media-first") for r in requests]
    del reference
    for batch_size in (1, 4):
        ours = LocalRunner(checkpoint, "media-first", batch_size)
        with ours.session:
            got = ours.answer(requests)
        for number, (tokens, reply) in got.items():
            assert tokens == expected[number][: len(tokens)], f"{number} in batches of {batch_size}"
            assert reply.finish_reason == "stop" or len(tokens) == 12
        assert max(ours.prefills) == 1 if batch_size == 1 else max(ours.prefills) > 1  # of similar lengths
    assert len({tuple(tokens) for tokens in expected}) > 3  # they depend on what was asked


@pytest.mark.parametrize("order", ["media-first", "text-first"])
def test_the_dry_run_counts_the_tokens_that_the_processor_makes(checkpoint, order):
    engine = LocalEngine(settings(checkpoint, order=order))
    reference = Reference(checkpoint)
    for frames in (1, 2, 3, 5, 8):
        for prompt in ("Describe this image.", "A photo of"):
            inputs = reference.inputs(asked(0, frames, prompt), order)
            assert engine.prompt_tokens(prompt, "clip", frames) == inputs["input_ids"].shape[1], (frames, prompt)


def test_the_tokenizer_gives_what_transformers_gives(checkpoint):
    compare_tokenizers(checkpoint, "gemma3", more=PARAGRAPH)


def test_perplexity_is_that_of_a_trained_model(checkpoint):
    engine = LocalEngine(settings(checkpoint))
    model = load_model(engine.checkpoint, "float32", engine.memory_plan)
    ids = torch.tensor([engine.processor.tokenizer.encode(PARAGRAPH, add_special_tokens=True)])
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:])
    assert loss.exp() < 20


def test_hub_names_shards_and_sparse_configurations_load_bit_for_bit(checkpoint, tmp_path):
    def outputs(folder: Path) -> dict[str, torch.Tensor]:
        engine = LocalEngine(settings(folder))
        model = load_model(engine.checkpoint, "float32", engine.memory_plan)
        ids = torch.tensor([engine.processor.tokenizer.encode(PARAGRAPH, add_special_tokens=True)])
        with torch.inference_mode():
            return model.state_dict() | {"logits": model(input_ids=ids).logits}

    expected = outputs(checkpoint)
    for variant in (as_hub_names, as_module_names, in_shards, sparse):
        folder = Path(shutil.copytree(checkpoint, tmp_path / variant.__name__))
        variant(folder)
        got = outputs(folder)
        assert got.keys() == expected.keys()
        different = [name for name, tensor in expected.items() if not torch.equal(tensor, got[name])]
        assert different == [], variant.__name__


def as_hub_names(folder: Path) -> None:
    """The tensor names of Google's own checkpoints."""
    rename(folder, {"vision_tower.": "vision_tower.vision_model."})


def as_module_names(folder: Path) -> None:
    """The tensor names of the class in transformers 5."""
    parts = ("vision_tower.", "multi_modal_projector.")
    rename(folder, {"language_model.model.": "model.language_model.", **{part: f"model.{part}" for part in parts}})


def rename(folder: Path, prefixes: dict[str, str]) -> None:
    tensors = load_file(folder / "model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        old = next((old for old in prefixes if name.startswith(old)), "")
        renamed[prefixes.get(old, "") + name.removeprefix(old)] = tensor
    assert renamed.keys() != tensors.keys()
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def in_shards(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    places = {name: files[n % 3] for n, name in enumerate(sorted(tensors))}
    for file in files:
        save_file({n: t for n, t in tensors.items() if places[n] == file}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def sparse(folder: Path) -> None:
    """A configuration with the values that differ from its class's defaults only, as on the hub."""
    from transformers import Gemma3Config

    path = folder / "config.json"
    config = json.loads(path.read_text())
    default = Gemma3Config(vision_config={"model_type": "siglip_vision_model"}).to_dict()
    for part in ("text_config", "vision_config"):
        kept = {k: v for k, v in config[part].items() if default[part].get(k) != v or k == "model_type"}
        kept.pop("layer_types", None)  # every sixth is global: the default
        assert len(kept) < len(config[part])
        config[part] = kept
    path.write_text(json.dumps(config))


def test_an_answer_ends_where_the_next_document_begins(checkpoint):
    """A base model says `<start_of_image>` between two documents."""
    ours = LocalRunner(checkpoint, "media-first", 16)
    tokenizer = ours.session._processor.tokenizer
    mark = tokenizer.boi_token_id
    prompts = ["The image depicts", "This image shows"]
    one = asked(0, 1, "", temperature=1.0, max_new_tokens=32)
    with ours.session:
        got = ours.answer([replace(one, id=n, seed=n, prompt=prompts[n % 2]) for n in range(32)])
    marked = [(tokens, reply) for tokens, reply in got.values() if mark in tokens]
    assert marked
    for tokens, reply in marked:
        assert "<" not in reply.text
        if reply.text:
            text = next(n for n, t in enumerate(tokens) if tokenizer.decode([t], skip_special_tokens=True).strip())
            assert mark not in tokens[text:-1]


MEASURED = """
import json, sys
from gemma_captioner.engines.local.engine import LocalEngine
from tests.support.engines import answers
from tests.test_real_gemma import asked, settings

def memory(which):
    return int(next(line for line in open("/proc/self/status") if line.startswith(which)).split()[1]) * 1024

request = asked(0, int(sys.argv[3]), "Describe this image.")
engine = LocalEngine(settings(sys.argv[1], dtype=sys.argv[2]))
plan = engine.memory_plan
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is the tokenizer's: forget it
before = memory("VmRSS")
with engine.open() as session:
    for parameter in session.model.parameters():  # bf16 weights are mapped from the file: read them into memory
        parameter.data.view(-1)[::1024].sum()
    answers(session, [request], timeout_s=600)
print(json.dumps([memory("VmHWM") - before, plan.needed]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
# bf16 with a whole chunk of frames only: this convolution takes a CPU half a minute a frame.
@pytest.mark.parametrize(("dtype", "frames"), [("fp32", 1), ("fp32", 8), ("bf16", 4)])
def test_the_peak_of_memory_is_within_the_plan_and_not_far_below_it(checkpoint, dtype, frames):
    words = [sys.executable, "-c", MEASURED, str(checkpoint), dtype, str(frames)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    used, planned = json.loads(done.stdout)
    assert planned / 2 <= used <= planned, f"{used / 2**30:.2f} GiB used, {planned / 2**30:.2f} planned"


LOADED = """
import json, sys, threading
from pathlib import Path
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.loading import load_model
from tests.test_real_gemma import settings

def memory():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) * 1024

engine = LocalEngine(settings(sys.argv[1], dtype="bf16"))
plan = engine.memory_plan
before, seen, is_loaded = memory(), [], threading.Event()
def watch():
    while not is_loaded.wait(0.002):
        seen.append(memory())
watching = threading.Thread(target=watch)
watching.start()
model = load_model(engine.checkpoint, engine.dtype, plan)
is_loaded.set()
watching.join()
largest = max(file.stat().st_size for file in Path(sys.argv[1]).glob("*.safetensors"))
print(json.dumps([max(seen) - before, largest]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_makes_no_second_copy_on_the_host(checkpoint):
    words = [sys.executable, "-c", LOADED, str(checkpoint)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    peak, largest_shard = json.loads(done.stdout)
    assert peak <= 1.2 * largest_shard, f"{peak / 2**20:.0f} MiB at the peak, {largest_shard / 2**20:.0f} in the shard"
