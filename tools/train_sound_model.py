"""Trains the sound checkpoint of the tests: a Gemma 4 that names a drawn shape, its motion and a tone.

    python -m tools.train_sound_model --work DIR    # seeded; it goes on with what DIR has
    torchrun --nproc-per-node 2 -m tools.train_sound_model --work DIR --stages language --threads 1

1. vision: the tower learns shape, colors and position, with temporary heads that all soft tokens share.
2. audio: the tower learns the kind of tone, from sounds that went through lossy codecs, with a temporary head.
3. language: the projectors and the language model learn captions on the frozen features. Most batches have an eighth of
   the soft tokens, because each of them has learned to tell everything.
"""

import argparse
import io
import json
import os
import shutil
import time
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from transformers import Gemma4AudioFeatureExtractor, Gemma4Config, Gemma4ForConditionalGeneration, GenerationConfig

from gemma_captioner.demo.drawing import COLORS, SHAPES, SIZE, Scene, draw
from gemma_captioner.engines.local.families import FAMILIES
from gemma_captioner.engines.local.processor import Processor
from tools.demo_tokenizer import train_tokenizer
from tools.sound_scenes import RATE, TONES, SoundScene, encode_sound, random_shape, random_tone
from tools.train_demo_model import (
    CLIP_PROMPTS,
    IMAGE_PROMPTS,
    MOTION_QUESTION,
    POSITION_QUESTION,
    POSITIONS,
    WORDS,
    cell_name,
    encode_and_decode,
    schedule,
)

OUT = Path(__file__).parents[1] / "tests/data/sound"
PATCH, KERNEL = 4, 2  # a frame of 64 x 64 pixels is 8 x 8 soft tokens
SOFT_TOKENS = (SIZE // PATCH // KERNEL) ** 2  # of a frame
SOUND_RATE, MEL_BANDS = 16000, 64
TONE_QUESTION = "Which tone sounds?"
VISION_STEPS, VISION_BATCH, VISION_LR = 1200, 32, 2e-3
AUDIO_STEPS, AUDIO_BATCH, AUDIO_LR = 250, 16, 3e-3
LANGUAGE_STEPS, LANGUAGE_BATCH, LANGUAGE_LR = 550, 24, 3e-3
CODECS = [("aac", "mp4", 64_000), ("aac", "mp4", 128_000), ("libopus", "matroska", 48_000), ("pcm_s16le", "wav", None)]
TOKENS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "video_token": "<|video|>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
}
# As the published templates, without tools: system message, content parts, and no thinking.
TEMPLATE = """{{ bos_token }}
{%- set rest = messages -%}
{%- if messages[0]['role'] == 'system' -%}
{{ '<|turn>system\\n' + messages[0]['content'] | trim + '<turn|>\\n' }}{%- set rest = messages[1:] -%}
{%- endif -%}
{%- for message in rest -%}
{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{%- if message['content'] is string -%}{{ message['content'] | trim }}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'text' -%}{{ item['text'] | trim }}
{%- elif item['type'] == 'image' -%}{{ '\\n\\n<|image|>\\n\\n' }}
{%- elif item['type'] == 'audio' -%}{{ '<|audio|>' }}
{%- elif item['type'] == 'video' -%}{{ '\\n\\n<|video|>\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}{{ '<turn|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}
"""


# The checkpoint


def tokenizer_texts() -> list[str]:
    rng = Random(0)
    captions = [SoundScene(random_shape(rng, clip=i % 2 == 0), random_tone(rng)).caption for i in range(3000)]
    prompts = [" ".join(rng.choices(WORDS, k=12)) for _ in range(2000)]
    questions = [*IMAGE_PROMPTS, *CLIP_PROMPTS, *POSITIONS, POSITION_QUESTION, MOTION_QUESTION, TONE_QUESTION]
    return (
        captions + prompts + [*questions, "From to", "Caption:", "user", "model", "system", "Sound, sound, audio."] * 50
    )


def describe(folder: Path) -> None:
    """Write the tokenizer, the chat template and the processor's settings."""
    tokenizer = train_tokenizer(tokenizer_texts(), TOKENS)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    processor = {
        "processor_class": "Gemma4Processor",
        "image_processor": {
            "image_processor_type": "Gemma4ImageProcessor",
            "patch_size": PATCH,
            "pooling_kernel_size": KERNEL,
            "max_soft_tokens": 280,
        },
        "feature_extractor": Gemma4AudioFeatureExtractor(feature_size=MEL_BANDS).to_dict(),
        "image_seq_length": 280,
        "audio_seq_length": 750,
        "audio_ms_per_token": 40,
    }
    for name in ("mel_filters", "window"):
        processor["feature_extractor"].pop(name, None)
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=1, default=float), encoding="utf-8")


