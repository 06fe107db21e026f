"""Reads the size and orientation of an image without decoding it, and without importing the decoders."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from ..errors import ItemError
from ..storage.filesystem import source

_WITH_ORIENTATION = ("JPEG", "MPO", "PNG", "AVIF")  # Pillow turns TIFF and HEIC itself


@dataclass(frozen=True, slots=True)
class Header:
    """orientation: as in EXIF, 1 (upright) to 8. Sizes: (width, height) in pixels.

    stored_size: for a reader that does not turn images.
    """

    upright_size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int


def read_header(path: Path) -> Header | None:
    """Read the header of an image; None if Pillow cannot open the file."""
    try:
        with Image.open(source(path)) as image:
            orientation, size = 1, image.size
            with suppress(Exception):  # broken metadata is ignored
                orientation = exif_orientation(image)
            if image.format == "TIFF":  # of which Pillow gives the upright size
                tags = image.tag_v2  # type: ignore[attr-defined]  # of TIFF images only
                return Header(size, (tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]), orientation)
            return Header(size[::-1] if orientation >= 5 else size, size, orientation)
    except (ItemError, OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError):
        return None


def exif_orientation(image: Image.Image) -> int:
    """How browsers turn an image that Pillow opened: 1 (not at all) to 8.

    The orientation counts in JPEG, AVIF, and PNG with its EXIF before the pixels; XMP never counts. Broken metadata
    raises any exception.
    """
    if image.format not in _WITH_ORIENTATION or not (content := image.info.get("exif")):
        return 1
    exif = Image.Exif()
    exif.load(content)
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1
