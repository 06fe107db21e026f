"""Gemma 4 constants that several engines use. Source: transformers' Gemma 4 image, video and audio processors."""

from collections.abc import Mapping

from ..types import Kind

TOKENS: Mapping[Kind, int] = {"image": 280, "clip": 70}  # the defaults for an image and for one frame of a clip
UNIT = 48  # one token covers UNIT x UNIT pixels: 3 x 3 patches of 16 x 16
AUDIO_TOKENS_PER_SECOND = 25
