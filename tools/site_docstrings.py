"""Docstrings as this code writes them, into Markdown: a line a field, worked examples and drawings as they stand."""

import re
from typing import Any

from griffe import Extension, Object

_FIELD = re.compile(r"^(\w+(?:, \w+)*): ", re.MULTILINE)


class Docstrings(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n\n".join(map(_as_markdown, obj.docstring.value.split("\n\n")))


def _as_markdown(paragraph: str) -> str:
    """# "size: in pixels" -> "- `size`: in pixels" """
    if "├──" in paragraph:
        return f"```text\n{paragraph}\n```"
    if _FIELD.match(paragraph):
        return _FIELD.sub(r"- `\1`: ", paragraph)
    return re.sub(r"^# ", "    ", paragraph, flags=re.MULTILINE)
