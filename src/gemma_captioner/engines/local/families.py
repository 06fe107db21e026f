"""What tells model families apart, in one table; nothing else in the engine asks for a family's name.

Gemma 3 takes squares, 256 tokens each. Gemma 4 keeps an image's shape within a budget of tokens, wants each frame of a
clip with its time before it, and can think aloud, which is turned off. Of its two model types, `gemma4` has a vision
tower, and `gemma4_unified` (12B) projects the pixels of each token's square without one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from ...config.settings import Settings
from ...errors import UsageError
from ...text import format_timestamp
from ...types import Kind, PatchBudget, Size
from .. import gemma4


@dataclass(frozen=True, slots=True)
class Family:
    """processor: a checkpoint's folder -> tokenizer, image processor and chat template.

    size: of the frames of a kind. marker: the text that stands for one frame before it is tokenized.
    placeholder: (processor, soft tokens) -> the text that it becomes. soft_tokens: of a frame of (height, width).
    media: markers of a clip's or an image's frames with their times, where those are told.
    features: normalized float [n, 3, height, width] -> one tensor [soft tokens, hidden] for each frame.
    vision_inputs: (features, where input_ids are soft tokens) -> what the model's forward takes besides.
    parameters: a configuration -> linear and other weights, where memory.py has no formula for them.
    """

    processor: Callable[[Path], Any]
    size: Callable[[Any, Settings, Kind], Size]
    marker: Callable[[Any], str]
    placeholder: Callable[[Any, int], str]
    soft_tokens: Callable[[Any, int, int], int]
    media: Callable[[str, Sequence[float], bool], str]
    features: Callable[[Any, torch.Tensor], Sequence[torch.Tensor]]
    vision_inputs: Callable[[Sequence[torch.Tensor], torch.Tensor], dict[str, Any]]
    template_options: Mapping[str, Any]
    parameters: Callable[[Any], tuple[int, int]] | None = None


# Gemma 3


def _gemma3_size(processor: Any, settings: Settings, kind: Kind) -> Size:
    if settings.model.image_tokens is not None:
        raise UsageError("--image-tokens is for Gemma 4: Gemma 3 takes 256 tokens for every image")
    size = processor.image_processor.size
    return size["width"], size["height"]


def _gemma3_media(marker: str, times_s: Sequence[float], timestamps: bool) -> str:
    with_times = timestamps and len(times_s) > 1
    return "".join((f"[{format_timestamp(time)}]" if with_times else "") + marker for time in times_s)


def _gemma3_vision_inputs(features: Sequence[torch.Tensor], image_mask: torch.Tensor) -> dict[str, Any]:
    encoded = BaseModelOutputWithPooling(pooler_output=torch.stack(list(features)))
    return {"token_type_ids": image_mask.long(), "mm_encoder_outputs": {"image": encoded}}


# Gemma 4


def _gemma4_processor(folder: Path) -> Any:
    """Its own processor class asks for torchvision, for the sake of videos that we never hand it.

    The unified model's image processor does so, too; what is read of it, the other's has under the same names.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return SimpleNamespace(
        tokenizer=tokenizer,
        image_processor=Gemma4ImageProcessorPil.from_pretrained(folder, local_files_only=True),
        chat_template=tokenizer.chat_template,
        apply_chat_template=tokenizer.apply_chat_template,
        boi_token=tokenizer.boi_token,
    )


def _gemma4_size(processor: Any, settings: Settings, kind: Kind) -> Size:
    images = processor.image_processor
    return PatchBudget(
        settings.model.image_tokens or gemma4.TOKENS[kind], images.patch_size * images.pooling_kernel_size
    )


def _gemma4_placeholder(processor: Any, soft_tokens: int) -> str:
    tokenizer = processor.tokenizer
    return str(tokenizer.boi_token + tokenizer.image_token * soft_tokens + tokenizer.eoi_token)


def _gemma4_soft_tokens(processor: Any, height: int, width: int) -> int:
    unit = processor.image_processor.patch_size * processor.image_processor.pooling_kernel_size
    return int((height // unit) * (width // unit))


def _gemma4_media(marker: str, times_s: Sequence[float], timestamps: bool) -> str:
    return " ".join(f"{format_timestamp(time)} {marker}" for time in times_s) if len(times_s) > 1 else marker


def _gemma4_features(model: Any, values: torch.Tensor) -> Sequence[torch.Tensor]:
    """Patches [n, patches, 3 * side * side], each pixel's colours together, rows of patches from the top.

    A unified model's patch is the whole square of a token.
    """
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


def _gemma4_vision_inputs(features: Sequence[torch.Tensor], image_mask: torch.Tensor) -> dict[str, Any]:
    encoded = BaseModelOutputWithPooling(pooler_output=tuple(features))  # type: ignore[arg-type]  # its own way
    return {"mm_token_type_ids": image_mask.long(), "mm_encoder_outputs": {"image": encoded}}


def _count_parameters(config: Any) -> tuple[int, int]:
    """On no device: nothing is allocated.

    Linear are those that quantization shrinks: experts are none to bitsandbytes, and loading.py keeps some exact.
    """
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    total = sum(p.numel() for p in model.parameters())
    linear = sum(
        module.weight.numel()
        for name, module in model.model.language_model.layers.named_modules()
        if isinstance(module, torch.nn.Linear) and "router" not in name and "per_layer" not in name
    )
    return linear, total - linear


_GEMMA4 = Family(
    processor=_gemma4_processor,
    size=_gemma4_size,
    marker=lambda processor: str(processor.tokenizer.image_token),
    placeholder=_gemma4_placeholder,
    soft_tokens=_gemma4_soft_tokens,
    media=_gemma4_media,
    features=_gemma4_features,
    vision_inputs=_gemma4_vision_inputs,
    template_options={"enable_thinking": False},
    parameters=_count_parameters,
)

FAMILIES: Mapping[str, Family] = {
    "gemma3": Family(
        processor=lambda folder: AutoProcessor.from_pretrained(folder, local_files_only=True, backend="pil"),
        size=_gemma3_size,
        marker=lambda processor: str(processor.boi_token),
        placeholder=lambda processor, _: str(processor.full_image_sequence),
        soft_tokens=lambda processor, height, width: int(processor.image_seq_length),
        media=_gemma3_media,
        features=lambda model, values: list(model.get_image_features(values).pooler_output),
        vision_inputs=_gemma3_vision_inputs,
        template_options={},
    ),
    "gemma4": _GEMMA4,
    "gemma4_unified": _GEMMA4,
}
