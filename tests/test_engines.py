"""One contract for every engine, and what is the local engine's own."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoProcessor

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines import Engine, engine_for
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT, Checkpoint, resolve_checkpoint, weight_bytes
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.families import FAMILIES
from gemma_captioner.engines.local.generation import DecodeRunner
from gemma_captioner.engines.local.memory import GEMMA3_SIZES, GIB, Architecture, plan
from gemma_captioner.engines.local.prompting import render_prompt
from gemma_captioner.engines.local.quantized import precision_of
from gemma_captioner.engines.local.vision import deduplicate_frames
from gemma_captioner.errors import MemoryShortageError, ModelError, UsageError
from gemma_captioner.redaction import redact_token
from gemma_captioner.types import Failed, Reply
from tests.support.engines import answers, demo_server_settings, gemma3_config, request
from tests.support.servers import HttpRequest, HttpResponse, StubServer, echo_prompt, prompt_of


def reject_third_request(asked: HttpRequest) -> HttpResponse:
    return HttpResponse(400, {"error": "refused"}) if "Describe 3.png" in prompt_of(asked) else echo_prompt(asked)


@pytest.fixture(params=["scripted", "local", "server", pytest.param("transformers serve", marks=pytest.mark.long)])
def engine(request, tmp_path) -> Iterator[Engine]:
    if request.param == "local":
        yield engine_for(Settings.from_dict({"model": "demo", "batch_size": 4}))
    elif request.param == "scripted":
        script = tmp_path / "script.json"
        script.write_text(json.dumps({"batch_size": 4, "replies": {"3.png": {"error": "refused"}}}))
        yield engine_for(Settings.from_dict({"engine": "scripted", "model": str(script)}))
    elif request.param == "server":
        with StubServer(reject_third_request) as stub:
            yield engine_for(
                Settings.from_dict({"engine": "server", "base_url": stub.url, "image_size": 64, "concurrency": 4})
            )
    else:
        url = request.getfixturevalue("transformers_serve")
        yield engine_for(demo_server_settings(url, concurrency=2))


def test_contract_every_request_is_answered_once(engine):
    with engine.open() as session:
        got = answers(session, [request(n, 1 + n % 3, prompt=f"Describe {n}.png.") for n in range(20)])
        assert set(got) == set(range(20))
        for number, answer in got.items():
            if isinstance(answer, Reply):
                assert answer.finish_reason in ("stop", "length")
                assert answer.seconds >= 0 and answer.new_tokens > 0
            else:
                assert (number, answer.item.name) == (3, "3.png")


def test_contract_free_falls_and_rises(engine):
    with engine.open() as session:
        at_first = session.available_slots
        assert at_first > 0
        for number in range(at_first):
            session.submit(request(number))
        assert session.available_slots == 0
        while session.available_slots < at_first:
            session.poll(1)


def test_contract_poll_waits_no_longer_than_asked(engine):
    with engine.open() as session:
        since = time.monotonic()
        assert session.poll(0.05) == []
        assert time.monotonic() - since < 5


def test_contract_close_drops_what_is_in_flight_and_may_be_repeated(engine):
    session = engine.open()
    session.submit(request(0, max_new_tokens=4096))
    session.close()
    session.close()


def test_contract_spec_and_tokens_need_no_weights(engine):
    assert engine.spec.size == (64, 64)
    one, twelve = (engine.prompt_tokens("Describe this.", "clip", n) for n in (1, 12))
    assert 11 * 16 <= twelve - one <= 11 * engine.spec.tokens_per_frame["clip"]


# The prompt


@pytest.mark.parametrize("template", [True, False])
def test_timestamps_stand_before_each_frame(template):
    family = FAMILIES["gemma3"]
    processor = family.load_processor(DEMO_CHECKPOINT)
    if not template:
        processor.chat_template = None
    mark, times = processor.tokenizer.boi_token, (0.4, 61.0, 3725.5)
    text = render_prompt(
        processor, [("Say.", [family.join_markers(mark, times, True)], None)], marker=mark, order="media-first"
    )
    assert f"[00:00]{mark}[01:01]{mark}[62:05]{mark}Say." in text
    plain = render_prompt(
        processor, [("Say.", [family.join_markers(mark, times, False)], None)], marker=mark, order="text-first"
    )
    assert f"Say.{mark * 3}" in plain and "[" not in plain


@pytest.mark.parametrize("template", [True, False])
def test_a_system_prompt_comes_first(template):
    processor = FAMILIES["gemma3"].load_processor(DEMO_CHECKPOINT)
    if not template:
        processor.chat_template = None
    mark = processor.tokenizer.boi_token
    text = render_prompt(
        processor, [("Say.", [mark], None)], marker=mark, order="media-first", system="You see little."
    )
    assert text.index("You see little.") < text.index(mark) < text.index("Say.")


def test_examples_are_turns_of_their_own_as_transformers_writes_them():
    processor = FAMILIES["gemma3"].load_processor(DEMO_CHECKPOINT)
    mark = processor.tokenizer.boi_token
    turns = [("What?", [mark * 2], "A cat."), ("What?", [], "A dog."), ("What?", [mark], None)]
    image, text = {"type": "image"}, {"type": "text", "text": "What?"}
    said = [[{"type": "text", "text": answer}] for answer in ("A cat.", "A dog.")]
    expected = AutoProcessor.from_pretrained(DEMO_CHECKPOINT, backend="pil").apply_chat_template(
        [
            {"role": "user", "content": [image, image, text]}, {"role": "assistant", "content": said[0]},
            {"role": "user", "content": [text]}, {"role": "assistant", "content": said[1]},
            {"role": "user", "content": [image, text]},
        ],
        add_generation_prompt=True, tokenize=False,
    )  # fmt: skip
    assert render_prompt(processor, turns, marker=mark, order="media-first") == expected
    processor.chat_template = None
    raw = render_prompt(processor, turns, marker=mark, order="text-first")
    assert raw == f"What?{mark * 2}\nCaption: A cat.\n\nWhat?\nCaption: A dog.\n\nWhat?{mark}\nCaption:"


# The local engine


@pytest.fixture
def demo():
    engine = LocalEngine(Settings.from_dict({"model": "demo", "batch_size": 8}))
    with engine.open() as session:
        yield session


def test_a_prompt_too_long_for_the_model_is_one_failure(demo):
    long = request(0, prompt="word " * 10_000)
    got = answers(demo, [long, request(1)])
    assert isinstance(got[0], Failed) and "fewer --frames" in got[0].error
    assert isinstance(got[1], Reply)


def test_an_answer_knows_whether_it_stopped_or_ran_into_the_limit(demo):
    got = answers(demo, [request(0, max_new_tokens=40), request(1, max_new_tokens=3)])
    assert got[1].finish_reason == "length" and got[1].new_tokens == 3
    assert got[0].finish_reason == "stop" and 3 < got[0].new_tokens < 40
    assert "<" not in got[0].text


def test_out_of_memory_halves_the_batch_and_loses_nothing(demo):
    biggest = []

    def raise_out_of_memory(module, args, inputs):
        rows = inputs["inputs_embeds"].shape[0]
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        biggest.append(rows)

    demo.model.model.language_model.register_forward_pre_hook(raise_out_of_memory, with_kwargs=True)
    got = answers(demo, [request(n) for n in range(12)])
    assert all(isinstance(answer, Reply) for answer in got.values())
    assert max(biggest) == 2
    assert demo.available_slots <= 4  # the smaller size is remembered


def test_one_item_too_large_for_memory_fails_alone(demo):
    def raise_out_of_memory(module, args, inputs):
        if inputs["inputs_embeds"].shape[1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")

    demo.model.model.language_model.register_forward_pre_hook(raise_out_of_memory, with_kwargs=True)
    got = answers(demo, [request(0), request(1, num_frames=16), request(2)])
    assert isinstance(got[1], Failed) and "fewer --frames" in got[1].error
    assert isinstance(got[0], Reply) and isinstance(got[2], Reply)


def test_frames_are_encoded_fewer_at_once_where_even_one_item_is_too_much(demo):
    seen = []

    def raise_out_of_memory(module, args, inputs):
        seen.append(len(inputs["pixel_values"] if "pixel_values" in inputs else args[0]))
        if seen[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    expected = answers(demo, [request(1, num_frames=6)])
    demo.model.model.vision_tower.register_forward_pre_hook(raise_out_of_memory, with_kwargs=True)
    got = answers(demo, [request(1, num_frames=6)])
    assert got[1].text == expected[1].text and seen == [4, 4, 2] + [1] * 6


def test_what_breaks_the_model_ends_the_run(demo):
    def broken(module, args):
        raise RuntimeError("CUDA error: device-side assert triggered")

    demo.model.model.language_model.register_forward_pre_hook(broken)
    demo.submit(request(0))
    with pytest.raises(RuntimeError, match="device-side assert"):
        for _ in range(20):
            demo.poll(1)


MARK = "<start_of_image>"


@pytest.mark.parametrize(
    ("said", "text", "finish_reason", "new_tokens"),
    [
        ([MARK, "\n", MARK, "A", " red", MARK, "A", " blue"], "A red", "stop", 6),
        (["A", " red", " circle", MARK, MARK], "A red circle", "stop", 4),
        ([MARK] * 8, "", "length", 8),
    ],
)
def test_an_image_marker_that_a_base_model_says_is_blank_before_text_and_an_end_after_it(
    copy, said, text, finish_reason, new_tokens
):
    (copy / "chat_template.jinja").unlink()
    with LocalEngine(Settings.from_dict({"model": str(copy)})).open() as session:
        tokenizer = session._processor.tokenizer
        ids = iter(tokenizer.encode(word)[-1] for word in said)

        def say_the_next(module, args, logits):
            return torch.zeros_like(logits).index_fill(-1, torch.tensor(next(ids, 0)), 1.0)

        session.model.lm_head.register_forward_hook(say_the_next)
        [reply] = answers(session, [request(0, max_new_tokens=len(said))]).values()
    assert (reply.text, reply.finish_reason, reply.new_tokens) == (text, finish_reason, new_tokens)


def test_sampling_depends_on_the_seed_and_not_on_the_batch(demo):
    hot = {"temperature": 3.0, "max_new_tokens": 12}
    alone = answers(demo, [request(5, seed=7, **hot)])[5].text
    among = answers(demo, [request(4, **hot), request(5, seed=7, **hot), request(6), request(7, seed=8, **hot)])[5].text
    assert alone == among
    others = {answers(demo, [request(5, seed=seed, **hot)])[5].text for seed in range(8)}
    assert len(others) > 1
    greedy = answers(demo, [request(6)])[6].text
    assert greedy == answers(demo, [request(6), request(5, seed=1, **hot)])[6].text


def test_a_sampled_token_is_drawn_from_the_softmax():
    from gemma_captioner.engines.local.sampler import Sampler

    logits = torch.tensor([[0.0, 1.0, 2.0]])
    draws = 4000
    sampler = Sampler(torch.device("cpu"))
    for row in range(draws):
        sampler.set_row(row, 0.5, seed=row)
    drawn = sampler(logits.repeat(draws, 1), range(draws))
    shares = torch.bincount(drawn, minlength=3) / draws
    assert torch.allclose(shares, torch.softmax(logits[0] / 0.5, -1), atol=0.03)


class NoHostSync(TorchDispatchMode):
    """Fails on what makes the host wait for the device, or brings it something from the host's memory."""

    ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "item", "is_nonzero")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.ASKING, f"a step calls {name}"
        return func(*args, **(kwargs or {}))


