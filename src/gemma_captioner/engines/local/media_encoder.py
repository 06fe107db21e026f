"""Encodes the frames and the sound of requests: those of a prefill, and frames of the requests that come next."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch

from .audio import AudioEncoder
from .continuous import PendingRequest
from .hardware import is_out_of_memory
from .vision import VisionEncoder


class MediaEncoder:
    """Its attributes are set by the session.

    Attributes:
        encodes_ahead: Whether the session calls `encode_ahead`. An OOM there turns it off.
        is_encoding: Whether frames are being encoded. An error leaves it True: that is where memory ran out.
    """

    def __init__(self, vision: VisionEncoder, audio: AudioEncoder | None) -> None:
        self._vision, self._audio = vision, audio
        self.encodes_ahead = self.is_encoding = False

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
        """Encode frames of waiting requests, about a chunk, beside what runs on the device.

        Several prompts of one file share its features. Requests with examples, references or sources are left to
        their prefill, which encodes those of all its requests once.
        """
        chosen: dict[int, list[PendingRequest]] = {}  # by the identity of the frames
        num_frames = 0
        for pending in waiting:
            frames = pending.request.frames
            if pending.images or pending.request.context:
                continue
            if id(frames) in chosen:
                chosen[id(frames)].append(pending)
            elif num_frames < self._vision.chunk:
                chosen[id(frames)] = [pending]
                num_frames += len(frames.pixels)
        if not chosen:
            return
        try:
            self._encode([requests[0] for requests in chosen.values()], beside=True)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.encodes_ahead = self.is_encoding = False
            return
        for first, *others in chosen.values():
            for other in others:
                other.images.extend(first.images)

    def _encode(self, requests: Sequence[PendingRequest], *, beside: bool = False) -> None:
        self.is_encoding = True
        clips = [[frames.pixels for frames in pending.request.all_frames] for pending in requests]
        features = iter(self._vision.encode([clip for of_one in clips for clip in of_one], beside=beside))
        for pending, of_one in zip(requests, clips, strict=True):
            pending.images.extend(islice(features, sum(map(len, of_one))))
        self.is_encoding = False


def forget_images(requests: Sequence[PendingRequest]) -> None:
    """Free the features of the frames."""
    for pending in requests:
        pending.images.clear()
