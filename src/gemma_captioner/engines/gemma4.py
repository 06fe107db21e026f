"""Gemma 4's numbers that more than one engine needs. Source: transformers' image and video processors for it."""

from collections.abc import Mapping

from ..types import Kind

TOKENS: Mapping[Kind, int] = {"image": 280, "clip": 70}  # of an image, and of one frame of a clip, by default
UNIT = 48  # pixels along a side of the square that becomes one token: 3 x 3 patches of 16