@torch.no_grad()  # in inference mode, operations that are made of others would hide those
def test_a_step_of_the_loop_asks_nothing_of_the_device():
    """What a CUDA graph can hold: seen here without CUDA."""
    demo = Settings.from_dict({"model": "demo"})
    asked = [request(1), request(2, num_frames=5)]
    with LocalEngine(demo).open() as session:
        tokens = [session.encode_prompt(r) for r in asked]
        longest = max(map(len, tokens))
        ids = torch.tensor([[0] * (longest - len(t)) + t for t in tokens])
        mask = torch.tensor([[False] * (longest - len(t)) + [True] * len(t) for t in tokens])
        runner = DecodeRunner(session.model, 2, longest + 8, constant_shapes=True)
        images = session.vision.model_inputs(session.vision.encode([r.frames.pixels for r in asked]), ids)
        logits = runner.prefill([0, 1], ids, mask, images)
        runner.use_rows(2, longest)
        runner.set_tokens([0, 1], logits.argmax(-1))
        shapes = []
        for _ in range(3):
            with NoHostSync():
                logits = runner.forward()
                runner.accept(logits.argmax(-1))
            shapes.append([tuple(layer.keys.shape) for layer in runner.cache.layers.layers])
        assert shapes[0] == shapes[1] == shapes[2]
        with pytest.raises(AssertionError, match="a step calls"), NoHostSync():
            bool(logits.sum())