def build(processor: Processor) -> Gemma4ForConditionalGeneration:
    tokenizer = processor.tokenizer
    names = ("boi_token", "eoi_token", "image_token", "boa_token", "audio_token", "video_token")
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in names}
    end_of_turn, size = tokenizer.token_id("<turn|>"), 768
    config = Gemma4Config(
        **ids,
        eoa_token_id=tokenizer.eoa_token_id,
        eoa_token_index=tokenizer.eoa_token_id,
        eos_token_id=[tokenizer.eos_token_id, end_of_turn],
        text_config={
            "vocab_size": size,
            "vocab_size_per_layer_input": size,
            "hidden_size": 96,
            "hidden_size_per_layer_input": 0,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "global_head_dim": 64,
            "sliding_window": 512,
            "max_position_embeddings": 8192,
            "final_logit_softcapping": 30.0,
            "initializer_range": 0.08,
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "patch_size": PATCH,
            "pooling_kernel_size": KERNEL,
            "position_embedding_size": 160,
            "initializer_range": 0.1,
        },
        audio_config={
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "output_proj_dims": 64,
            "subsampling_conv_channels": [MEL_BANDS, 8],  # transformers takes the first for the number of bands, too
            "initializer_range": 0.1,
        },
        dtype="float32",
    )
    model = Gemma4ForConditionalGeneration(config)
    with torch.no_grad():
        nn.init.normal_(model.model.vision_tower.patch_embedder.position_embedding_table, std=0.3)
        for module in model.modules():
            # Attention has no other scale: queries and keys of length one begin with even attention.
            for name in ("q_norm", "k_norm"):
                if hasattr(module, name):
                    norm = getattr(module, name).weight
                    norm.fill_(len(norm) ** -0.25)
    model.generation_config = GenerationConfig(
        eos_token_id=config.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
    )
    return model


def save(model: Gemma4ForConditionalGeneration, work: Path, out: Path) -> None:
    """Write the checkpoint: its description from `work`, and the weights as float16, which is half of the bytes."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json"):
        shutil.copy(work / name, out)
    model.half().save_pretrained(out)


# The towers


def patches_of(frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Map uint8 [n, 64, 64, 3] to patches, float [n, 256, 48], and their columns and rows, [n, 256, 2]."""
    n, side = len(frames), SIZE // PATCH
    values = torch.from_numpy(frames).float().div_(255)
    patches = values.reshape(n, side, PATCH, side, PATCH, 3).permute(0, 1, 3, 2, 4, 5).reshape(n, side * side, -1)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return patches, torch.stack([x, y], -1).reshape(1, -1, 2).expand(n, -1, -1)


def encode_frames(model: Gemma4ForConditionalGeneration, frames: np.ndarray) -> torch.Tensor:
    """Map uint8 [n, 64, 64, 3] to the vision tower's soft tokens: float [n, 64, width]."""
    patches, places = patches_of(frames)
    tokens = model.model.vision_tower(pixel_values=patches, pixel_position_ids=places).last_hidden_state
    return tokens.reshape(len(frames), SOFT_TOKENS, -1)


