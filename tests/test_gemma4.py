"""Every published Gemma 4: its full size on no device, and a tiny one against what transformers makes of it."""

import ast
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_pil_gemma4 import (
    Gemma4ImageProcessorPil,
    get_aspect_ratio_preserving_size,
)
from transformers.models.gemma4_unified.feature_extraction_gemma4_unified import Gemma4UnifiedAudioFeatureExtractor

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local import hardware
from gemma_captioner.engines.local import session as sessions
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.generation import DecodeRunner
from gemma_captioner.engines.local.memory import GEMMA4_SIZES, GIB, Architecture
from gemma_captioner.errors import UsageError
from gemma_captioner.media.images import decode_image
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip
from gemma_captioner.types import Audio, ContextPart, Frames, MediaItem, PatchBudget, Request
from tests.support import gemma4
from tests.support.engines import answers
from tests.support.sound import bursts, write_clip

# What is published, in billions: with the vision tower where a model card says "with embeddings", else without.
PUBLISHED = {"E2B": 5.1, "E4B": 8.0, "12B": 11.95, "26B-A4B": 25.2, "31B": 30.7}
ITEM = MediaItem(Path("a.png"), "image", "a.png", Path("a.txt"), Path())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """size (and template) -> a tiny checkpoint of it, made once."""
    root = tmp_path_factory.mktemp("gemma4")

    @cache
    def made(size: str, template: str | None = None) -> Path:
        folder = root / f"{size}-{template}"
        return gemma4.write_tiny(folder, size, gemma4.TEMPLATES[template] if template else None)

    return made


# Full size


@pytest.mark.parametrize("size", gemma4.SIZES)
def test_a_published_size_is_planned_as_the_real_class_has_it(size, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "free_memory", lambda device: 200 * GIB)
    folder = gemma4.write_full_size(tmp_path / size, size)
    engine = LocalEngine(Settings.from_dict({"model": str(folder), "device": "cpu", "dtype": "bf16", "frames": 16}))
    real = gemma4.model_of(gemma4.config_of(gemma4.published(size)))
    parameters = real.num_parameters()
    tower = getattr(real.model, "vision_tower", None)
    without = parameters - (tower.num_parameters() if tower is not None and size in ("26B-A4B", "31B") else 0)
    assert without / 1e9 == pytest.approx(PUBLISHED[size], abs=0.06)
    plan = engine.memory_plan
    assert plan.precision == "none" and plan.weights == 2 * parameters
    assert engine.spec.context_length == {"E2B": 2**17, "E4B": 2**17}.get(size, 2**18)
    assert engine.prompt_tokens("Describe it.", "clip", 16) > 16 * 70

    text = real.config.get_text_config()
    attention = [layer.self_attn for layer in real.model.language_model.layers]
    keys_and_values = sum(2 * a.k_proj.out_features for a in attention if hasattr(a, "k_proj"))  # k_eq_v keeps both
    architecture = Architecture.of(engine.config, engine.family.count_parameters(engine.config), 280)
    assert architecture == GEMMA4_SIZES[f"gemma-4-{size}"]  # what `doctor` tells of it
    assert architecture.cache_width == keys_and_values
    assert len([a for a in attention if not hasattr(a, "k_proj")]) == text.num_kv_shared_layers
    assert architecture.intermediate == max(
        layer.mlp.up_proj.out_features for layer in real.model.language_model.layers
    )


@pytest.mark.parametrize("size", gemma4.SIZES)
def test_a_dry_run_of_a_published_size_ends_in_a_plan_or_in_what_it_lacks(size, tmp_path, command, media):
    folder = gemma4.write_full_size(tmp_path / size, size)
    done = command("caption", media, "--model", folder, "--dry-run", "--json", "--device", "cpu", "--dtype", "bf16")
    assert "Traceback" not in done.err + done.out
    if done.json["shortage"]:
        assert done.code == 1 and "GiB" in done.json["shortage"] and "\n" not in done.json["shortage"]
    else:
        assert done.code == 0 and "GiB free on cpu" in done.json["model"]
    assert done.json["prompt_tokens"] > 5 * 264


def test_a_published_configuration_keeps_the_traps_that_it_has():
    """Fixtures that were bent until they passed hid that no real size could be read."""
    for size in gemma4.SIZES:
        text = gemma4.config_of(gemma4.published(size)).get_text_config()
        with pytest.raises(Exception, match="per-layer attribute"):
            _ = text.head_dim
        assert {layer.head_dim for layer in text.per_layer_config} == {256, 512}


