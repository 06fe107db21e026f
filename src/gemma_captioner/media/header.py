"""Reads the size and orientation of an image without decoding it, and without importing the decoders."""

from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from ..errors import ItemError
from ..storage.filesystem import source

_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True, slots=True)
class Header:
    """width, height: upright, in pixels. orientation: as in EXIF, 1 (upright) to 8."""

    width: int
    height: int
    orientation: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of a reader that does not turn images by EXIF."""
        return (self.height, self.width) if self.orientation in _SIDEWAYS else (self.width, self.height)


def read_header(path: Path) -> Header | None:
    """Read the size and orientation of an image without decoding it; None if Pillow cannot open it."""
    try:
        with Image.open(source(path)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            is_sideways = orientation in _SIDEWAYS and image.format != "TIFF"  # of which Pillow gives the upright size
            return Header(*(image.size[::-1] if is_sideways else image.size), orientation)
    except (ItemError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
