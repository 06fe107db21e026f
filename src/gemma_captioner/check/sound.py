"""Rules of `check` for trainers that train on the sound of clips. They open clips, but decode none: `--media` does."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..captions.sound import sound_flags
from ..config.targets import get_target, trains_on_sound
from ..dataset.discover import EXTENSIONS
from ..media.probe import AudioTrack, probe_audio
from .listing import Listing, Matches
from .settings import CheckSettings


def clips_without_sound(listing: Listing, settings: CheckSettings) -> Matches:
    target = get_target(settings.for_ or "")
    for name, tracks in _audio_tracks(listing, settings):
        if not tracks:
            yield name, target.without_sound


def low_sample_rates(listing: Listing, settings: CheckSettings) -> Matches:
    rate = get_target(settings.for_ or "").audio_rate
    for name, tracks in _audio_tracks(listing, settings):
        if tracks and tracks[0].rate < rate:
            yield name, f"{tracks[0].rate:,} Hz; the model is trained on {rate:,} Hz"


def invents_sound(media: Path, caption: str, settings: CheckSettings) -> bool:
    """Whether a caption mentions sound, but the clip has no audio track and the target is trained on sound."""
    return (
        _is_clip(media.name)
        and trains_on_sound(settings.for_)
        and settings.language == "english"
        and bool(sound_flags(caption, False))
        and _tracks_of(media) == ()
    )


def _audio_tracks(listing: Listing, settings: CheckSettings) -> Iterator[tuple[str, tuple[AudioTrack, ...]]]:
    """Yield (name, audio tracks, the one that plays first) of each clip, if the target is trained on sound."""
    clips = [name for name in listing.media if _is_clip(name)] if trains_on_sound(settings.for_) else []
    for name in clips:
        if (tracks := _tracks_of(listing.folder / name)) is not None:
            yield name, tracks


def _is_clip(name: str) -> bool:
    return EXTENSIONS[name.rpartition(".")[2].lower()] == "clip"


def _tracks_of(path: Path) -> tuple[AudioTrack, ...] | None:
    """The audio tracks; None if the file cannot be read."""
    try:
        return _probe(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(4096)  # several rules ask
def _probe(path: Path, changed_ns: int) -> tuple[AudioTrack, ...] | None:
    return probe_audio(path)
