"""Files read without transformers give the same values as with it, and a run imports only what it needs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.config import DEFAULTS, count_gemma4_parameters, read_config
from gemma_captioner.engines.local.families import FAMILIES
from gemma_captioner.engines.local.hardware import is_bf16_fast_on_cpu
from gemma_captioner.engines.local.tokenizer import token_counter
from gemma_captioner.engines.scripted import ScriptedEngine, ScriptedSession
from gemma_captioner.errors import ModelError
from gemma_captioner.executors.local import Run
from gemma_captioner.media.pool import DecodePool
from tests.support import gemma4
from tests.test_layout import imported_by

TEXTS = (
    "",
    " ",
    "A photo of a cat.",
    "  two  spaces\n\n\tand a tab ",
    "Ünïcödé, 你好 🐈‍⬛ e\u0301",
    "<bos><start_of_turn>user\n<start_of_image>What?<end_of_turn>\n",
    "<|turn>user\n<|image|>What?<turn|>",
    "\u2581a<unk> b" * 3,
)
MESSAGES = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What? "}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
    {"role": "user", "content": [{"type": "text", "text": "And here?"}, {"type": "image"}]},
]


def gemma3_copy(folder: Path, **tokenizer_config: object) -> Path:
    shutil.copytree(DEMO_CHECKPOINT, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | tokenizer_config))
    return folder


def compare_tokenizers(folder: Path, family: str, more: str = "") -> None:
    theirs, ours = AutoTokenizer.from_pretrained(folder), FAMILIES[family].load_processor(folder).tokenizer
    for text in (*TEXTS, more):
        for special in (True, False):
            expected = theirs(text, add_special_tokens=special)["input_ids"]
            assert ours.encode(text, add_special_tokens=special) == expected, (text, special)
            assert ours.decode(expected, skip_special_tokens=special) == theirs.decode(
                expected, skip_special_tokens=special
            )
    assert ours.special_tokens == theirs.special_tokens_map
    names = ("bos", "eos", "pad", "unk", "boi", "eoi", "image")
    assert [getattr(ours, f"{n}_token_id") for n in names] == [getattr(theirs, f"{n}_token_id") for n in names]
    assert ours.special_ids == {i for i, token in theirs.added_tokens_decoder.items() if token.special}
    assert ours.token_id("no such token") == theirs.convert_tokens_to_ids("no such token")
    assert ours.pieces(len(theirs)) == [theirs.decode([i]) for i in range(len(theirs))]


def test_gemma_3_is_read_as_transformers_reads_it(tmp_path):
    theirs, ours = (
        AutoProcessor.from_pretrained(DEMO_CHECKPOINT, backend="pil"),
        FAMILIES["gemma3"].load_processor(DEMO_CHECKPOINT),
    )
    compare_tokenizers(DEMO_CHECKPOINT, "gemma3")
    assert ours.apply_chat_template(MESSAGES) == theirs.apply_chat_template(
        MESSAGES, add_generation_prompt=True, tokenize=False
    )
    assert FAMILIES["gemma3"].placeholder(ours, ours.tokens_per_image) == theirs.full_image_sequence
    for name in ("rescale_factor", "do_normalize"):
        assert getattr(ours.images, name) == getattr(theirs.image_processor, name)
    assert dict(ours.images.size) == {name: theirs.image_processor.size[name] for name in ("height", "width")}
    assert [list(ours.images.image_mean), list(ours.images.image_std)] == [[0.5] * 3] * 2


def test_the_tokenizer_file_says_whether_texts_begin_with_bos(tmp_path):
    folder = gemma3_copy(tmp_path / "copy", add_bos_token=False)  # read by older versions
    compare_tokenizers(folder, "gemma3")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    compare_tokenizers(folder, "gemma3")


def test_special_tokens_are_named_in_every_way_that_checkpoints_do(tmp_path):
    path = gemma3_copy(tmp_path / "copy") / "tokenizer_config.json"
    config = json.loads(path.read_text())
    named = {name: config.pop(name) for name in ("boi_token", "eoi_token", "image_token")}
    bos = {"content": "<bos>", "__type": "AddedToken", "lstrip": False, "rstrip": False, "normalized": False}
    path.write_text(json.dumps(config | {"extra_special_tokens": named, "bos_token": bos}))
    compare_tokenizers(path.parent, "gemma3")


def test_the_template_of_gemma_3_is_the_processors(tmp_path):
    folder = gemma3_copy(tmp_path / "copy", chat_template="of the tokenizer")
    for files in (["chat_template.json", "chat_template.jinja"], ["chat_template.jinja"], ["chat_template.json"], []):
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        (folder / "chat_template.json").unlink(missing_ok=True)
        for file in files:
            text = "of the jinja file" if file.endswith("jinja") else json.dumps({"chat_template": "of the json file"})
            (folder / file).write_text(text)
        theirs = AutoProcessor.from_pretrained(folder, backend="pil")
        assert FAMILIES["gemma3"].load_processor(folder).chat_template == theirs.chat_template, files


@pytest.mark.parametrize("size", ["E4B", "12B"])
@pytest.mark.parametrize("template", gemma4.TEMPLATES)
def test_gemma_4_is_read_as_transformers_reads_it(size, template, tmp_path):
    folder = tmp_path / "checkpoint"
    gemma4.write_description(folder, size, gemma4.TEMPLATES[template], patch=12)
    family = gemma4.published(size)["model_type"]
    theirs, ours = AutoTokenizer.from_pretrained(folder), FAMILIES[family].load_processor(folder)
    compare_tokenizers(folder, family)
    options = FAMILIES[family].template_options
    expected = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False, **options)
    assert ours.apply_chat_template(MESSAGES, **options) == expected
    images = Gemma4ImageProcessorPil.from_pretrained(folder)
    for name in ("patch_size", "pooling_kernel_size", "rescale_factor", "do_normalize"):
        assert getattr(ours.images, name) == getattr(images, name)
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    for written in ("one", [{"name": "tools", "template": "two"}, {"name": "default", "template": "one"}]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": written}))
        assert FAMILIES[family].load_processor(folder).chat_template == "one"


def test_a_template_runs_in_the_environment_that_transformers_gives_it():
    source = """{{ bos_token }}
    {%- set ns = namespace(n=0) %}
    {%- for m in messages %}
        {%- if loop.index0 == 1 %}{% continue %}{% endif %}
        {%- set ns.n = ns.n + 1 %}
        {{ m['role'] | tojson }} {{ {'a': '<é>'} | tojson(indent=2) }}
        {%- generation %}{{ ns.n }}{{ dict(a=1) }}{% endgeneration %}
    {%- endfor %}
    {%- if tools is none and documents is none and add_generation_prompt and thinks %}{{ strftime_now('%Y') }}
    {%- endif %}
    """
    processor = FAMILIES["gemma3"].load_processor(DEMO_CHECKPOINT)
    processor.chat_template = source
    theirs = AutoTokenizer.from_pretrained(DEMO_CHECKPOINT)
    expected = theirs.apply_chat_template(
        MESSAGES, chat_template=source, add_generation_prompt=True, tokenize=False, thinks=True
    )
    assert processor.apply_chat_template(MESSAGES, thinks=True) == expected
    for unsafe in ("{{ messages.__class__.__mro__ }}", "{{ namespace(__x=1) }}", "{{ messages.append(1) }}"):
        processor.chat_template = unsafe
        with pytest.raises(Exception, match=r"unsafe|underscore"):
            processor.apply_chat_template(MESSAGES)


def test_a_checkpoint_without_a_tokenizer_file_names_the_remedy(tmp_path):
    folder = gemma3_copy(tmp_path / "copy")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*tokenizer\.json .*: download it again"):
        FAMILIES["gemma3"].load_processor(folder).tokenizer.encode("A cat.")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json: save the tokenizer"):
        FAMILIES["gemma3"].load_processor(folder)


# Sizes


@pytest.mark.parametrize("model_type", DEFAULTS)
def test_what_a_configuration_leaves_out_is_what_its_class_has(model_type):
    vision = {"vision_config": {"model_type": "siglip_vision_model"}} if model_type == "gemma3" else {}
    config = CONFIG_MAPPING[model_type](**vision or {"vision_config": {}, "audio_config": {}})
    for part, defaults in DEFAULTS[model_type].items():
        real = getattr(config, f"{part}_config").to_dict()
        for name, value in defaults.items():
            expected = real[name]
            assert value == (tuple(expected) if isinstance(expected, list) else expected), (part, name)
    sparse = read_config({"model_type": model_type, "text_config": {}, "vision_config": {}})
    text = config.get_text_config()
    layers = text.per_layer_config if text.is_heterogeneous else [text] * text.num_hidden_layers
    assert [layer[:2] for layer in sparse.layers] == [(layer.num_key_value_heads, layer.head_dim) for layer in layers]


@pytest.mark.parametrize("size", gemma4.SIZES)
def test_parameters_are_counted_as_the_real_classes_have_them(size):
    config = gemma4.config_of(gemma4.published(size))
    model = gemma4.model_of(config)
    linear = sum(
        module.weight.numel()
        for name, module in model.model.language_model.layers.named_modules()
        if isinstance(module, torch.nn.Linear) and "router" not in name and "per_layer" not in name
    )
    expected = (linear, model.num_parameters() - linear)
    for values in (gemma4.published(size), config.to_dict()):  # as published, and as transformers saves it
        assert count_gemma4_parameters(read_config(values)) == expected


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="other systems ask torch")
def test_bf16_is_fast_where_torch_says_so():
    assert is_bf16_fast_on_cpu() == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_a_trainers_tokenizer_counts_as_transformers_does():
    theirs, count = AutoTokenizer.from_pretrained(DEMO_CHECKPOINT), token_counter(str(DEMO_CHECKPOINT))
    assert count is not None
    assert [count(text) for text in TEXTS] == [
        len(theirs(text, add_special_tokens=False)["input_ids"]) for text in TEXTS
    ]


# Imports

_DRY_RUN = """
from gemma_captioner.cli import main
try: main({})
except SystemExit as end: assert not end.code, end.code
"""
SLOW = {"torch", "transformers", "accelerate", "safetensors", "huggingface_hub"}


def test_a_dry_run_and_token_counts_import_no_model_library(media):
    _, others = imported_by(_DRY_RUN.format(["caption", str(media), "--model", "demo", "--dry-run"]))
    assert "tokenizers" in others and others.isdisjoint(SLOW)
    count = f"from gemma_captioner.engines.local.tokenizer import *\ntoken_counter({str(DEMO_CHECKPOINT)!r})('A.')"
    _, others = imported_by(count)
    assert "tokenizers" in others and others.isdisjoint(SLOW)


@pytest.mark.skipif(sys.platform == "darwin", reason="only torch knows an Apple GPU's memory")
def test_doctor_imports_no_model_library_where_there_is_no_gpu():
    _, others = imported_by(_DRY_RUN.format(["doctor"]))
    assert "psutil" in others and others.isdisjoint(SLOW - {"huggingface_hub"})


class RecordingEngine(ScriptedEngine):
    """Records when the pipeline prepares it, waits for it and opens it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def prepare(self) -> Callable[[], None]:
        self.events.append("prepare")
        return lambda: self.events.append("wait")

    def open(self) -> ScriptedSession:
        self.events.append("open")
        return super().open()


