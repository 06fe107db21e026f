"""Conversion of the settings for the decode workers."""

from ..config.settings import Settings
from ..media.settings import DecodeSettings


def decode_settings(settings: Settings) -> DecodeSettings:
    """Return the settings that decode workers need."""
    sampling, reading = settings.sampling, settings.reading
    return DecodeSettings(
        frames=sampling.frames,
        sampling=sampling.sampling,
        fps=sampling.fps,
        span=sampling.span,
        background=reading.background,
        animated=reading.animated,
        exact_pixels=reading.exact_pixels,
        timeout_s=reading.decode_timeout,
        memory_gib=reading.decode_memory,
    )
