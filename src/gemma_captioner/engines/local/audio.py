"""Encodes the sound of clips for the language model, with transformers' own feature extractors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch

from ...types import Audio, Request
from .families import AudioFamily
from .processor import Processor

Features: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"  # [frames, width]

_AUDIO_TYPE = 3  # of audio tokens in `mm_token_type_ids`
_CACHED = 16  # features of sounds that several requests share: of examples, and of an item with several prompts


class AudioEncoder:
    def __init__(self, model: Any, family: AudioFamily, processor: Processor) -> None:
        self._model, self._family, self._processor = model, family, processor
        self._max_samples = processor.max_audio_samples
        self.features = lru_cache(_CACHED)(self._features)

    @cached_property
    def _extractor(self) -> Any:
        module, name = self._family.extractor
        return getattr(import_module(module), name)(**self._processor.audio)

    def soft_tokens(self, samples: int) -> int:
        """Return the number of soft tokens of a sound. One that is too long is cut, as not every extractor does."""
        return self._family.soft_tokens(min(samples, self._max_samples))

    def sounds(self, request: Request) -> list[Audio]:
        """Return the sounds of a request in the order of their markers: of its context, then its own."""
        sounds = [frames.audio for frames in request.all_frames if frames.audio is not None]
        return [sound for sound in sounds if self.soft_tokens(len(sound.samples))]

    def _features(self, audio: Audio) -> Features:
        """Requires no device, so that it can run while the model computes."""
        extracted = self._extractor([audio.samples[: self._max_samples]], return_tensors="np")
        features: Features = extracted["input_features"][0][extracted["input_features_mask"][0].astype(bool)]
        return features

    def embed_audio(self, features: Sequence[Features], input_ids: torch.Tensor) -> dict[str, Any]:
        """Return the audio arguments of `DecodeRunner.prefill`. features: in the order of the markers in the prompts.

        Each sound is encoded alone, as transformers does for a single prompt: padding would change its last tokens.
        """
        embedded: dict[int, torch.Tensor] = {}
        for one in features:
            if id(one) not in embedded:
                values = torch.from_numpy(one)[None].to(self._model.device)
                mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
                embedded[id(one)] = self._model.model.get_audio_features(values, mask, return_dict=True).pooler_output[
                    0
                ]
        audio_types = _AUDIO_TYPE * (input_ids == self._model.config.audio_token_id).long()
        return {"audio_features": torch.cat([embedded[id(one)] for one in features]), "audio_types": audio_types}


@contextmanager
def encoded_audio(model: Any, inputs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The arguments of the model's forward for sound that is already encoded: it calls `get_audio_features` itself."""
    if "audio_features" not in inputs:
        yield inputs
        return
    inputs = dict(inputs)
    features, types = inputs.pop("audio_features"), inputs.pop("audio_types")
    mask = torch.ones((1, len(features)), dtype=torch.bool, device=features.device)
    encoded = SimpleNamespace(pooler_output=features[None], attention_mask=mask)
    model.model.get_audio_features = lambda *args, **kwargs: encoded
    try:
        empty = torch.empty(0)
        inputs["mm_token_type_ids"] = inputs["mm_token_type_ids"] + types
        yield inputs | {"input_features": empty, "input_features_mask": empty}
    finally:
        del model.model.get_audio_features
