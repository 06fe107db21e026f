"""Opens a video file, and detects joined recordings by their timestamps."""

from pathlib import Path

import av
from av.container import InputContainer

from ..storage.filesystem import source

_MAX_CLOCK_STEP_BACK_S, _MAX_CLOCK_STEP_AHEAD_S = 0.9, 3600.0


# Text files that name other files, which FFmpeg would open. No trainer reads the clip from there.
_PLAYLISTS = {"concat", "dash", "hls", "imf", "rtsp", "sdp", "webm_dash_manifest"}
_FORMATS = ",".join(sorted(av.formats_available - _PLAYLISTS))


def open_container(path: Path) -> InputContainer:
    return av.open(source(path), "r", options={"format_whitelist": _FORMATS}, metadata_errors="ignore")


def is_clock_restart(step_s: float) -> bool:
    """Return whether the clock of a file moves so far from one packet to the next that another recording begins."""
    return not -_MAX_CLOCK_STEP_BACK_S < step_s < _MAX_CLOCK_STEP_AHEAD_S
