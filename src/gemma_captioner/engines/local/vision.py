"""Encodes frames for the language model: normalizes on the device, encodes in chunks, skips duplicate frames.

On CUDA, frames of later requests are encoded in a stream of their own. Decode steps read weights and caches for most of
their time and leave the arithmetic units idle, which encoding needs.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch

from ...types import Pixels
from .families import Family
from .hardware import has_bf16
from .memory import VISION_CHUNK
from .processor import Processor

_FINGERPRINT_STRIDE = 16  # pixels and rows between two samples of a frame's fingerprint


class VisionEncoder:
    def __init__(self, model: Any, family: Family, processor: Processor) -> None:
        self._model, self._family = model, family
        # Frames per call; halved if memory runs out. Without bf16 in hardware, attention stores all of its scores.
        self.chunk = VISION_CHUNK if has_bf16(model.device.type) else 1
        self._stream: torch.cuda.Stream | None = None  # of frames that are encoded beside other work
        images = processor.images
        # The processor's arithmetic for all 256 pixel values, so that results equal the processor's bit for bit.
        pixel_values = (np.arange(256, dtype=np.float64) * images.rescale_factor).astype(np.float32)
        mean, std = [0.0] * 3, [1.0] * 3
        if images.do_normalize:
            mean, std = images.image_mean, images.image_std
        shift, scale = (np.array(x, dtype=np.float32)[:, None] for x in (mean, std))
        self._normalization_table = torch.from_numpy((pixel_values[None] - shift) / scale).to(model.device)  # [3, 256]

    def encode(self, clips: Sequence[Pixels], *, beside: bool = False) -> list[torch.Tensor]:
        """Return the features of each frame, in order. clips: uint8 [n, height, width, 3] each.

        beside: On CUDA, encode the frames in another stream, beside what the current one was given before.
        """
        if not beside or self._model.device.type != "cuda":
            return self._encode(clips)
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types for it
            self._stream.wait_stream(torch.cuda.current_stream())  # for the weights, which do not change afterwards
        with torch.cuda.stream(self._stream):
            return self._encode(clips)

    def model_inputs(self, features: Sequence[torch.Tensor], input_ids: torch.Tensor) -> dict[str, Any]:
        """Return the image arguments of the model's `forward`. features: of all frames of the prompts, in order."""
        if self._stream is not None:
            here = torch.cuda.current_stream()
            here.wait_stream(self._stream)
            for tensor in features:
                tensor.record_stream(here)  # the other stream must not reuse its memory before this one has read it
        return self._family.vision_inputs(list(features), input_ids == self._model.config.image_token_id)

    def _encode(self, clips: Sequence[Pixels]) -> list[torch.Tensor]:
        frames, indices = deduplicate_frames(clips)
        features: list[torch.Tensor] = []
        for chunk in _chunks(frames, self.chunk):
            values = self.normalize(self._to_device(np.stack(chunk)))  # float32: the vision tower casts it
            features += self._family.encode_images(self._model, values)
        return [features[i] for i in indices]

    def _to_device(self, pixels: Pixels) -> torch.Tensor:
        """Copy asynchronously through pinned memory on CUDA: the next chunk is stacked while this one is encoded."""
        on_host = torch.from_numpy(pixels)
        if self._model.device.type == "cuda":
            on_host = on_host.pin_memory()
        return on_host.to(self._model.device, non_blocking=True)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map uint8 [n, height, width, 3] to float32 [n, 3, height, width], as the checkpoint's processor does."""
        return torch.stack([self._normalization_table[c][pixels[..., c].int()] for c in range(3)], dim=1)


@contextmanager
def encoded_images(model: Any, images: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The arguments of the model's forward for images that are already encoded.

    transformers 5.17 has no `mm_encoder_outputs` and ignores it: there `get_image_features` returns the features.
    """
    inner = model.model
    if "mm_encoder_outputs" not in images or "mm_encoder_outputs" in inspect.signature(inner.forward).parameters:
        yield images
        return
    inputs = dict(images)
    encoded = inputs.pop("mm_encoder_outputs")["image"]
    inner.get_image_features = lambda *args, **kwargs: encoded
    try:
        yield inputs | {"pixel_values": torch.empty(0)}
    finally:
        del inner.get_image_features


def _chunks(frames: Sequence[Pixels], size: int) -> Iterator[Sequence[Pixels]]:
    """Yield runs of frames of one shape, at most `size` each."""
    for _, by_fingerprint in groupby(frames, key=np.shape):
        group = list(by_fingerprint)
        for start in range(0, len(group), size):
            yield group[start : start + size]


def deduplicate_frames(clips: Sequence[Pixels]) -> tuple[list[Pixels], list[int]]:
    """Return (unique frames, for each input frame the index of its unique frame).

    Duplicates come from still clips, from examples, and from several prompts about one item.

    # [A B A] [A] -> [A B], [0 1 0 0]
    """
    frames: list[Pixels] = []
    indices: list[int] = []
    by_fingerprint: dict[tuple[tuple[int, ...], bytes], list[int]] = {}
    for clip in clips:
        for frame in clip:
            candidates = by_fingerprint.setdefault(
                (frame.shape, frame[::_FINGERPRINT_STRIDE, ::_FINGERPRINT_STRIDE].tobytes()), []
            )
            index = next((i for i in candidates if np.array_equal(frames[i], frame)), None)
            if index is None:
                index = len(frames)
                candidates.append(index)
                frames.append(frame)
            indices.append(index)
    return frames, indices