def test_equal_frames_are_encoded_once():
    a, b = np.zeros((32, 32, 3), np.uint8), np.ones((32, 32, 3), np.uint8)
    c = a.copy()
    c[1, 1] = 9  # where the sample does not look
    frames, places = deduplicate_frames([np.stack([a, b, a, c, c]), np.stack([a])])
    assert places == [0, 1, 0, 2, 2, 0]
    assert all(np.array_equal(f, e) for f, e in zip(frames, (a, b, c), strict=True))
    wide = np.zeros((16, 64, 3), np.uint8)  # as many bytes
    assert deduplicate_frames([np.stack([a]), np.stack([wide])])[1] == [0, 1]


# Memory


def test_parameters_are_counted_as_the_real_classes_do():
    from transformers import AutoModelForImageTextToText

    engine = LocalEngine(Settings.from_dict({"model": "demo"}))
    model = AutoModelForImageTextToText.from_pretrained(DEMO_CHECKPOINT)
    assert Architecture.of(engine.config).parameters == model.num_parameters()
    for name, size in GEMMA3_SIZES.items():
        config = gemma3_config(
            size,
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,
            num_attention_heads=16,
            image_size=896,
            patch_size=14,
            vision_use_head=False,
        )
        with torch.device("meta"):
            real = AutoModelForImageTextToText.from_config(config).num_parameters()
        assert size.parameters == real, name
        assert real / 1e9 == pytest.approx({"4b": 4.3, "12b": 12.187, "27b": 27.432}[name[8:]], abs=0.001)


