"""Trains the demo checkpoint: a Gemma 3 with about a million parameters that captions drawn shapes.

    python -m tools.train_demo_model            # about half an hour on 2 cores, seeded
    torchrun --nproc-per-node 2 -m tools.train_demo_model --out DIR --start-from CHECKPOINT

There are two stages, because captions alone teach neither shapes nor motion (docs/decisions.md):
1. The vision tower learns shape, colors and position, with temporary linear heads on its pooled 4 x 4 grid.
2. The projector and the language model learn on the frozen features: captions in every prompt form that the engine
   sends, and questions about positions. Short clips come first.
"""

import argparse
import io
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    GemmaTokenizer,
    GenerationConfig,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from gemma_captioner.config.prompting import Order
from gemma_captioner.demo.drawing import COLORS, SHAPES, SIZE, draw, random_scene
from gemma_captioner.engines.local.prompting import render_prompt
from tools.demo_tokenizer import save_for_sentencepiece, train_tokenizer

OUT = Path(__file__).parents[1] / "src/gemma_captioner/demo/checkpoint"
GRID = 4  # soft tokens per side
VISION_STEPS, VISION_BATCH, VISION_LR = 4000, 128, 2e-3
LANGUAGE_STEPS, LANGUAGE_BATCH, LANGUAGE_LR = 2000, 32, 1.5e-3
WARM_STEPS, WARM_BATCH, WARM_LR, WARM_BEGIN = 900, 24, 8e-4, 0.35

