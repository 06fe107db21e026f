"""A raw reply -> the caption: one line. Pure."""

import re

from ..settings import Prompting


def clean(raw: str, settings: Prompting) -> str:
    """One line, whitespace single, with trigger, prefix and suffix put in; "" where the reply says nothing.

    # "A red\\n circle. ", trigger "ohwx" -> "ohwx A red circle."
    """
    caption = " ".join(raw.split())
    if not caption:
        return ""
    if settings.trigger and not re.search(rf"(?<!\w){re.escape(settings.trigger)}(?!\w)", caption):
        caption = f"{settings.trigger} {caption}"
    # Of what is put around it only the line breaks go: a prefix's own trailing space separates it.
    line = " ".join(f"{settings.prefix}{caption}{settings.suffix}".splitlines()).strip()
    return line.encode("utf-8", "replace").decode()  # a file name's stray bytes are no text
