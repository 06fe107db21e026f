"""Custom NiceGUI elements around the media: the stage, the player of a clip and the splitter."""

from collections.abc import Sequence
from typing import Any, TypedDict

from nicegui import ui

from ..facts import FrameStrip, MediaFacts


class Pane(TypedDict):
    """A picture or clip on the stage. src, full: addresses of a copy for display and of all pixels."""

    key: str
    kind: str
    src: str
    full: str
    poster: str
    alt: str
    label: str


class Stage(ui.element, component="stage.js"):
    """The item, after the sources of an edit, with one zoom. It emits `broken` with the key of a pane."""

    def __init__(self) -> None:
        super().__init__()
        self.show(())

    def show(self, panes: Sequence[Pane]) -> None:
        self._props["panes"] = list(panes)
        self.show_size(0, 0)

    def show_size(self, width: int, height: int) -> None:
        """The size of the item's file in pixels. 0: not known yet."""
        self._props["width"], self._props["height"] = width, height
        self.update()


class Player(ui.element, component="player.js"):
    """The controls of the clip on the stage, with the waveform of its sound and the captioned part."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self._set(sound=False, levels=[], span=None, duration=0.0)

    def show_facts(self, facts: MediaFacts) -> None:
        self._set(sound=facts.audio is not None, duration=facts.duration_s)

    def show_levels(self, levels: Sequence[float]) -> None:
        self._set(levels=list(levels))

    def show_span(self, strip: FrameStrip) -> None:
        self._set(span=list(strip.span_s) if strip.is_part else None)

    def _set(self, **props: Any) -> None:
        self._props.update(props)
        self.update()


class Splitter(ui.element, component="splitter.js"):
    """The line between the list and the item in front."""
