"""Rules of `check` for trainers that train on the sound of clips. They open each clip, but decode nothing."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..captions.sound import sound_flags
from ..config.targets import get_target, trains_on_sound
from ..dataset.discover import EXTENSIONS
from ..media.probe import AudioTrack, probe_audio
from .listing import Listing
from .settings import CheckSettings

Matches = Iterator[tuple[str, str]]  # (name in the folder, detail)


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
    """Whether a caption tells of sound of a clip without an audio track, if the target is trained on sound."""
    if not caption or not _is_clip(media.name) or not trains_on_sound(settings.for_):
        return False
    if sound_flags(caption, False) == () or settings.language != "english":
        return False
    try:
        return _probe(media, media.stat().st_mtime_ns) == ()
    except OSError:
        return False


def _audio_tracks(listing: Listing, settings: CheckSettings) -> Iterator[tuple[str, tuple[AudioTrack, ...]]]:
    """Yield (name, audio tracks, the one that plays first) of each clip, if the target is trained on sound."""
    if not trains_on_sound(settings.for_):
        return
    for name in listing.media:
        if _is_clip(name) and name not in listing.empty_media:
            path = listing.folder / name
            tracks = _probe(path, path.stat().st_mtime_ns)
            if tracks is not None:
                yield name, tracks


def _is_clip(name: str) -> bool:
    return EXTENSIONS[name.rpartition(".")[2].lower()] == "clip"


@lru_cache(4096)  # both rules ask
def _probe(path: Path, changed_ns: int) -> tuple[AudioTrack, ...] | None:
    """The audio tracks; None if the file cannot be read."""
    return probe_audio(path)
