"""Rules of `check` for trainers that train on the sound of clips. They open each clip, but decode nothing."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..config.targets import get_target
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


def _audio_tracks(listing: Listing, settings: CheckSettings) -> Iterator[tuple[str, tuple[AudioTrack, ...]]]:
    """Yield (name, audio tracks, the one that plays first) of each clip, if the target is trained on sound."""
    if not get_target(settings.for_ or "").sound:
        return
    for name in listing.media:
        if EXTENSIONS[name.rpartition(".")[2].lower()] == "clip" and name not in listing.empty_media:
            path = listing.folder / name
            tracks = _probe(path, path.stat().st_mtime_ns)
            if tracks is not None:
                yield name, tracks


@lru_cache(4096)  # both rules ask
def _probe(path: Path, changed_ns: int) -> tuple[AudioTrack, ...] | None:
    """The audio tracks; None if the file cannot be read."""
    return probe_audio(path)