def encode_near(
    model: Gemma4ForConditionalGeneration, frames: np.ndarray, scenes: list[Scene]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encode only the patches around the shapes and some of the others, which takes a third.

    Returns the tower's output and its first layer's output, [n, 112, width], and the numbers of the patches, [n, 112].
    """
    patches, places = patches_of(frames)
    center = torch.tensor([s.start for s in scenes])[:, None] / PATCH - 0.5
    distance = (places - center).abs().amax(-1)
    distance.scatter_(1, torch.rand(distance.shape).topk(32).indices, -1.0)
    kept = (-distance).topk(112).indices
    patches, places = (x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1])) for x in (patches, places))
    tower, first = model.model.vision_tower, []
    hook = tower.encoder.layers[0].register_forward_hook(lambda *called: first.append(called[2]))
    everywhere = torch.ones(kept.shape, dtype=torch.bool)
    last = tower.encoder(tower.patch_embedder(patches, places, ~everywhere), everywhere, places).last_hidden_state
    hook.remove()
    return last, first[0], kept


def edge_directions(drawn: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which patches show an edge, bool [n, 256], and its direction: cos and sin of 1 to 5 times the angle."""
    n, side = len(drawn), SIZE // PATCH
    light = drawn.astype(np.float32) @ np.array([1, 1, -1], np.float32)
    pieces = (slope.reshape(n, side, PATCH, side, PATCH) for slope in np.gradient(light, axis=(1, 2)))
    slopes = [piece.sum((2, 4)).reshape(n, -1) for piece in pieces]
    angle, strength = np.arctan2(*slopes), np.hypot(*slopes)
    turns = angle[..., None] * np.arange(1, 6)
    edges = strength > 0.3 * strength.max(1, keepdims=True)
    return torch.from_numpy(edges), torch.from_numpy(np.concatenate([np.cos(turns), np.sin(turns)], -1)).float()


def train_vision(model: Gemma4ForConditionalGeneration, rng: Random, steps: int, state: Path) -> None:
    """Train shape, colors and position on the tower's output, and the directions of edges on its first layer's.

    Shapes differ by these directions: without them they were learned several times more slowly (docs/decisions.md).
    """
    shapes, colors = sorted(SHAPES), sorted(COLORS)
    width = model.config.vision_config.hidden_size
    sizes = {"shape": len(shapes), "color": len(colors), "background": len(colors), "place": len(POSITIONS), "xy": 2}
    heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in (sizes | {"edges": 10}).items()})
    norm = nn.LayerNorm(width)
    trained = [*model.model.vision_tower.parameters(), *norm.parameters(), *heads.parameters()]
    optimizer, scheduler = schedule(trained, VISION_LR, steps)
    for step in range(steps):
        scenes = [random_shape(rng, clip=False) for _ in range(VISION_BATCH)]
        drawn = np.concatenate([draw(s) for s in scenes])
        frames = np.concatenate([encode_and_decode(frame[None], rng) for frame in drawn])
        loss, off = torch.zeros(()), 0.0
        if step < 0.85 * steps:
            features, first, kept = encode_near(model, frames, scenes)
            edges, directions = edge_directions(drawn)
            shown = edges.gather(1, kept)
            directions = directions.gather(1, kept[..., None].expand(-1, -1, 10))
            loss = 5 * nn.functional.mse_loss(heads["edges"](first)[shown], directions[shown])
            off = loss.item() / 5
        else:
            features = encode_frames(model, frames)
        features = norm(features)
        target = {
            "shape": torch.tensor([shapes.index(s.shape) for s in scenes]),
            "color": torch.tensor([colors.index(s.color) for s in scenes]),
            "background": torch.tensor([colors.index(s.background) for s in scenes]),
            "place": torch.tensor([POSITIONS.index(cell_name(s.start)) for s in scenes]),
        }
        predicted = {name: heads[name](features) for name in sizes}  # [batch, tokens, size]
        tokens = features.shape[1]
        xy = torch.tensor([s.start for s in scenes])[:, None] / SIZE
        loss = loss + 10 * nn.functional.mse_loss(predicted["xy"], xy.expand(-1, tokens, -1))
        for name, truth in target.items():
            loss = loss + nn.functional.cross_entropy(predicted[name].flatten(0, 1), truth.repeat_interleave(tokens))
        update(loss, trained, optimizer, scheduler)
        if step % 25 == 24:
            right = {
                name: (predicted[name].argmax(-1) == truth[:, None]).float().mean() for name, truth in target.items()
            }
            report(f"vision {step + 1}", {k: v.item() for k, v in right.items()} | {"edges off": off})
        if step % 100 == 99:
            torch.save(model.model.vision_tower.state_dict(), state.with_suffix(".part"))


