"""Media item -> frames, or the failure that it costs: the one door to the decoders, by kind."""

from ..errors import ItemError
from ..records import Failed, Frames, MediaItem
from ..settings import Sampling
from .images import decode_image
from .video import decode_clip


def decode(item: MediaItem, sampling: Sampling, size: tuple[int, int]) -> Frames | Failed:
    """Frames at `size` (width, height). Whatever is wrong with the file becomes its `Failed`."""
    try:
        if item.kind == "image":
            return decode_image(item.path, size)
        return decode_clip(item.path, sampling, size)
    except ItemError as error:
        return Failed(item, str(error))
    except Exception as error:  # a decoder's own bug must not cost the run; it is reported with the file
        return Failed(item, f"cannot be decoded ({type(error).__name__}: {error}): save it anew, or report this file")