# Token for token


def item(number: int, frames: int, budget: PatchBudget, **options: Any) -> Request:
    rng = np.random.default_rng(number)
    width, height = budget.of(*[(640, 480), (300, 900), (100, 100)][number % 3])
    pixels = rng.integers(0, 256, (frames, height, width, 3), np.uint8)
    times = tuple(7.25 * i for i in range(frames))
    seconds = options.pop("sound_s", 0.0)
    audio = Audio(rng.normal(0, 0.1, round(seconds * 16_000)).clip(-1, 1).astype(np.float32)) if seconds else None
    frames = Frames(pixels, times, audio=audio)
    return Request(number, ITEM, frames, options.pop("prompt", "Say what it is."), 12, **options)


def _merged(pixels: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By the unified image processor's own function. Its module asks for torchvision: the function alone is taken."""
    path = Path(find_spec("transformers").submodule_search_locations[0]) / (
        "models/gemma4_unified/image_processing_gemma4_unified.py"
    )
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") == "patches_merge"]
    taken: dict[str, Any] = {"torch": torch, "math": math}
    exec(compile(tree, str(path), "exec"), taken)
    return taken["patches_merge"](pixels, places, pixels.shape[1] // gemma4.KERNEL**2)


class Stock:
    """transformers, nothing of ours: its template, its image processor, its `generate`, one item at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.images = Gemma4ImageProcessorPil.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.unified = self.model.config.model_type == "gemma4_unified"
        sounds = Gemma4UnifiedAudioFeatureExtractor if self.unified else Gemma4AudioFeatureExtractor
        self.sounds = sounds.from_pretrained(folder) if self.model.config.audio_config else None

    def tokens(self, asked: Request, *, system: str = "", order: str = "media-first") -> list[int]:
        examples = [(p.text, [("", p.frames)], p.answer) for p in asked.context if p.answer is not None]
        labeled = [(p.text, p.frames) for p in asked.context if p.answer is None]
        turns = [*examples, (asked.prompt, [*labeled, (asked.label, asked.frames)], None)]
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        pixels, places, media, sounds = [], [], [], []
        for prompt, shown, answer in turns:
            content = []
            for label, frames in shown:
                if label:
                    content.append({"type": "text", "text": label})
                if frames is not None:
                    content.append({"type": "image" if len(frames.times_s) == 1 else "video"})
                    if frames.audio is not None:
                        content.append({"type": "audio"})
                        sounds.append(frames.audio.samples)
                    counts, of_pixels, of_places = self.vision(frames.pixels)
                    pixels += of_pixels
                    places += of_places
                    media.append(self.placeholder(counts, frames.times_s))
            content.insert(len(content) if order == "media-first" else 0, {"type": "text", "text": prompt})
            messages.append({"role": "user", "content": content})
            if answer is not None:
                messages.append({"role": "assistant", "content": answer})
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        for one in media:
            kind = min((k for k in ("<|image|>", "<|video|>") if k in text), key=text.index)
            text = text.replace(kind, one.replace("<|image|>", "\0"), 1)
        heard = {}
        if sounds:
            heard = {name: torch.from_numpy(v) for name, v in self.sounds(sounds, return_tensors="np").items()}
            for mask in heard["input_features_mask"]:
                tokens = int(mask.sum() if self.unified else mask[::2][::2].sum())
                text = text.replace("<|audio|>", "<|audio>" + "\1" * tokens + "<audio|>", 1)
        text = text.replace("\0", "<|image|>").replace("\1", "<|audio|>")
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        longest = max(p.shape[0] for p in pixels)
        with torch.inference_mode():
            sequence = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == self.model.config.image_token_id).long()
                + 3 * (ids == self.model.config.audio_token_id).long(),
                **heard,
                pixel_values=torch.stack([_padded(p, longest, 0) for p in pixels]),
                image_position_ids=torch.stack([_padded(p, longest, -1) for p in places]),
                max_new_tokens=asked.max_new_tokens,
                do_sample=False,
                eos_token_id=[1, self.tokenizer.convert_tokens_to_ids("<turn|>")],
                pad_token_id=0,
            )
        return sequence[0, ids.shape[1] :].tolist()

    def vision(self, frames: np.ndarray) -> tuple[list[int], list[torch.Tensor], list[torch.Tensor]]:
        read = self.images(
            [Image.fromarray(f) for f in frames], return_tensors="pt", do_resize=False, max_soft_tokens=1120
        )
        counts = [int(n) for n in read["num_soft_tokens_per_image"]]
        pixels, places = [], []
        for values, at, count in zip(read["pixel_values"], read["image_position_ids"], counts, strict=True):
            values, at = values[None, : count * gemma4.KERNEL**2], at[None, : count * gemma4.KERNEL**2]
            if self.unified:
                values, at = _merged(values, at)
            pixels.append(values[0])
            places.append(at[0])
        return counts, pixels, places

    @staticmethod
    def placeholder(counts: Sequence[int], times_s: Sequence[float]) -> str:
        images = ["<|image>" + "<|image|>" * n + "<image|>" for n in counts]
        if len(images) == 1:
            return images[0]
        return " ".join(f"{int(t) // 60:02d}:{int(t) % 60:02d} {i}" for t, i in zip(times_s, images, strict=True))


def _padded(values: torch.Tensor, length: int, fill: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, length - len(values)), value=fill)


def compare(folder: Path, asked: Sequence[Request], *batch_sizes: int, **settings: Any) -> None:
    stock = Stock(folder)
    expected = [
        stock.tokens(r, system=settings.get("system", ""), order=settings.get("order", "media-first")) for r in asked
    ]
    assert len(set(map(tuple, expected))) >= len(asked) / 2  # they are no constant
    with LocalEngine(Settings.from_dict({"model": str(folder), "dtype": "fp32"} | settings)).open() as session:
        for batch_size in batch_sizes:
            for start in range(0, len(asked), batch_size):
                batch = asked[start : start + batch_size]
                rows = session.generate_batch([session.prepare(r) for r in batch])
                for row, tokens, one in zip(rows, expected[start:], batch, strict=False):
                    what = f"{one.id} with {len(one.frames.times_s)} frames in batches of {batch_size}, {settings}"
                    assert row[: len(tokens)] == tokens, what


IMAGE, CLIP = PatchBudget(280, 12), PatchBudget(70, 12)


@pytest.mark.parametrize("size", gemma4.SIZES)
def test_a_mixed_batch_gives_what_transformers_gives_one_by_one(size, tiny):
    example = ContextPart("Say what it is.", "A cat.", item(90, 1, IMAGE).frames)
    sources = (
        ContextPart("Source image 1:", frames=item(92, 1, IMAGE).frames),
        ContextPart("Source clip 2:", frames=item(93, 3, CLIP).frames),
    )
    asked = [
        item(0, 1, IMAGE),
        item(1, 5, CLIP),
        item(2, 1, IMAGE, context=(example, ContextPart("And here?", "A dog."))),
        item(3, 2, CLIP, prompt="What moves, and where to?"),
        item(4, 2, CLIP, context=(example, *sources), label="Edited clip:"),
    ]
    compare(tiny(size), asked, 4, system="Be brief, and do not guess.")


@pytest.mark.prove
@pytest.mark.parametrize("size", gemma4.SIZES)
def test_every_size_in_every_way(size, tiny):
    folder = tiny(size)
    asked = [item(n, n % 16 + 1, CLIP if n % 16 else IMAGE) for n in range(20)]
    compare(folder, asked, 1, 3, 8)
    compare(folder, asked[:6], 1, 4, order="text-first", system="Be brief.", timestamps=True)
    for tokens in (70, 140, 560, 1120):
        budget = PatchBudget(tokens, 12)
        compare(folder, [item(n, n % 2 + 1, budget) for n in range(4)], 1, 4, image_tokens=tokens)
    shown = (ContextPart("What is it?", "A cat.", item(91, 3, CLIP).frames), ContextPart("And this?", "A dog."))
    compare(folder, [item(n, 4, CLIP, context=shown) for n in range(3)], 1, 3)


HEARS = ("E2B", pytest.param("E4B", marks=pytest.mark.prove), "12B")


@pytest.mark.parametrize("size", HEARS)
def test_sound_gives_what_transformers_gives_one_by_one(size, tiny):
    """With and without sound in one batch, and in an example."""
    shown = (
        ContextPart("Say what it is.", "A cat.", item(90, 2, CLIP, sound_s=0.7).frames),
        ContextPart("And?", "A dog."),
        ContextPart("Source clip:", frames=item(91, 2, CLIP, sound_s=0.5).frames),
    )
    asked = [
        item(0, 1, IMAGE),
        item(1, 4, CLIP, sound_s=1.3),
        item(2, 3, CLIP, sound_s=2.0, prompt="What is heard?"),
        item(3, 2, CLIP),
        item(4, 3, CLIP, sound_s=0.011, context=shown, label="Edited clip:"),
    ]
    compare(tiny(size), asked, 5, 2)


@pytest.mark.parametrize("size", HEARS)
def test_another_sound_gives_another_answer_and_30_s_are_the_most(size, tiny):
    settings = {"model": str(tiny(size)), "dtype": "fp32", "audio": "on"}
    asked = item(1, 2, CLIP, sound_s=2.0)
    changed = replace(asked, frames=replace(asked.frames, audio=Audio(-asked.frames.audio.samples[::-1].copy())))
    deaf = replace(asked, frames=replace(asked.frames, audio=None))
    engine = LocalEngine(Settings.from_dict(settings))
    assert engine.spec.max_audio_s == 30 and engine.spec.audio_tokens_per_second == 25
    with engine.open() as session:
        rows = [session.generate_batch([session.prepare(one)])[0] for one in (asked, changed, deaf)]
        assert len(set(map(tuple, rows))) == 3
        long = item(1, 2, CLIP, sound_s=31.0)
        cut = replace(long, frames=replace(long.frames, audio=Audio(long.frames.audio.samples[: 30 * 16_000])))
        prepared = [session.prepare(one) for one in (long, cut)]
        marker = session.model.config.audio_token_id
        assert [one.tokens.count(marker) for one in prepared] == [750, 750]
        assert np.array_equal(prepared[0].sounds[0], prepared[1].sounds[0])
        longest = engine.prompt_tokens(asked.prompt, "clip", 2)
        assert longest - 2 * (70 + 8) <= len(session.encode_prompt(cut)) <= longest


@pytest.mark.parametrize("size", ["E4B", "12B", "26B-A4B"])
def test_what_quantization_shrinks_is_what_the_plan_counts(size, tiny):
    engine = LocalEngine(Settings.from_dict({"model": str(tiny(size)), "quantize": "8bit"}))
    with engine.open() as session:
        modules = session.model.named_modules()
        shrunk = sum(m.weight.numel() for _, m in modules if type(m).__name__ == "Linear8bitLt")
        assert shrunk == engine.family.count_parameters(engine.config)[0]
        assert answers(session, [item(0, 2, CLIP)])[0].new_tokens > 0


@pytest.mark.parametrize("size", gemma4.SIZES)
def test_the_cache_holds_what_the_plan_counts_for_a_token(size, tiny):
    engine = LocalEngine(Settings.from_dict({"model": str(tiny(size)), "dtype": "fp32"}))
    with engine.open() as session, torch.inference_mode():
        runner = DecodeRunner(session.model, 1, 24)
        runner.prefill([0], torch.arange(20)[None] + 20, torch.ones(1, 20, dtype=torch.bool), {})
        kept = [layer for layer in runner.cache.layers.layers if layer.is_initialized]
        values = sum(layer.keys[:, :, 0].numel() + layer.values[:, :, 0].numel() for layer in kept)
    parameter_counts = engine.family.count_parameters(engine.config)
    assert Architecture.of(engine.config, parameter_counts, 280).cache_width == values


@pytest.mark.parametrize("size", ["E2B", *(pytest.param(s, marks=pytest.mark.prove) for s in ("12B", "26B-A4B"))])
def test_the_parts_that_are_compiled_on_a_gpu_say_the_same(size, tiny, monkeypatch):
    calls = []

    def compile(function):
        return lambda *args, **kwargs: calls.append(function.__name__) or function(*args, **kwargs)

    monkeypatch.setattr(sessions, "_BATCHES_BEFORE_COMPILING", 0)
    monkeypatch.setattr(sessions, "compile_region", compile)
    said = []
    for can_fuse in (False, True):
        with LocalEngine(Settings.from_dict({"model": str(tiny(size)), "dtype": "fp32"})).open() as session:
            session.can_fuse = can_fuse
            got = answers(session, [item(n, 1 + n % 2, CLIP) for n in range(3)])
            said.append({number: answer.text for number, answer in got.items()})
    assert said[0] == said[1] and {"forward", "apply_rotary_pos_emb", "_gated_product"} == set(calls)


# Prompts


@pytest.mark.parametrize("template", gemma4.TEMPLATES)
@pytest.mark.parametrize("size", ["E4B", "12B"])
def test_the_system_message_and_the_images_stand_as_the_template_writes_them(size, template, tiny):
    settings = Settings.from_dict({"model": str(tiny(size, template)), "dtype": "fp32", "system": " Be brief. "})
    with LocalEngine(settings).open() as session:
        text = session._processor.tokenizer.decode(
            session.encode_prompt(item(0, 1, PatchBudget(70, 12), prompt=" What? "))
        )
    gap, thought = ("\n\n", "") if template == "blank lines" else ("", "<|channel>thought\n<channel|>")
    images = "<|image|>" * (text.count("<|image|>"))
    assert text == (
        f"<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\n{gap}<|image>{images}<image|>{gap}What?<turn|>\n"
        f"<|turn>model\n{thought}"
    )
    assert 60 < text.count("<|image|>") <= 70


# Sizes of pictures


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


def _stock_resize(picture: Image.Image, budget: PatchBudget) -> np.ndarray:
    images = Gemma4ImageProcessorPil()
    channels_first = np.asarray(picture).transpose(2, 0, 1)
    resized = images.aspect_ratio_preserving_resize(channels_first, 16, budget.tokens * 9, 3, images.resample)
    return resized.transpose(1, 2, 0).astype(int)


@pytest.mark.parametrize(("kind", "tokens"), [("png", 70), ("png", 280), ("jpg", 70), ("gif", 70), ("mkv", 70)])
def test_a_picture_is_resized_as_its_image_processor_does(kind, tokens, tmp_path):
    """To the last bit; where decoding is made quicker by resizing at once, within half a level of 255 on average."""
    budget = PatchBudget(tokens, 48)
    coarse = Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 100, 3), np.uint8))
    path, picture = tmp_path / f"picture.{kind}", coarse.resize((800, 480), Image.Resampling.BICUBIC)
    if kind == "mkv":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264rgb", rate=24, options={"crf": "0"})
            stream.width, stream.height, stream.pix_fmt = 800, 480, "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode())
        pixels = decode_clip(path, budget, DecodeSettings()).pixels[0]
    else:
        other = picture.transpose(Image.Transpose.ROTATE_180)
        picture.save(path, **({"save_all": True, "append_images": [other]} if kind == "gif" else {"quality": 95}))
        with Image.open(path) as saved:
            picture = saved.convert("RGB")
        pixels = decode_image(path, budget, DecodeSettings(frames=2)).pixels[0]
    expected = _stock_resize(picture, budget)
    off = np.abs(pixels.astype(int) - expected)
    assert off.mean() < 0.5 if kind in ("jpg", "mkv") else off.max() == 0
    bilinear = picture.resize(pixels.shape[1::-1], Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(bilinear).astype(int) - expected).mean() > 2 * off.mean()


# The command line


@pytest.mark.parametrize("size", ["E2B", "12B"])
def test_the_command_line_captions_with_it(size, command, media, tiny):
    write_clip(media / "heard.mp4", range(24), [("aac", 48_000, bursts(1, [0.5]))])
    run = ("caption", media, "--model", tiny(size), "--max-new-tokens", 4, "--json", "--image-tokens", 70)
    done = command(*run, "--audio", "on")
    assert done.json["captioned"] + done.json["failed"] == 9, done.err
    assert "sound: sent with each clip, up to 30 s" in done.err
    assert all("without a caption" in f["error"] or "empty" in f["error"] for f in done.json["failures"]), done.json
    dry = command("caption", media, "--model", tiny(size), "--dry-run", "--existing", "overwrite")
    assert "weights 0.0" in dry.out


def test_the_budget_is_gemma_4s_and_unknown_families_are_refused_by_name(command, media, tiny, tmp_path):
    with pytest.raises(UsageError, match="Gemma 4"):
        _ = LocalEngine(Settings.from_dict({"model": "demo", "image_tokens": 140})).spec
    other = tmp_path / "other"
    shutil.copytree(tiny("31B"), other)
    config = json.loads((other / "config.json").read_text())
    for family, said in [
        ("llava", "'llava'"),
        ("gemma3n", "Gemma 3n, which the local engine does not support"),
        ("gemma4_text", "text-only model"),
    ]:
        (other / "config.json").write_text(json.dumps(config | {"model_type": family}))
        done = command("caption", media, "--model", other)
        assert done.code == 1 and said in done.err and "emma 4" in done.err.replace("gemma4", "Gemma 4"), done.err
