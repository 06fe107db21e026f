"""The differences between model families, in one table. No other module of the engine checks a family's name.

Gemma 3 reads square images of 256 tokens each. Gemma 4 keeps an image's aspect ratio within a token budget and requires
a timestamp before each frame of a clip. Its thinking mode is turned off. Gemma 4 has two model types: `gemma4` has a
vision tower; `gemma4_unified` (12B) has none and projects the pixels of each token's square directly.
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
    """The functions that differ between model families.

    Attributes:
        processor: Loads the tokenizer, the image processor and the chat template from a checkpoint's folder.
        size: Returns the frame size for images or clips.
        marker: Returns the text that stands for one frame before tokenization.
        placeholder: Returns the text that replaces a marker, given the processor and the number of soft tokens.
        soft_tokens: Returns the number of soft tokens of a frame, given the processor, its height and its width.
        media: Joins the markers of an item's frames, with timestamps if enabled.
        features: Maps normalized float [n, 3, height, width] to one tensor [soft tokens, hidden] per frame.
        vision_inputs: Maps features and the mask of soft tokens in `input_ids` to arguments of the model's `forward`.
        parameters: Returns the numbers of linear and other weights, for families for which memory.py has no formula.
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
        raise UsageError(
            "--image-tokens works with Gemma 4 only: remove it, because Gemma 3 always uses 256 tokens per image"
        )
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
    """Load the processor's parts without torchvision.

    The checkpoint's own processor class requires torchvision for videos, which this package never passes to it. The
    unified model's image processor requires it too; the class used here has the same attributes.
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
    return PatchBudget(settings.model.image_tokens or gemma4.TOKENS[kind], _gemma4_unit(processor))


def _gemma4_unit(processor: Any) -> int:
    """The side in pixels of the square that one token covers."""
    return int(processor.image_processor.patch_size * processor.image_processor.pooling_kernel_size)


def _gemma4_placeholder(processor: Any, soft_tokens: int) -> str:
    tokenizer = processor.tokenizer
    return str(tokenizer.boi_token + tokenizer.image_token * soft_tokens + tokenizer.eoi_token)


def _gemma4_soft_tokens(processor: Any, height: int, width: int) -> int:
    unit = _gemma4_unit(processor)
    return (height // unit) * (width // unit)


def _gemma4_media(marker: str, times_s: Sequence[float], timestamps: bool) -> str:
    return " ".join(f"{format_timestamp(time)} {marker}" for time in times_s) if len(times_s) > 1 else marker


def _gemma4_features(model: Any, values: torch.Tensor) -> Sequence[torch.Tensor]:
    """Cut frames into patches [n, patches, 3 * side * side], channels last, and embed them.

    In a unified model one patch covers all pixels of a token.
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
    encoded = BaseModelOutputWithPooling(pooler_output=tuple(features))  # type: ignore[arg-type]  # Gemma 4 takes a tuple
    return {"mm_token_type_ids": image_mask.long(), "mm_encoder_outputs": {"image": encoded}}


def _count_parameters(config: Any) -> tuple[int, int]:
    """Count (linear, other) parameters on the meta device, which allocates nothing.

    Linear parameters are those that quantization shrinks. bitsandbytes does not quantize experts, and loading.py
    excludes some layers.
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
