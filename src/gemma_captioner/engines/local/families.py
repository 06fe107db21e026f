"""The differences between model families, in one table. No other module of the engine checks a family's name.

Gemma 3 reads square images of 256 tokens each. Gemma 4 keeps an image's aspect ratio within a token budget and requires
a timestamp before each frame of a clip. Its thinking mode is turned off. Gemma 4 has two model types: `gemma4` has a
vision tower; `gemma4_unified` (12B) has none and projects the pixels of each token's square directly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.settings import Settings
from ...errors import UsageError
from ...text import format_timestamp
from ...types import Kind, PatchBudget, Size
from .. import gemma4
from .config import ModelConfig, count_gemma4_parameters
from .processor import Processor, load_processor

if TYPE_CHECKING:  # a dry run needs a family's sizes and texts, but not torch
    import torch


@dataclass(frozen=True, slots=True)
class AudioFamily:
    """How a family takes sound.

    Attributes:
        extractor: transformers' feature extractor: its module and its class.
        soft_tokens: Maps a number of samples to the number of soft tokens.
    """

    extractor: tuple[str, str]
    soft_tokens: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Family:
    """The functions that differ between model families.

    Attributes:
        load_processor: Loads the tokenizer, the image processor and the chat template from a checkpoint's folder.
        frame_size: Returns the frame size for images or clips.
        marker: Returns the text that stands for one frame before tokenization.
        placeholder: Returns the text that replaces a marker, given the processor and the number of soft tokens.
        soft_tokens: Returns the number of soft tokens of a frame, given the processor, its height and its width.
        join_markers: Joins the markers of an item's frames, with timestamps if enabled.
        encode_images: Maps normalized float [n, 3, height, width] to one tensor [soft tokens, hidden] per frame.
        vision_inputs: Maps features and the mask of soft tokens in `input_ids` to arguments of the model's `forward`.
        template_options: Values for the chat template.
        modules: transformers' modules of the model's classes.
        count_parameters: Returns the numbers of linear and other weights, if memory.py has no formula for the family.
        audio: How it takes sound; None: no model of the family does. A model also requires an audio configuration.
    """

    load_processor: Callable[[Path], Processor]
    frame_size: Callable[[Processor, Settings, Kind], Size]
    marker: Callable[[Processor], str]
    placeholder: Callable[[Processor, int], str]
    soft_tokens: Callable[[Processor, int, int], int]
    join_markers: Callable[[str, Sequence[float], bool], str]
    encode_images: Callable[[Any, "torch.Tensor"], Sequence["torch.Tensor"]]
    vision_inputs: Callable[[Sequence["torch.Tensor"], "torch.Tensor"], dict[str, Any]]
    template_options: Mapping[str, Any]
    modules: Sequence[str]
    count_parameters: Callable[[ModelConfig], tuple[int, int]] | None = None
    audio: AudioFamily | None = None


# Gemma 3


def _gemma3_frame_size(processor: Processor, settings: Settings, kind: Kind) -> Size:
    if settings.model.image_tokens is not None:
        raise UsageError(
            "--image-tokens works with Gemma 4 only: remove it, because Gemma 3 always uses 256 tokens per image"
        )
    size = processor.images.size
    return size["width"], size["height"]


def _gemma3_join_markers(marker: str, times_s: Sequence[float], timestamps: bool) -> str:
    with_times = timestamps and len(times_s) > 1
    return "".join((f"[{format_timestamp(time)}]" if with_times else "") + marker for time in times_s)


def _gemma3_placeholder(processor: Processor, soft_tokens: int) -> str:
    return f"\n\n{_gemma4_placeholder(processor, soft_tokens)}\n\n"


def _gemma3_vision_inputs(features: Sequence["torch.Tensor"], image_mask: "torch.Tensor") -> dict[str, Any]:
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    encoded = BaseModelOutputWithPooling(pooler_output=torch.stack(list(features)))
    return {"token_type_ids": image_mask.long(), "mm_encoder_outputs": {"image": encoded}}


# Gemma 4


def _gemma4_frame_size(processor: Processor, settings: Settings, kind: Kind) -> Size:
    return PatchBudget(settings.model.image_tokens or gemma4.TOKENS[kind], _gemma4_unit(processor))


def _gemma4_unit(processor: Processor) -> int:
    """The side in pixels of the square that one token covers."""
    return int(processor.images.patch_size * processor.images.pooling_kernel_size)


def _gemma4_placeholder(processor: Processor, soft_tokens: int) -> str:
    tokenizer = processor.tokenizer
    return str(tokenizer.boi_token + tokenizer.image_token * soft_tokens + tokenizer.eoi_token)


def _gemma4_soft_tokens(processor: Processor, height: int, width: int) -> int:
    unit = _gemma4_unit(processor)
    return (height // unit) * (width // unit)


def _gemma4_join_markers(marker: str, times_s: Sequence[float], timestamps: bool) -> str:
    return " ".join(f"{format_timestamp(time)} {marker}" for time in times_s) if len(times_s) > 1 else marker


def _gemma4_encode_images(model: Any, values: "torch.Tensor") -> Sequence["torch.Tensor"]:
    """Cut frames into patches [n, patches, 3 * side * side], channels last, and embed them.

    In a unified model one patch covers all pixels of a token.
    """
    import torch

    vision = model.config.vision_config
    side = getattr(vision, "model_patch_size", vision.patch_size)
    n, _, height, width = values.shape
    rows, columns = height // side, width // side
    patches = values.reshape(n, 3, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, -1)
    y, x = torch.meshgrid(
        torch.arange(rows, device=values.device), torch.arange(columns, device=values.device), indexing="ij"
    )
    position_ids = torch.stack([x, y], dim=-1).reshape(1, rows * columns, 2).expand(n, -1, -1)
    return model.get_image_features(patches, image_position_ids=position_ids).pooler_output  # type: ignore[no-any-return]


def _gemma4_vision_inputs(features: Sequence["torch.Tensor"], image_mask: "torch.Tensor") -> dict[str, Any]:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    encoded = BaseModelOutputWithPooling(pooler_output=tuple(features))  # type: ignore[arg-type]  # Gemma 4 takes a tuple
    return {"mm_token_type_ids": image_mask.long(), "mm_encoder_outputs": {"image": encoded}}


def _gemma4_audio_tokens(samples: int) -> int:
    """Mel frames of 10 ms, of which the audio tower makes one token of four. # 32_000 -> 50      161 -> 1"""
    frames = max(0, -(-(samples - 160) // 160))
    return -(-frames // 4)


_GEMMA3_IMAGES = {
    "size": {"height": 224, "width": 224},
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
_GEMMA4_IMAGES = {"patch_size": 16, "pooling_kernel_size": 3, "rescale_factor": 1 / 255, "do_normalize": False}

_GEMMA4 = Family(
    # Only Gemma 4 reads tokenizer_config.json: some base models of Gemma 3 have a template there, but need none.
    load_processor=partial(
        load_processor, image_defaults=_GEMMA4_IMAGES, templates=("chat_template.jinja", "tokenizer_config.json")
    ),
    frame_size=_gemma4_frame_size,
    marker=lambda processor: str(processor.tokenizer.image_token),
    placeholder=_gemma4_placeholder,
    soft_tokens=_gemma4_soft_tokens,
    join_markers=_gemma4_join_markers,
    encode_images=_gemma4_encode_images,
    vision_inputs=_gemma4_vision_inputs,
    template_options={"enable_thinking": False},
    modules=("transformers.models.gemma4.modeling_gemma4",),
    count_parameters=count_gemma4_parameters,
    audio=AudioFamily(
        ("transformers.models.gemma4.feature_extraction_gemma4", "Gemma4AudioFeatureExtractor"), _gemma4_audio_tokens
    ),
)
_GEMMA4_UNIFIED = replace(
    _GEMMA4,
    modules=("transformers.models.gemma4_unified.modeling_gemma4_unified",),
    audio=AudioFamily(
        (
            "transformers.models.gemma4_unified.feature_extraction_gemma4_unified",
            "Gemma4UnifiedAudioFeatureExtractor",
        ),
        lambda samples: -(-samples // 640),
    ),
)

FAMILIES: Mapping[str, Family] = {
    "gemma3": Family(
        load_processor=partial(
            load_processor, image_defaults=_GEMMA3_IMAGES, templates=("chat_template.json", "chat_template.jinja")
        ),
        frame_size=_gemma3_frame_size,
        marker=lambda processor: str(processor.tokenizer.boi_token),
        placeholder=_gemma3_placeholder,
        soft_tokens=lambda processor, height, width: processor.tokens_per_image,
        join_markers=_gemma3_join_markers,
        encode_images=lambda model, values: list(model.get_image_features(values).pooler_output),
        vision_inputs=_gemma3_vision_inputs,
        template_options={},
        modules=("transformers.models.gemma3.modeling_gemma3", "transformers.models.siglip.modeling_siglip"),
    ),
    "gemma4": _GEMMA4,
    "gemma4_unified": _GEMMA4_UNIFIED,
}