def heard(sound: np.ndarray, codec: str, container: str, bit_rate: int | None) -> np.ndarray:
    """Encode float32 samples at 48 kHz and decode them as mono at 16 kHz."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE, layout="stereo")
        if bit_rate:
            stream.bit_rate = bit_rate
        encode_sound(output, stream, sound)
    file.seek(0)
    resampler = av.AudioResampler("flt", "mono", SOUND_RATE)
    with av.open(file) as decoded:
        frames = [part for frame in decoded.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray()[0] for part in frames + resampler.resample(None)])


def sounds(rng: Random, count: int) -> list[tuple[str, np.ndarray]]:
    """Make sounds that went through a codec: (kind of tone, float32 samples at 16 kHz)."""
    made = []
    for _ in range(count):
        tone = random_tone(rng)
        made.append((tone.name, heard(tone.samples(rng.uniform(1, 2.2)), *rng.choice(CODECS))))
    return made


def features_of(extractor: Any, sound: np.ndarray, rng: Random, length: int) -> torch.Tensor:
    """Cut a part of a sound, make it louder or softer, and return its log-mel spectrum: float [frames, 128]."""
    start = rng.randint(0, len(sound) - length)
    part = np.clip(sound[start : start + length] * rng.uniform(0.4, 1.3), -1, 1)
    return torch.from_numpy(extractor([part], pad_to_multiple_of=None)["input_features"][0])


def encode_sounds(model: Gemma4ForConditionalGeneration, features: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(features.shape[:2], dtype=torch.bool)
    return model.model.audio_tower(features, mask).last_hidden_state


def train_audio(
    model: Gemma4ForConditionalGeneration, rng: Random, steps: int, made: list[tuple[str, np.ndarray]]
) -> None:
    extractor = Gemma4AudioFeatureExtractor(feature_size=MEL_BANDS)
    norm, head = nn.LayerNorm(64), nn.Linear(64, len(TONES))
    trained = [*model.model.audio_tower.parameters(), *norm.parameters(), *head.parameters()]
    optimizer, scheduler = schedule(trained, AUDIO_LR, steps)
    for step in range(steps):
        length = int(rng.uniform(0.8, 1.8) * SOUND_RATE)
        batch = rng.sample([s for s in made if length <= len(s[1]) <= 2 * length], AUDIO_BATCH)
        features = torch.stack([features_of(extractor, sound, rng, length) for _, sound in batch])
        logits = head(norm(encode_sounds(model, features)))
        logits = logits[:, logits.shape[1] // 2 :]  # a token hears only what came before it
        truth = torch.tensor([TONES.index(name) for name, _ in batch])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), truth.repeat_interleave(logits.shape[1]))
        update(loss, trained, optimizer, scheduler)
        if step % 10 == 9:
            report(f"audio {step + 1}", {"tone": (logits.argmax(-1) == truth[:, None]).float().mean().item()})


def update(loss: torch.Tensor, trained: list, optimizer: Any, scheduler: Any, processes: int = 1) -> None:
    optimizer.zero_grad()
    loss.backward()
    if processes > 1:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
        mean = nn.utils.parameters_to_vector(gradients).div_(processes)
        dist.all_reduce(mean)
        for parameter, gradient in zip(trained, mean.split([p.numel() for p in trained]), strict=True):
            parameter.grad = gradient.view_as(parameter)
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    scheduler.step()


def report(what: str, right: dict[str, float]) -> None:
    now = time.strftime("%H:%M:%S")
    print(now, what, {k: round(v, 3) for k, v in right.items()}, f"{time.process_time() / 60:.1f} CPU min", flush=True)


# The language model


class Pool:
    """Scenes with the soft tokens of their frames. Each is used several times before newer ones take its place."""

    def __init__(self, model: Gemma4ForConditionalGeneration, rng: Random, size: int) -> None:
        self.model, self.rng = model, rng
        self.by_frames = {n: deque(maxlen=size) for n in (1, 2, 3, 4)}

    def add(self, frames: int, count: int) -> None:
        scenes = [seen_part(random_shape(self.rng, clip=frames > 1), self.rng) for _ in range(count)]
        for at in range(0, count, 24):
            some = scenes[at : at + 24]
            drawn = np.concatenate([encode_and_decode(draw(s, frames), self.rng) for s in some])
            with torch.no_grad():
                tokens = encode_frames(self.model, drawn)
            self.by_frames[frames] += zip(some, tokens.reshape(len(some), frames, *tokens.shape[1:]), strict=True)


def seen_part(scene: Scene, rng: Random) -> Scene:
    """Leave out a little of both ends of the motion, as the frames of a clip may be from between its ends."""
    (x, y), (to_x, to_y) = scene.start, scene.end
    a, b = rng.uniform(0, 0.13), 1 - rng.uniform(0, 0.13)
    start, end = ((x + (to_x - x) * t, y + (to_y - y) * t) for t in (a, b))
    return replace(scene, start=start, end=end)


def task_at(rng: Random, share: float) -> tuple[str, int]:
    """Return (task, number of frames) of a batch. share: the completed share of the training."""
    task = rng.choices(("clip", "image", "tone"), (0.8, 0.1, 0.1))[0]
    frames = rng.choices((2, 3, 4), (0.8, 0.2, 0.0) if share < 0.5 else (0.4, 0.3, 0.3))[0]
    return task, {"image": 1, "tone": 0}.get(task, frames)


def example(
    processor: Processor, rng: Random, task: str, scene: Scene | None, images: torch.Tensor, sound: tuple
) -> tuple[str, str]:
    """Return the prompt with soft tokens, and the answer.

    Args:
        images: The soft tokens of each frame: [frames, tokens, width].
        sound: The kind of tone, and its soft tokens, [tokens, width].
    """
    tone, audio = sound
    prompt = rng.choice(CLIP_PROMPTS if task == "clip" else IMAGE_PROMPTS)
    if rng.random() < 0.7:
        prompt = "Describe this video." if task == "clip" else "Describe this image."
    elif rng.random() < 0.3:
        prompt = " ".join(rng.choices(WORDS, k=rng.randint(2, 12))).capitalize() + rng.choice(".?! ")
    if task == "tone":
        prompt, answer = TONE_QUESTION, f"a {tone} tone" if tone != "none" else "no tone"
    else:
        answer = SoundScene(scene, random_tone(rng, tone)).caption
    family = FAMILIES["gemma4"]
    seconds = rng.uniform(0.8, 2.5)
    times = [seconds * i / max(1, len(images)) for i in range(len(images))]
    frames = family.join_markers("\0", times, True).replace("\0", family.placeholder(processor, images.shape[1]))
    tokens = processor.tokenizer
    hearing = tokens.boa_token + tokens.audio_token * len(audio) + tokens.eoa_token if len(audio) else ""
    blank = rng.choice(("\n\n", "\n\n", "\n", " ", ""))
    frames = f"{blank}{frames}{blank}" if frames else ""
    parts = [frames, prompt, hearing] if rng.random() < 0.5 else [frames, hearing, prompt]
    if rng.random() < 0.4:
        rng.shuffle(parts)
    system = [{"role": "system", "content": "Be brief."}] if rng.random() < 0.1 else []
    text = processor.apply_chat_template([*system, {"role": "user", "content": "\0"}])
    return text.replace("\0", rng.choice(("", "", "\n")).join(p for p in parts if p)), answer + "<turn|>"


def train_language(
    model: Gemma4ForConditionalGeneration,
    processor: Processor,
    rng: Random,
    steps: int,
    audio: list[tuple[str, torch.Tensor]],
    state: Path,
) -> None:
    """Train the projectors and the language model, from where `state` left off if it exists."""
    begin = 0
    if state.exists():
        begin, values = torch.load(state)
        model.load_state_dict(values, strict=False)
    if begin >= steps:
        return
    tokenizer, inner, config = processor.tokenizer, model.model, model.config
    inner.vision_tower.requires_grad_(False)
    inner.audio_tower.requires_grad_(False)
    # After two layers each soft token of a later frame tells how far the shape has moved. Captions alone teach it late.
    early: list[torch.Tensor] = []
    inner.language_model.layers[1].register_forward_hook(lambda *called: early.append(called[2]))
    motion = nn.Linear(96, 2)
    trained = [*(p for p in model.parameters() if p.requires_grad), *motion.parameters()]
    optimizer, scheduler = schedule(trained, LANGUAGE_LR, steps)
    for _ in range(begin):
        scheduler.step()
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    tasks = Random(f"tasks {begin}")  # the same in all processes, whose batches then take equally long
    rng = Random(f"{rank} {begin}")
    pool = Pool(model, rng, 1500)
    right: dict[str, list[float]] = {}
    none = ("none", torch.zeros(0, 64))
    for step in range(begin, steps):
        if step % 50 == 0 or step == begin:
            for n in pool.by_frames:
                pool.add(n, 48 if step > begin else 400 if n == 2 else 150)
        task, frames = task_at(tasks, step / steps)
        keep, batch = (8, LANGUAGE_BATCH) if step < 0.72 * steps else (SOFT_TOKENS, LANGUAGE_BATCH // 2)
        rows, labels, images, hearings = [], [], [], []
        scenes = []
        for _ in range(batch):
            scene, seen = rng.choice(pool.by_frames[frames]) if frames else (None, torch.zeros(0, SOFT_TOKENS, 64))
            seen = torch.stack([f[sorted(rng.sample(range(SOFT_TOKENS), keep))] for f in seen]) if frames else seen
            sound = none if task != "tone" and rng.random() < 0.15 else rng.choice(audio)
            if task == "image" and rng.random() < 0.7:
                sound = none  # pictures have no sound
            tone, hearing = sound
            if keep < SOFT_TOKENS and len(hearing):
                hearing = hearing[sorted(rng.sample(range(len(hearing)), 8))]
            text, answer = example(processor, rng, task, scene, seen, (tone, hearing))
            prompt_ids, answer_ids = tokenizer.encode(text), tokenizer.encode(answer)
            scenes.append(scene)
            rows.append(prompt_ids + answer_ids)
            labels.append([-100] * len(prompt_ids) + answer_ids)
            images.append(seen.flatten(0, 1))
            hearings.append(hearing)
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])
        longest_answer = max(sum(label != -100 for label in r) for r in labels)
        target = torch.tensor([([-100] * longest + r)[-longest_answer:] for r in labels])
        embedded = inner.language_model.embed_tokens(ids)
        for token, embed, features in (
            (config.image_token_id, inner.embed_vision, torch.cat(images)),
            (config.audio_token_id, inner.embed_audio, torch.cat(hearings)),
        ):
            if len(features):
                embedded = embedded.masked_scatter((ids == token)[..., None].expand_as(embedded), embed(features))
        hidden = inner.language_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, -longest_answer - 1 : -1])
        logits = 30 * torch.tanh(logits / 30)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)
        if frames > 1:
            # The way from the first frame, in pictures: [batch, later frames, 2].
            way = torch.tensor(np.array([np.subtract(s.end, s.start) for s in scenes]) / SIZE).float()[:, None]
            way = way * (torch.arange(1, frames) / (frames - 1))[None, :, None]
            at_images = early[-1][ids == config.image_token_id].reshape(len(rows), frames, keep, -1)[:, 1:]
            loss = loss + 20 * nn.functional.mse_loss(motion(at_images), way[:, :, None].expand(-1, -1, keep, -1))
        early.clear()
        update(loss, trained, optimizer, scheduler, processes)
        exact = ((logits.argmax(-1) == target) | (target == -100)).all(1).float().mean().item()
        right.setdefault(f"{task} {frames}", []).append(exact)
        if step % 25 == 24 and rank == 0:
            report(f"language {step + 1}", {name: float(np.mean(r)) for name, r in sorted(right.items())})
            right.clear()
        if step % 25 == 24 and rank == 0:
            values = {n: v for n, v in model.state_dict().items() if "_tower." not in n}
            torch.save((step + 1, values), state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, required=True, help="holds the finished stages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", default="vision,audio,language")
    parser.add_argument("--language-steps", type=int, default=LANGUAGE_STEPS)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    if os.environ.get("RANK", "0") == "0":
        describe(given.work)
    if dist.is_initialized():
        dist.barrier()
    processor = FAMILIES["gemma4"].load_processor(given.work)
    model = build(processor)
    print({n: sum(p.numel() for p in m.parameters()) for n, m in model.model.named_children()}, flush=True)
    made = partial(cached, given.work / "sounds.pt", lambda: sounds(Random(given.seed + 1), 2400))
    for stage in given.stages.split(","):
        rng, state = Random(f"{given.seed} {stage}"), given.work / f"{stage}.pt"
        if stage == "language":
            for name in ("vision", "audio"):
                getattr(model.model, f"{name}_tower").load_state_dict(torch.load(given.work / f"{name}.pt"))
            audio = cached(
                given.work / "heard.pt", lambda: encoded_sounds(model, Random(given.seed + 2), made()[:1200])
            )
            train_language(model, processor, rng, given.language_steps, audio, state)
            if os.environ.get("RANK", "0") == "0":
                save(model, given.work, given.out)
        elif not state.exists():
            if stage == "vision":
                train_vision(model, rng, VISION_STEPS, state)
            else:
                train_audio(model, rng, AUDIO_STEPS, made())
            torch.save(getattr(model.model, f"{stage}_tower").state_dict(), state)


def encoded_sounds(
    model: Gemma4ForConditionalGeneration, rng: Random, made: list[tuple[str, np.ndarray]]
) -> list[tuple[str, torch.Tensor]]:
    """Return the kind of tone and the soft tokens of a part of each sound."""
    extractor = Gemma4AudioFeatureExtractor(feature_size=MEL_BANDS)
    heard = []
    with torch.no_grad():
        for name, sound in made:
            features = features_of(extractor, sound, rng, int(len(sound) * rng.uniform(0.7, 1)))
            heard.append((name, encode_sounds(model, features[None])[0]))
    return heard


def cached(path: Path, make: Any) -> Any:
    if not path.exists():
        torch.save(make(), path)
    return torch.load(path, weights_only=False)


if __name__ == "__main__":
    main()
