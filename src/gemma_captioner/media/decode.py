"""Media item -> frames, or the failure that it costs: the one door to the decoders, by kind."""

from ..errors import ItemError
from ..storage.filesystem import release
from ..types import Failed, Frames, MediaItem, Size
from .images import decode_image
from .settings import DecodeSettings
from .video import decode_clip


def decode(item: MediaItem, size: Size, settings: DecodeSettings, clip_size: Size | None = None) -> Frames | Failed:
    """Frames at `size`, a clip's at `clip_size` where that differs. Whatever is wrong with the file is its `Failed`."""
    clip_size = clip_size or size
    try:
        if item.kind == "clip":
            return decode_clip(item.path, clip_size, settings)
        return decode_image(item.path, size, settings, clip_size)
    except ItemError as error:
        return Failed(item, str(error))
    except MemoryError:
        return Failed(item, "decoding it takes more than --decode-memory: scale it down, or allow more")
    except Exception as error:  # a decoder's own bug must not cost the run; it is reported with the file
        return Failed(item, f"cannot be decoded ({type(error).__name__}: {error}): save it anew, or report this file")
    finally:
        release()
