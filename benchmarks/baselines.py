"""The baselines of throughput.py, written as plain scripts: one file at a time, and in batches.

python benchmarks/baselines.py original FOLDER OUTPUT [--no-model]    # OpenCV seeks; `generate` answers one at a time
python benchmarks/baselines.py batched FOLDER OUTPUT --batch 8        # PyAV reads forward; `generate` answers a batch

Writes a .txt for each file into OUTPUT. Prints one JSON line with the keys of `gemma-captioner caption --json`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from gemma_captioner.config.prompting import CLIP_PROMPT, IMAGE_PROMPT
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT

FRAMES = 12
NEW_TOKENS = 256
SIZE = (896, 896)  # (width, height) of Gemma 3's input

Question = tuple[str, list[Image.Image]]  # a prompt and its frames


def stock_image_processor() -> Gemma3ImageProcessorPil:
    """Configured as in the published checkpoints."""
    halves = [0.5, 0.5, 0.5]
    return Gemma3ImageProcessorPil(size={"width": SIZE[0], "height": SIZE[1]}, image_mean=halves, image_std=halves)


def decode_by_seeking(path: Path) -> list[Image.Image]:
    """As the original script does."""
    if path.suffix == ".jpg":
        return [Image.open(path).convert("RGB")]
    capture = cv2.VideoCapture(str(path))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for i in range(FRAMES):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(i * total / FRAMES))
        is_read, frame = capture.read()
        if is_read:
            frames.append(Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    capture.release()
    return frames


def frames_forward(path: Path, **codec: Any) -> list[av.VideoFrame]:
    """Return the same frames. Decodes all frames before the last one once."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for name, value in codec.items():
            setattr(stream.codec_context, name, value)
        wanted = [int(i * stream.frames / FRAMES) for i in range(FRAMES)]
        decoded = zip(range(wanted[-1] + 1), container.decode(stream), strict=False)
        return [frame for number, frame in decoded if number in wanted]


def decode_forward(path: Path) -> list[Image.Image]:
    if path.suffix == ".jpg":
        return [Image.open(path).convert("RGB")]
    # Nothing else runs at the same time, so the decoder can use all cores.
    return [frame.to_image() for frame in frames_forward(path, thread_type="AUTO")]


def decode_and_resize(path: Path) -> None:
    """Decode and resize on one thread. Ignores exact frame times, color and rotation."""
    if path.suffix == ".jpg":
        with Image.open(path) as file:
            file.draft("RGB", SIZE)
            file.resize(SIZE, Image.Resampling.BILINEAR).tobytes()
        return
    reformatter = VideoReformatter()
    for frame in frames_forward(path, thread_count=1):
        reformatter.reformat(frame, *SIZE, format="rgb24", threads=1).to_ndarray()


def inputs_of(processor: Any, questions: Sequence[Question]) -> Any:
    """Return the inputs of `generate` for a batch. The text comes first, as in the original."""
    conversations = []
    for prompt, frames in questions:
        content = [{"type": "text", "text": prompt}, *({"type": "image", "image": frame} for frame in frames)]
        conversations.append([{"role": "user", "content": content}])
    return processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )


@torch.inference_mode()
def answers_of(model: Any, processor: Any, questions: Sequence[Question]) -> list[str]:
    inputs = inputs_of(processor, questions).to(model.device)
    tokens = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    return processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["original", "batched"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--no-model", action="store_true", help="run the stock processor at 896 x 896 without a model")
    args = parser.parse_args()

    since = time.perf_counter()
    if args.no_model:
        images = stock_image_processor()
    else:
        processor = AutoProcessor.from_pretrained(DEMO_CHECKPOINT, backend="pil")
        model = AutoModelForImageTextToText.from_pretrained(DEMO_CHECKPOINT).eval()
    loaded = time.perf_counter()
    read, batch = (decode_by_seeking, 1) if args.method == "original" else (decode_forward, args.batch)
    paths = sorted(path for path in args.folder.iterdir() if path.suffix in (".jpg", ".mp4"))
    for start in range(0, len(paths), batch):
        group = paths[start : start + batch]
        questions = [(CLIP_PROMPT if path.suffix == ".mp4" else IMAGE_PROMPT, read(path)) for path in group]
        if args.no_model:
            images([frames for _, frames in questions], return_tensors="pt")
            answers = ["No model was used."] * len(group)
        else:
            answers = answers_of(model, processor, questions)
        for path, answer in zip(group, answers, strict=True):
            (args.output / f"{path.stem}.txt").write_text(answer.strip(), encoding="utf-8")
    seconds = time.perf_counter() - since
    print(json.dumps({"captioned": len(paths), "failed": 0, "seconds": seconds, "load_seconds": loaded - since}))


if __name__ == "__main__":
    main()
