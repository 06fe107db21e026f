"""Frames -> what the language model reads of them: normalised on the device, encoded in chunks, equal ones once."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch

from ...types import Pixels
from .families import Family
from .memory import VISION_CHUNK

_SAMPLE = 16  # frames are told apart by each sixteenth pixel of each sixteenth row first


class Vision:
    def __init__(self, model: Any, family: Family, processor: Any) -> None:
        self._model, self._family = model, family
        self.chunk = VISION_CHUNK  # frames encoded at once: halved where even one item does not fit
        images = processor.image_processor
        # All 256 pixel values through the processor's own arithmetic: what it would make of them, to the last bit.
        levels = (np.arange(256, dtype=np.float64) * images.rescale_factor).astype(np.float32)
        mean, std = [0.0] * 3, [1.0] * 3
        if images.do_normalize:
            mean, std = images.image_mean, images.image_std
        shift, scale = (np.array(x, dtype=np.float32)[:, None] for x in (mean, std))
        self._levels = torch.from_numpy((levels[None] - shift) / scale).to(model.device)  # float32 [3, 256]

    def prefill(self, clips: Sequence[Pixels], input_ids: torch.Tensor) -> dict[str, Any]:
        """clips: uint8 [n, height, width, 3] each -> what the model's forward takes of images beside input_ids."""
        frames, places = distinct(clips)
        features: list[torch.Tensor] = []
        for chunk in _chunks(frames, self.chunk):
            values = self.normalised(self._to_device(np.stack(chunk)))  # float32: the tower rounds where it means to
            features += self._family.features(self._model, values)
        return self._family.prefill([features[i] for i in places], input_ids == self._model.config.image_token_id)

    def _to_device(self, pixels: Pixels) -> torch.Tensor:
        """On CUDA through pinned memory, without waiting: the next chunk is stacked while this one is encoded."""
        on_host = torch.from_numpy(pixels)
        if self._model.device.type == "cuda":
            on_host = on_host.pin_memory()
        return on_host.to(self._model.device, non_blocking=True)

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [n, height, width, 3] -> float32 [n, 3, height, width], as the checkpoint's processor makes it."""
        return torch.stack([self._levels[c][pixels[..., c].int()] for c in range(3)], dim=1)


def _chunks(frames: Sequence[Pixels], most: int) -> Iterator[Sequence[Pixels]]:
    """Neighbours of one shape, as many as are encoded at once."""
    for _, alike in groupby(frames, key=np.shape):
        together = list(alike)
        for start in range(0, len(together), most):
            yield together[start : start + most]


def distinct(clips: Sequence[Pixels]) -> tuple[list[Pixels], list[int]]:
    """(frames without those that were there before, for each frame the place of its like among them).

    A clip may rest; examples, and several prompts about an item, show the same frames again.

    # [A B A] [A] -> [A B], [0 1 0 0]
    """
    frames: list[Pixels] = []
    places: list[int] = []
    alike: dict[tuple[tuple[int, ...], bytes], list[int]] = {}
    for clip in clips:
        for frame in clip:
            candidates = alike.setdefault((frame.shape, frame[::_SAMPLE, ::_SAMPLE].tobytes()), [])
            place = next((i for i in candidates if np.array_equal(frames[i], frame)), None)
            if place is None:
                place = len(frames)
                candidates.append(place)
                frames.append(frame)
            places.append(place)
    return frames, places
