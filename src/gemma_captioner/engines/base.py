"""What the pipeline asks of an engine. It knows nothing of files, captions or settings beyond its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from ..types import Failed, Kind, Reply, Request, Size


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What is known before any weight is read.

    size: in pixels, that images are to have
    tokens_per_frame: the most prompt tokens that an image, or one frame of a clip, costs, markers included
    context_length: the most tokens a prompt and its answer may have together
    model, revision: its name and commit (of a server: where it is), as the journal records them
    clip_size: in pixels, that a clip's frames are to have, None for the same
    preferred_batch_size: requests that it would have under way: frames are given room for so many, where there is memory
    """

    size: Size
    tokens_per_frame: Mapping[Kind, int]
    context_length: int
    model: str
    revision: str | None
    clip_size: Size | None = None
    preferred_batch_size: int = 0


def begun(begin: str, text: str) -> str:
    """An answer with the words that it was begun with; "" where the model said nothing after them.

    # "A photo of", " a cat." -> "A photo of a cat."
    """
    if not begin or text.startswith(begin):
        return text
    return begin + text if text.strip() else ""


class Session(Protocol):
    """An engine that is ready to answer. Raises what is fatal to the run; a bad request is one `Failed`."""

    @property
    def available_slots(self) -> int:
        """How many more requests it would take now."""
        ...

    def submit(self, request: Request) -> None:
        """Hand over a request; at most `available_slots` of them."""
        ...

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        """Answers that have come, in any order, each with its request's id; waits for the first up to timeout_s."""
        ...

    def close(self) -> None:
        """Drop what is in flight and let go of the model. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Engine(Protocol):
    """A model before it is loaded: what can be known of it, and `open`."""

    @property
    def spec(self) -> EngineSpec:
        """Raises `ModelError` or `MemoryShortageError` where the run could not start."""
        ...

    def describe(self) -> str:
        """For a person: model, device, precision, memory, and what to expect of them."""
        ...

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        """The most tokens of a whole prompt with its frames. Loads no weights."""
        ...

    def open(self) -> Session:
        """Load the model."""
        ...
