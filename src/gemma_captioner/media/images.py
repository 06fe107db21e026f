"""An image file -> one frame of 8-bit RGB as a person sees it: upright, on white where it is transparent."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from pillow_heif import register_heif_opener

from ..errors import ItemError
from ..records import Frames

register_heif_opener()
# Pillow warns from 89.5 megapixels and refuses from 179: the refusal is ours to report, the warning is noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

ENDS_EARLY = "the image file is cut off: copy or download it again"


def decode_image(path: Path, size: tuple[int, int]) -> Frames:
    """Read `path` and resize it to `size` (width, height). Raises `ItemError` with the reason and the remedy."""
    try:
        with Image.open(path) as file:
            image = to_rgb(ImageOps.exif_transpose(file))
    except UnidentifiedImageError:
        message = "the file is empty" if path.stat().st_size == 0 else "this is no image that can be read"
        raise ItemError(f"{message}: replace or remove it") from None
    except Image.DecompressionBombError as error:
        raise ItemError("the image has over 179 million pixels: scale it down") from error
    except FileNotFoundError as error:
        raise ItemError("the file is gone") from error
    except PermissionError as error:
        raise ItemError("no permission to read the file: mend it with chmod") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        reason = (
            ENDS_EARLY if "truncated" in str(error).lower() else f"the image cannot be decoded ({error}): save it anew"
        )
        raise ItemError(reason) from error
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return Frames(pixels=pixels[None], times_s=(0.0,))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB: 16-bit greys scaled (Pillow would clip them), transparency laid on white."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


# A file that ends early must fail: Pillow's switch that lets it pass is global, so hold it where it belongs.
ImageFile.LOAD_TRUNCATED_IMAGES = False
