"""Conversion of the settings for the decode workers."""

from ..config.settings import Settings
from ..config.targets import training_lengths
from ..media.settings import DecodeSettings


def decode_settings(settings: Settings) -> DecodeSettings:
    """Return the settings that decode workers need."""
    sampling, decoding = settings.sampling, settings.decoding
    return DecodeSettings(
        frames=sampling.frames,
        sampling=sampling.sampling,
        fps=sampling.fps,
        span=sampling.span,
        min_lengths=training_lengths(sampling.for_, sampling.train_frames, sampling.train_mode)
        if sampling.for_ and sampling.train_frames
        else "",
        background=decoding.background,
        animated=decoding.animated,
        exact_pixels=decoding.exact_pixels,
        timeout_s=decoding.decode_timeout,
        memory_gib=decoding.decode_memory,
    )