def test_an_engine_is_prepared_while_the_first_files_are_decoded(media, monkeypatch):
    engine = RecordingEngine()
    start = DecodePool.start
    monkeypatch.setattr(DecodePool, "start", lambda *args: engine.events.append("decode") or start(*args))
    for _ in Run([media], Settings.from_dict({"limit": 3}), engine):
        pass
    assert engine.events[:2] == ["prepare", "decode"] and engine.events[-2:] == ["wait", "open"]
    assert engine.events.count("prepare") == 1
    engine.events.clear()
    for _ in Run([media], Settings.from_dict({"limit": 0}), engine):
        pass
    assert engine.events == []


_OWN_PROCESS = """
import sys
from gemma_captioner.cli import main
sys.argv[1:] = {}
try: main()
except SystemExit as end: assert not end.code, end.code
import torch, transformers
hidden = {{"torch._dynamo", "torch.distributed.tensor", "torch._inductor", "scipy.optimize"}} & sys.modules.keys()
assert not hidden, hidden
assert torch.compile(torch.sin, backend="eager")(torch.zeros(1)) == 0
assert torch.distributed.is_available() and transformers.AutoProcessor and transformers.models.gemma3
from transformers.loss.loss_utils import LOSS_MAPPING
assert LOSS_MAPPING
"""


@pytest.mark.long
def test_the_command_imports_neither_the_compiler_nor_distributed_tensors(media, command):
    words = ["caption", str(media), "--model", "demo"]
    subprocess.run([sys.executable, "-c", _OWN_PROCESS.format(words)], check=True, timeout=120)
    captions = {path.name: path.read_text() for path in media.glob("*.txt")}
    assert len(captions) == 8
    command(*words, "--existing", "overwrite")
    assert captions == {path.name: path.read_text() for path in media.glob("*.txt")}
