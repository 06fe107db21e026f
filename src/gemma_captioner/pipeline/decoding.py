"""Conversion of the settings for the decode workers."""

from ..config.settings import Settings
from ..config.targets import lengths_for
from ..media.settings import DecodeSettings


def decode_settings(settings: Settings) -> DecodeSettings:
    """Return the settings that decode workers need."""
    sampling, reading = settings.sampling, settings.reading
    return DecodeSettings(
        frames=sampling.frames,
        sampling=sampling.sampling,
        fps=sampling.fps,
        span=sampling.span,
        min_lengths=lengths_for(sampling.for_, sampling.train_frames, sampling.train_mode)
        if sampling.for_ and sampling.train_frames
        else "",
        background=reading.background,
        animated=reading.animated,
        exact_pixels=reading.exact_pixels,
        timeout_s=reading.decode_timeout,
        memory_gib=reading.decode_memory,
    )