IMAGE_PROMPTS = [
    "Provide a short, single-line description of this image for training data.",
    "Describe this image.",
    "Describe the image in one sentence.",
    "What is in this picture?",
    "Write a caption for this image.",
    "Provide a caption.",
    "Caption this.",
    "Describe the shape, its colour and the background.",
    "Provide a detailed description of the picture.",
    "A short caption, please.",
]
CLIP_PROMPTS = [
    "Provide a detailed, thorough caption of movement you see in the video. Only describe movement as this "
    "will be very important during the training process.",
    "Describe this video.",
    "Describe the movement in the clip.",
    "What happens in this clip?",
    "Write a caption for this video.",
    "How does the shape move?",
    "Only describe the motion you see.",
    "Describe the video in one sentence.",
]
WORDS = (
    "a the this that of in on with and for to please describe write give tell me say what is are do you see "
    "caption text sentence training data model image picture photo video clip frame frames camera scene "
    "style short long detailed simple precise single line words only never always first then colour colors "
    "shape shapes background object subject motion movement moves person character light look like very "
    "one two three some all every no not use avoid mention about from at by as it its how where who"
).split()
POSITION_QUESTION = "Where is the shape?"
MOTION_QUESTION = "Where does the shape go?"
POSITIONS = [f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right")]
# The loop that vLLM recognizes: over a slice of `messages` that has a name of its own, and over the parts of each.
TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
{%- set content = messages[0]['content'] -%}
{%- set system = (content if content is string else content[0]['text']) + '\\n\\n' -%}
{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = '' -%}
{%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif -%}
{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{%- if loop.first -%}{{ system }}{%- endif -%}
{%- if message['content'] is string -%}{{ message['content'] | trim }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{ '<start_of_image>' }}
{%- elif part['type'] == 'text' -%}{{ part['text'] | trim }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""


def tokenizer_texts() -> list[str]:
    """Return what the tokenizer learns its pieces from: captions and prompts."""
    rng = Random(0)
    captions = [random_scene(rng, clip=i % 2 == 0).caption for i in range(2000)]
    instructions = [*IMAGE_PROMPTS, *CLIP_PROMPTS, *POSITIONS, POSITION_QUESTION, MOTION_QUESTION]
    instructions += ["From to", "Caption:", "user", "model"]
    prompts = [" ".join(rng.choices(WORDS, k=12)) for _ in range(2000)]
    return captions + prompts + instructions * 50


def build(tokenizer: GemmaTokenizer) -> tuple[Gemma3ForConditionalGeneration, Gemma3Processor]:
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": SIZE, "width": SIZE}),
        tokenizer=tokenizer,
        image_seq_length=GRID * GRID,
        chat_template=TEMPLATE,
    )
    ids = tokenizer.convert_tokens_to_ids
    end_of_turn = ids("<end_of_turn>")
    config = Gemma3Config(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 256,  # five sliding layers, then a global one: the pattern that llama.cpp assumes
            "max_position_embeddings": 8192,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": 8,
            "vision_use_head": False,
        },
        mm_tokens_per_image=GRID * GRID,
        boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"),
        image_token_index=ids("<image_soft_token>"),
        eos_token_id=[tokenizer.eos_token_id, end_of_turn],
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        dtype="float32",
    )
    model = Gemma3ForConditionalGeneration(config)
    nn.init.orthogonal_(model.model.multi_modal_projector.mm_input_projection_weight)
    model.generation_config = GenerationConfig(
        eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id, bos_token_id=config.bos_token_id
    )
    return model, processor


def warm_start(model: Gemma3ForConditionalGeneration, processor: Gemma3Processor, checkpoint: Path) -> None:
    """Copy an earlier checkpoint's vision tower, projector, layers and embeddings.

    The last layer stays the last. Layers that are new begin almost without effect, so that training begins from what
    the earlier checkpoint can do.
    """
    known = Gemma3ForConditionalGeneration.from_pretrained(checkpoint)
    model.model.vision_tower.load_state_dict(known.model.vision_tower.state_dict())
    model.model.multi_modal_projector.load_state_dict(known.model.multi_modal_projector.state_dict())
    language, old = model.model.language_model, known.model.language_model
    language.norm.load_state_dict(old.norm.state_dict())
    tokenizer = GemmaTokenizer.from_pretrained(checkpoint)
    with torch.no_grad():
        for piece, id_ in processor.tokenizer.get_vocab().items():
            parts = tokenizer(piece.replace("▁", " "), add_special_tokens=False)["input_ids"]
            language.embed_tokens.weight[id_] = old.embed_tokens.weight[parts].mean(0)
        for i, layer in enumerate(language.layers[:-1]):
            if i < len(old.layers) - 1:
                layer.load_state_dict(old.layers[i].state_dict())
            else:
                layer.post_attention_layernorm.weight.fill_(-0.9)  # the norm multiplies by 1 + weight
                layer.post_feedforward_layernorm.weight.fill_(-0.9)
        language.layers[-1].load_state_dict(old.layers[-1].state_dict())


def save(model: Gemma3ForConditionalGeneration, processor: Gemma3Processor, folder: Path) -> None:
    """Save with the tensor names of Google's checkpoints, which transformers 5 reads but does not write."""
    processor.chat_template = TEMPLATE
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_for_sentencepiece(processor.tokenizer, folder)
    path = folder / "model.safetensors"
    tensors = {
        re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def encode_and_decode(frames: np.ndarray, rng: Random) -> np.ndarray:
    """Encode half of the drawings as JPEG, because real media are compressed."""
    if rng.random() < 0.5:
        return frames
    quality, decoded = rng.randint(50, 95), []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return np.stack(decoded)


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """Map uint8 [n, 64, 64, 3] to float32 [n, 3, 64, 64] in -1..1, as the image processor does."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def schedule(parameters, lr: float, steps: int):
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)


def pooled_grid(model: Gemma3ForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """Return the input of the projector's weight: float [n, 16, 96]."""
    hidden = model.model.vision_tower(pixel_values=pixels).last_hidden_state
    side = SIZE // 8
    grid = hidden.transpose(1, 2).reshape(len(pixels), -1, side, side)
    return model.model.multi_modal_projector.avg_pool(grid).flatten(2).transpose(1, 2)


def train_vision(model: Gemma3ForConditionalGeneration, rng: Random, steps: int) -> None:
    """Train with heads that all 16 soft tokens share, so that each token encodes what is where in the frame.

    Heads on the whole grid also learn shapes. But then only the index of a token encodes the position, and the language
    model does not learn to read it.
    """
    shapes, colors = sorted(SHAPES), sorted(COLORS)
    width = model.config.vision_config.hidden_size
    sizes = {"shape": len(shapes), "color": len(colors), "background": len(colors), "place": len(POSITIONS), "xy": 2}
    norm = nn.LayerNorm(width)
    heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
    trained = [*model.model.vision_tower.parameters(), *norm.parameters(), *heads.parameters()]
    optimizer, scheduler = schedule(trained, VISION_LR, steps)
    model.train()
    for step in range(steps):
        scenes = [random_scene(rng, clip=False) for _ in range(VISION_BATCH)]
        frames = np.concatenate([encode_and_decode(draw(s), rng) for s in scenes])
        features = norm(pooled_grid(model, to_pixels(frames)))
        target = {
            "shape": torch.tensor([shapes.index(s.shape) for s in scenes]),
            "color": torch.tensor([colors.index(s.color) for s in scenes]),
            "background": torch.tensor([colors.index(s.background) for s in scenes]),
            "place": torch.tensor([POSITIONS.index(cell_name(s.start)) for s in scenes]),
        }
        predicted = {name: heads[name](features) for name in sizes}  # [batch, 16, size]
        xy = torch.tensor([s.start for s in scenes])[:, None] / SIZE
        loss = 10 * nn.functional.mse_loss(predicted["xy"], xy.expand(-1, GRID * GRID, -1))
        for name, truth in target.items():
            loss = loss + nn.functional.cross_entropy(
                predicted[name].flatten(0, 1), truth.repeat_interleave(GRID * GRID)
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
        if step % 100 == 99:
            right = {
                name: (predicted[name].argmax(-1) == truth[:, None]).float().mean() for name, truth in target.items()
            }
            print(f"vision {step + 1:5d}  right { ({k: round(v.item(), 3) for k, v in right.items()}) }", flush=True)


def cell_name(point: tuple[float, float]) -> str:
    x, y = point
    return POSITIONS[min(2, int(y / SIZE * 3)) * 3 + min(2, int(x / SIZE * 3))]


def task_at(rng: Random, share: float) -> tuple[str, int]:
    """Return (task, number of frames) of one batch. share: the completed share of the training.

    The model learns motion from positions: questions about positions come first, and clips become longer.
    """
    weights = {"image": 0.2, "clip": 0.8}
    if share < 0.35:
        weights = {"place": 0.3, "journey": 0.25, "image": 0.15, "clip": 0.3}
    elif share < 0.6:
        weights["journey"] = 0.15
    task = rng.choices(list(weights), weights.values())[0]
    longest = 3 if share < 0.3 else 6 if share < 0.5 else 16
    return task, rng.randint(2, longest) if task in ("journey", "clip") else 1


def examples(
    processor: Gemma3Processor, rng: Random, task: str, num_frames: int, batch: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (prompt text with image placeholders, answer text, frames) for each item of a batch."""
    bare = processor.full_image_sequence.strip()
    for _ in range(batch if num_frames > 1 else 2 * batch):
        scene = random_scene(rng, clip=num_frames > 1)
        frames = encode_and_decode(draw(scene, num_frames), rng)
        prompt = rng.choice(CLIP_PROMPTS if task == "clip" else IMAGE_PROMPTS)
        if rng.random() < 0.3:
            prompt = " ".join(rng.choices(WORDS, k=rng.randint(2, 25))).capitalize() + rng.choice(".?! ")
        answer = scene.caption
        if task == "place":
            prompt, answer = POSITION_QUESTION, cell_name(scene.start)
        elif task == "journey":
            prompt, answer = MOTION_QUESTION, f"From {cell_name(scene.start)} to {cell_name(scene.end)}."
        chat = rng.random() < 0.85
        processor.chat_template = TEMPLATE if chat else None
        order: Order = "media-first" if rng.random() < 0.5 else "text-first"
        turn = (prompt, [processor.boi_token * num_frames], None)
        text = render_prompt(processor, [turn], marker=processor.boi_token, order=order)
        # llama.cpp puts no newlines around images.
        text = text.replace(processor.boi_token, processor.full_image_sequence if rng.random() < 0.6 else bare)
        yield text, answer + "<end_of_turn>" if chat else f" {answer}\n", frames


def train_language(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    rng: Random,
    steps: int,
    *,
    batch: int,
    lr: float,
    begin: float,
    out: Path,
) -> None:
    """Train the projector and the language model. begin: the share of the curriculum to leave out."""
    tokenizer = processor.tokenizer
    tasks = Random(rng.random())  # the same in all processes, whose batches then take equally long
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    rng = Random(rng.random() + rank)
    batch //= processes
    model.model.vision_tower.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, scheduler = schedule(trained, lr, steps)
    image_id = model.config.image_token_index
    started = time.monotonic()
    accuracies: dict[str, list[float]] = {}
    for step in range(steps):
        rows, labels, frames = [], [], []
        task, num_frames = task_at(tasks, begin + (1 - begin) * step / steps)
        for text, answer, drawn in examples(processor, rng, task, num_frames, batch):
            prompt_ids = tokenizer(text, add_special_tokens=not text.startswith("<bos>"))["input_ids"]
            answer_ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
            rows.append(prompt_ids + answer_ids)
            labels.append([-100] * len(prompt_ids) + answer_ids)
            frames.append(drawn)
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])
        longest_answer = max(sum(label != -100 for label in r) for r in labels)
        target = torch.tensor([([-100] * longest + r)[-longest_answer:] for r in labels])
        with torch.no_grad():
            seen = model.model.vision_tower(pixel_values=to_pixels(np.concatenate(frames)))
        features = model.model.multi_modal_projector(seen.last_hidden_state)
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            token_type_ids=(ids == image_id).long(),
            mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=features)},
            use_cache=False,
            logits_to_keep=longest_answer + 1,
        ).logits[:, :-1]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        if processes > 1:
            gradients = [p.grad for p in trained]
            mean = nn.utils.parameters_to_vector(gradients).div_(processes)
            dist.all_reduce(mean)
            nn.utils.vector_to_parameters(mean, gradients)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
        right = ((logits.argmax(-1) == target) | (target == -100)).all(1).float().mean().item()
        accuracies.setdefault(task, []).append(right)
        if step % 25 == 24 and rank == 0:
            minutes = (time.monotonic() - started) / 60
            shares = {name: round(float(np.mean(right)), 3) for name, right in sorted(accuracies.items())}
            print(f"language {step + 1:5d}  all right {shares}  {minutes:.1f} min", flush=True)
            accuracies.clear()
        if step % 100 == 99 and rank == 0:
            save(model, processor, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", type=Path, help="begin with an earlier checkpoint; its vision tower stays")
    parser.add_argument("--vision-steps", type=int, default=VISION_STEPS)
    parser.add_argument("--language-steps", type=int)
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        if not arguments.start_from:
            parser.error("torchrun trains only from a checkpoint: give --start-from")
        dist.init_process_group("gloo")
    torch.manual_seed(arguments.seed)
    rng = Random(arguments.seed)
    model, processor = build(train_tokenizer(tokenizer_texts()))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    started = time.monotonic()
    if arguments.start_from:
        warm_start(model, processor, arguments.start_from)
        steps, batch, lr, begin = WARM_STEPS, WARM_BATCH, WARM_LR, WARM_BEGIN
    else:
        train_vision(model, rng, arguments.vision_steps)
        steps, batch, lr, begin = LANGUAGE_STEPS, LANGUAGE_BATCH, LANGUAGE_LR, 0.0
    steps = arguments.language_steps or steps
    train_language(model, processor, rng, steps, batch=batch, lr=lr, begin=begin, out=arguments.out)
    model.eval()
    if os.environ.get("RANK", "0") == "0":
        save(model, processor, arguments.out)
    print(f"saved {arguments.out} after {(time.monotonic() - started) / 60:.1f} min")


if __name__ == "__main__":
    main()
