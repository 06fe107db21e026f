"""Pages written once and read in a browser, each a file that needs no other: templates, and pictures in them.

Whatever stands in a caption, a prompt or a file's name is text there, never HTML.
"""

import base64
import io
from functools import cache
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
    """A whole page from `template`, which extends `base.html`."""
    return _templates().get_template(template).render(**values)


def jpeg_data_url(pixels: Pixels, width: int, height: int | None = None) -> str:
    """uint8 [height, width, 3] -> a data: URL of a JPEG, `width` pixels wide; height: where the shape is to change."""
    image = Image.fromarray(pixels)
    image = image.resize((width, height or max(1, round(width * image.height / image.width))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
