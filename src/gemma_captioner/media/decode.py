"""Media item -> frames, or the failure that it costs: the one door to the decoders, by kind."""

from ..errors import ItemError
from ..records import Failed, Frames, MediaItem
from ..settings import Reading, Sampling
from .images import decode_image
from .video import decode_clip


def decode(item: MediaItem, size: tuple[int, int], reading: Reading, sampling: Sampling) -> Frames | Failed:
    """Frames at `size` (width, height). Whatever is wrong with the file becomes its `Failed`."""
    read = decode_image if item.kind == "image" else decode_clip
    try:
        return read(item.path, size, reading, sampling)
    except ItemError as error:
        return Failed(item, str(error))
    except MemoryError:
        return Failed(item, "decoding it takes more than --decode-memory: scale it down, or allow more")
    except Exception as error:  # a decoder's own bug must not cost the run; it is reported with the file
        return Failed(item, f"cannot be decoded ({type(error).__name__}: {error}): save it anew, or report this file")
