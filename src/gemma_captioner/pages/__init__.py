"""HTML pages that need no other file: rendering of the templates, with images as data URLs.

Values such as captions, prompts and file names are escaped: a page shows them as text, never as HTML.
"""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ..types import Pixels


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("gemma_captioner", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_page(template: str, **values: Any) -> str:
    """Render a page from `template`, which extends `base.html`. UTF-8 can encode it, whatever bytes a file name has."""
    return _templates().get_template(template).render(**values).encode("utf-8", "backslashreplace").decode()


def require_page_path(path: Path) -> None:
    """Raises `OSError` for a folder, and for a file that is no page, such as a caption: it would be lost."""
    if path.is_dir():
        raise IsADirectoryError
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
            if start and not start.startswith((b"<!doctype html", b"<html")):
                raise OSError("it exists, and is not an HTML page")


def jpeg_data_url(pixels: Pixels, width: int, height: int | None = None) -> str:
    """Encode uint8 [height, width, 3] as a `data:` URL of a JPEG. Without `height`, the aspect ratio stays."""
    image = Image.fromarray(pixels)
    image = image.resize((width, height or max(1, round(width * image.height / image.width))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
