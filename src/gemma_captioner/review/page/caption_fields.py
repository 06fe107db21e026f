"""The fields of a structured caption, above the editor that holds its text."""

from dataclasses import asdict

from nicegui import ui

from ...config.formats import FormatSpec
from ...text import encodable
from ..structure import problem_of, structure_of


class CaptionFields(ui.element, component="fields.js"):
    """It reads the text from the caption editor, and types changes into it."""

    def __init__(self, spec: FormatSpec) -> None:
        """spec: that of --format."""
        super().__init__()
        self._spec = spec
        self.show("")

    def show(self, text: str, duration_s: float | None = None) -> None:
        """Show the fields of the text and its problem, if any. duration_s: of the clip; 0 for an image."""
        structure = structure_of(text, self._spec)
        problem = encodable(problem_of(text, self._spec, duration_s)) if structure else ""
        props = {"format": asdict(structure) if structure else None, "problem": problem}
        if any(self._props.get(name) != value for name, value in props.items()):
            self._props.update(props)
            self.update()
