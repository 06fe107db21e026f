"""Encodes the frames and the sound of requests: those of a prefill, and frames of the requests that come next."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch

from .audio import AudioEncoder
from .continuous import PendingRequest
from .vision import VisionEncoder


class MediaEncoder:
    """is_encoding: whether frames are being encoded, also after an error that ended it."""

    def __init__(self, vision: VisionEncoder, audio: AudioEncoder | None) -> None:
        self._vision, self._audio = vision, audio
        self.is_encoding = False

    def model_inputs(self, requests: Sequence[PendingRequest], input_ids: torch.Tensor) -> dict[str, Any]:
        """Return the media arguments of the model's `forward`. Encodes the frames that are not encoded yet.

        input_ids: int64 [n, columns], the prompts of the requests.
        """
        self._encode([pending for pending in requests if not pending.images])
        inputs = self._vision.model_inputs([image for pending in requests for image in pending.images], input_ids)
        if self._audio is not None and (sounds := [sound for pending in requests for sound in pending.sounds]):
            inputs |= self._audio.embed_audio(sounds, input_ids)
        return inputs

    def encode_ahead(self, waiting: Sequence[PendingRequest]) -> None:
        """Encode frames of waiting requests, about a chunk. On CUDA, what is launched next runs beside it."""
        chosen: list[PendingRequest] = []
        num_frames = 0
        for pending in waiting:
            if not pending.images and num_frames < self._vision.chunk:
                chosen.append(pending)
                num_frames += _num_frames(pending)
        if chosen:
            self._encode(chosen, beside=True)

    def _encode(self, requests: Sequence[PendingRequest], *, beside: bool = False) -> None:
        self.is_encoding = True
        clips = [frames.pixels for pending in requests for frames in pending.request.all_frames]
        features = iter(self._vision.encode(clips, beside=beside))
        for pending in requests:
            pending.images.extend(islice(features, _num_frames(pending)))
        self.is_encoding = False


def _num_frames(pending: PendingRequest) -> int:
    return sum(len(frames.pixels) for frames in pending.request.all_frames)


def forget_images(requests: Sequence[PendingRequest]) -> None:
    """Free the features of the frames."""
    for pending in requests:
        pending.images.clear()
