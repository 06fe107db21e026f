"""Frames -> what the language model reads of them: normalised on the device, encoded in chunks, equal ones once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .memory import VISION_CHUNK

Pixels = npt.NDArray[np.uint8]
_SAMPLE = 16  # frames are told apart by each sixteenth pixel of each sixteenth row first


class Vision:
    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        images = processor.image_processor
        # All 256 pixel values through the processor's own arithmetic: what it would make of them, to the last bit.
        levels = np.arange(256, dtype=np.float64) * images.rescale_factor
        mean, std = (np.array(x, dtype=np.float32)[:, None] for x in (images.image_mean, images.image_std))
        table = (levels.astype(np.float32)[None] - mean) / std
        self._levels = torch.from_numpy(table).to(model.device)  # float32 [3, 256]

    def prefill(self, clips: Sequence[Pixels], input_ids: torch.Tensor) -> dict[str, Any]:
        """clips: uint8 [n, height, width, 3] each -> what the model's forward takes of images beside input_ids."""
        frames, places = distinct(clips)
        features = torch.cat([self._encode(frames[i : i + VISION_CHUNK]) for i in range(0, len(frames), VISION_CHUNK)])
        if len(frames) < len(places):
            features = features[torch.tensor(places, device=features.device)]
        return {
            "token_type_ids": (input_ids == self._model.config.image_token_id).long(),
            "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)},
        }

    def _encode(self, frames: Sequence[Pixels]) -> torch.Tensor:
        """Features [n, tokens an image, hidden]."""
        values = self.normalised(self._to_device(np.stack(frames))).to(self._model.dtype)
        return self._model.get_image_features(values).pooler_output  # type: ignore[no-any-return]

    def _to_device(self, pixels: Pixels) -> torch.Tensor:
        """On CUDA through pinned memory, without waiting: the next chunk is stacked while this one is encoded."""
        on_host = torch.from_numpy(pixels)
        if self._model.device.type == "cuda":
            on_host = on_host.pin_memory()
        return on_host.to(self._model.device, non_blocking=True)

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [n, height, width, 3] -> float32 [n, 3, height, width], as the checkpoint's processor makes it."""
        return torch.stack([self._levels[c][pixels[..., c].int()] for c in range(3)], dim=1)


def distinct(clips: Sequence[Pixels]) -> tuple[list[Pixels], list[int]]:
    """(frames without those of a clip that it has shown before, for each frame the place of its like among them).

    # [A B A] [A] -> [A B A], [0 1 0 2]
    """
    frames: list[Pixels] = []
    places: list[int] = []
    for clip in clips:
        alike: dict[bytes, list[int]] = {}
        for frame in clip:
            candidates = alike.setdefault(frame[::_SAMPLE, ::_SAMPLE].tobytes(), [])
            place = next((i for i in candidates if np.array_equal(frames[i], frame)), None)
            if place is None:
                place = len(frames)
                candidates.append(place)
                frames.append(frame)
            places.append(place)
    return frames, places