def plan_for(size: str, gib: float, quantize="auto", device="cuda"):
    return plan(
        GEMMA3_SIZES[size], name=size, quantize=quantize, device=device, dtype_bytes=2,
        available=int(gib * GIB), request_tokens=4096,
    )  # fmt: skip


def test_auto_takes_the_most_exact_that_fits():
    assert plan_for("gemma-3-12b", 80).precision == "none"
    assert plan_for("gemma-3-12b", 24).precision == "8bit"
    assert plan_for("gemma-3-12b", 14).precision == "4bit"
    assert plan_for("gemma-3-12b", 80, quantize="4bit").precision == "4bit"
    roomy, tight = plan_for("gemma-3-4b", 80), plan_for("gemma-3-4b", 14)
    assert roomy.max_batch_tokens > tight.max_batch_tokens >= 4096


def test_what_fits_in_no_way_is_refused_with_what_would():
    fits = r"largest model that fits, gemma-3-12b with --quantize 4bit or gemma-4-12B with --quantize 4bit"
    with pytest.raises(MemoryShortageError, match=f"27b needs .* GiB .*{fits}"):
        plan_for("gemma-3-27b", 14)
    with pytest.raises(MemoryShortageError, match="no Gemma fits"):
        plan_for("gemma-3-4b", 2)
    with pytest.raises(MemoryShortageError):
        plan_for("gemma-3-12b", 24, device="mps")  # bitsandbytes has nothing for Apple's GPUs


# Checkpoints


