"""What trainers keep of a clip, so that its caption describes that part, and what text encoders read of a caption.

Read from their sources (snapshots of 2025-03 to 2026-08); trainers not named here see the whole clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import UsageError


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """max_tokens: of the text encoder, its own marks left out. encoder: whose tokens they are."""

    max_tokens: int
    encoder: str


# From the models' own pipelines and their trainers (snapshots of 2025-03 to 2026-08).
TOKEN_LIMITS: Mapping[str, TokenLimit] = {
    "wan": TokenLimit(512, "umT5"),
    "hunyuan": TokenLimit(256, "LLaMA"),
    "framepack": TokenLimit(256, "LLaMA"),
    "ltx": TokenLimit(256, "T5"),
    "ltx2": TokenLimit(1024, "Gemma"),
    "mochi": TokenLimit(256, "T5"),
    "flux": TokenLimit(512, "T5"),
    "flux-schnell": TokenLimit(256, "T5"),
    "sdxl": TokenLimit(75, "CLIP"),
    "sdxl-150": TokenLimit(150, "CLIP"),
    "sdxl-225": TokenLimit(225, "CLIP"),
    "sd": TokenLimit(75, "CLIP"),
}


@dataclass(frozen=True, slots=True)
class Trainer:
    """fps: model -> frames a second it resamples clips to, of which it keeps the first N; empty: it keeps all.

    one_caption_per_line: whether it reads each line of a `.txt` as a caption of its own, and takes one or all of them.
    """

    fps: Mapping[str, float] = field(default_factory=dict)
    one_caption_per_line: bool = False


TRAINERS: dict[str, Trainer] = {
    "musubi": Trainer({"hunyuan": 24, "wan": 16, "framepack": 30}),
    "diffusion-pipe": Trainer({"hunyuan": 24, "wan": 16, "ltx": 25}),
    "ltx": Trainer({"": 25}),
    "mochi": Trainer({"": 30}),
    "ai-toolkit": Trainer(),
    "simpletuner": Trainer(one_caption_per_line=True),
    "finetrainers": Trainer(),
    "onetrainer": Trainer(one_caption_per_line=True),
    "sd-scripts": Trainer(),
    "huggingface": Trainer(),
}


def get_trainer(target: str) -> Trainer:
    """Of `TRAINER[:MODEL]`. Raises `UsageError` where either is not known."""
    name, _, model = target.partition(":")
    if name not in TRAINERS:
        raise UsageError(f"--for {target}: unknown trainer. Available: {', '.join(TRAINERS)}")
    if model and not {name, model} & TOKEN_LIMITS.keys():  # LTX and Mochi are read by one encoder, whatever is trained
        raise UsageError(
            f"--for {target}: unknown model. Available: {', '.join(TOKEN_LIMITS)}. For another one, give --for {name}"
        )
    return TRAINERS[name]


def span_for(target: str, train_frames: int | None) -> str:
    """The span that `TRAINER[:MODEL]` keeps when it trains on so many frames.

    # musubi:wan, 81 -> head:5.0625 (81 frames at 16 a second)      sd-scripts:sdxl, 81 -> whole
    """
    name, _, model = target.partition(":")
    fps = get_trainer(target).fps
    if not fps or train_frames is None:
        return "whole"
    if model not in fps:
        if "" not in fps:
            raise UsageError(
                f"--for {target} with --train-frames requires a model: give {', '.join(f'{name}:{m}' for m in fps)}"
            )
        model = ""
    return f"head:{train_frames / fps[model]:.6g}"


def target_for(target: str) -> str | None:
    """The model whose text encoder reads the captions, of `TRAINER[:MODEL]`; None where that is not said.

    # musubi:wan -> wan      ltx -> ltx      sd-scripts -> None
    """
    name, _, model = target.partition(":")
    return next((known for known in (model, name) if known in TOKEN_LIMITS), None)