def test_a_folder_that_holds_no_model_is_told_apart(tmp_path):
    for content, says in [
        ({}, "no config.json"),
        ({"model.gguf": ""}, "GGUF"),
        ({"config.json": "{"}, "broken JSON"),
        ({"config.json": '{"model_type": "llama"}'}, "model type 'llama'"),
        ({"config.json": '{"model_type": "gemma3_text"}'}, "is a text-only model"),
        ({"config.json": '{"model_type": "gemma3"}', "pytorch_model.bin": ""}, "use a checkpoint that has them"),
    ]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
        with pytest.raises(ModelError, match=says) as told:
            resolve_checkpoint(str(folder), None)
        assert "\n" not in str(told.value)
    with pytest.raises(ModelError, match="does not exist"):
        resolve_checkpoint(str(tmp_path / "nowhere"), None)


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(DEMO_CHECKPOINT, tmp_path / "copy"))


def test_broken_weights_are_refused_before_anything_is_captioned(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(ModelError, match="download it again"):
        LocalEngine(Settings.from_dict({"model": str(copy)})).open()


def test_weights_go_to_their_device_as_they_are_read(monkeypatch):
    """Never to the host first, from where all of them would be moved."""
    from transformers import Gemma3ForConditionalGeneration

    from gemma_captioner.engines.local.loading import load_model

    monkeypatch.setattr(Gemma3ForConditionalGeneration, "to", lambda *args: pytest.fail("moved as a whole"))
    engine = LocalEngine(Settings.from_dict({"model": "demo"}))
    model = load_model(engine.checkpoint, "float32", replace(engine.memory_plan, device="meta"))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_missing_weights_are_not_made_up(copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    removed = next(name for name in tensors if "mlp" in name)
    del tensors[removed]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing weights"):
        LocalEngine(Settings.from_dict({"model": str(copy)})).open()


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_quantized_weights_caption(quantize, caplog):
    engine = LocalEngine(Settings.from_dict({"model": "demo", "quantize": quantize, "batch_size": 2}))
    assert quantize[0] + "-bit" in engine.describe()
    with engine.open() as session:
        assert "Linear" + quantize[0] in type(session.model.model.language_model.layers[0].mlp.up_proj).__name__
        assert type(session.model.model.vision_tower.encoder.layers[0].mlp.fc1).__name__ == "Linear"
        got = answers(session, [request(0, max_new_tokens=20)])
        assert got[0].text.startswith("A ")
    assert not caplog.records  # bitsandbytes warns of each cast: thousands of lines


def test_quantization_leaves_what_sees_and_hears_as_it_is():
    from transformers import AutoModelForImageTextToText, Gemma4Config
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    from gemma_captioner.engines.local.loading import _quantization_config

    small = {"num_hidden_layers": 1}
    config = Gemma4Config(text_config=small, vision_config=small, audio_config=small)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
        options = _quantization_config("8bit")
        replace_with_bnb_linear(model, options.llm_int8_skip_modules, options)
    quantized = {name.split(".")[1] for name, part in model.named_modules() if "8bit" in type(part).__name__}
    assert quantized == {"language_model"}
    assert {"audio_tower", "embed_audio", "vision_tower", "embed_vision"} <= {
        n for n, _ in model.model.named_children()
    }


@pytest.fixture(scope="module")
def stored_in_4bit(tmp_path_factory) -> Path:
    """The demo as `...-bnb-4bit` repositories are: quantized, then saved, under the names that weights had then."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    folder = Path(shutil.copytree(DEMO_CHECKPOINT, tmp_path_factory.mktemp("stored") / "demo-bnb-4bit"))
    exact = ["vision_tower", "multi_modal_projector", "language_model.layers.1.mlp"]
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["lm_head", *(f"model.{name}" for name in exact)],
    )
    AutoModelForImageTextToText.from_pretrained(DEMO_CHECKPOINT, quantization_config=how).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors = {
        re.sub(r"vision_tower\.(?!vision_model)", "vision_tower.vision_model.", k): t for k, t in tensors.items()
    }
    assert any(key.startswith("language_model.model.") and key.endswith(".absmax") for key in tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    names = ["lm_head", "multi_modal_projector", "vision_tower", "language_model.model.layers.1.mlp"]
    config["quantization_config"]["llm_int8_skip_modules"] = names
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_that_is_quantized_already_is_planned_and_loaded_as_it_is(stored_in_4bit):
    engine = LocalEngine(Settings.from_dict({"model": str(stored_in_4bit)}))
    on_disk = sum(file.stat().st_size for file in stored_in_4bit.glob("*.safetensors"))
    assert engine.memory_plan.weights == on_disk < (DEMO_CHECKPOINT / "model.safetensors").stat().st_size
    assert (engine.memory_plan.precision, engine.memory_plan.is_stored) == ("4bit", True)
    assert "4-bit (as stored)" in engine.describe()
    with engine.open() as session:
        layers = session.model.model.language_model.layers
        assert [type(layer.mlp.up_proj).__name__ for layer in layers[:2]] == ["Linear4bit", "Linear"]
        assert type(session.model.model.vision_tower.encoder.layers[0].mlp.fc1).__name__ == "Linear"
        assert answers(session, [request(0, max_new_tokens=20)])[0].text.startswith("A ")
    assert LocalEngine(Settings.from_dict({"model": str(stored_in_4bit), "quantize": "4bit"})).memory_plan.is_stored


@pytest.mark.parametrize("quantize", ["none", "8bit"])
def test_what_contradicts_a_quantized_checkpoint_is_refused(stored_in_4bit, quantize):
    with pytest.raises(UsageError, match=f"stored in 4bit .bitsandbytes., so --quantize {quantize} is not possible"):
        _ = LocalEngine(Settings.from_dict({"model": str(stored_in_4bit), "quantize": quantize})).memory_plan


@pytest.mark.parametrize(
    ("how", "precision"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "4bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "8bit"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, "4bit"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}}, "4bit"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}, "8bit"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "8bit"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}}, "4bit"),
    ],
)
def test_how_a_checkpoint_is_quantized_is_read_whatever_the_method(how, precision):
    assert precision_of(how) == precision


def test_stored_weights_are_as_large_as_their_index_says(copy):
    assert weight_bytes(resolve_checkpoint(str(copy), None)) == (copy / "model.safetensors").stat().st_size
    index = {"metadata": {"total_size": 7_600_000_000}, "weight_map": {}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_bytes(resolve_checkpoint(str(copy), None)) == 7_600_000_000


def test_a_method_whose_package_is_missing_is_told_before_a_download(copy):
    config = json.loads((copy / "config.json").read_text())
    how = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": how}))
    with pytest.raises(
        ModelError, match=r"quantized with auto-round, which does not work on this machine: .*auto-round"
    ):
        LocalEngine(Settings.from_dict({"model": str(copy)})).describe()
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": {"group_size": 64, "bits": 4}}))
    with pytest.raises(ModelError, match="quantized for MLX"):
        resolve_checkpoint(str(copy), None)


def test_a_token_never_shows():
    secret = "hf_" + "A" * 30
    assert secret not in redact_token(f"401 for {secret} and hf_{'b' * 20}", secret)
    assert "hf_" not in redact_token(f"hf_{'b' * 20}", None)
    assert secret not in repr(Checkpoint("m", Path(), "r", {}, True, secret))
    assert secret not in repr(Settings.from_dict({"hf_token": secret}))


def test_a_model_that_one_gpu_does_not_hold_is_spread_rather_than_rounded():
    asked = {"name": "12b", "quantize": "auto", "device": "cuda", "dtype_bytes": 2, "request_tokens": 4000}
    big = GEMMA3_SIZES["gemma-3-12b"]
    alone = plan(big, available=24 * GIB, **asked)
    assert (alone.precision, alone.spread) == ("8bit", False)
    both = plan(big, available=24 * GIB, on_other_gpus=24 * GIB, **asked)
    assert (both.precision, both.spread) == ("none", True) and "all GPUs" in str(both)
    assert not plan(big, available=80 * GIB, on_other_gpus=80 * GIB, **asked).spread
