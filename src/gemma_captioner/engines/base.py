"""The engine protocol. An engine knows nothing about files, captions or settings other than its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol, Self

from ..types import Failed, Kind, Reply, Request, Size


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine knows before it reads any weight.

    Attributes:
        size: The size to which images are resized, in pixels.
        tokens_per_frame: The maximum number of prompt tokens for one image or one frame, including its markers.
        context_length: The maximum number of tokens of a prompt and its answer together.
        model: The model's name, as the journal records it.
        revision: The model's commit, or the URL of a server.
        clip_size: The size to which the frames of a clip are resized; None means `size`.
        preferred_batch_size: The number of requests that keep the engine busy. The pipeline decodes this many items
            ahead if memory allows.
        jpeg_scale: For an engine that sends files: a JPEG image is sent as it is, instead of its pixels at `size`, if
            its sides are at most this many times as long; 1: only if it has this size; 0: never.
        max_audio_s: The longest sound of a clip that the model takes, in seconds; 0: it takes no sound.
        audio_tokens_per_second: The prompt tokens for one second of sound; 0 if unknown.
    """

    size: Size
    tokens_per_frame: Mapping[Kind, int]
    context_length: int
    model: str
    revision: str | None
    clip_size: Size | None = None
    preferred_batch_size: int = 0
    jpeg_scale: float = 0.0
    max_audio_s: float = 0.0
    audio_tokens_per_second: int = 0


def prepend_begin(begin: str, text: str) -> str:
    """Prepend the words that `--begin` gave the model. Return "" if the model added nothing to them.

    # "A photo of", " a cat." -> "A photo of a cat."
    """
    if not begin or text.startswith(begin):
        return text
    return begin + text if text.strip() else ""


class Session(Protocol):
    """An open engine. It raises errors that end the run; one bad request becomes one `Failed`."""

    @property
    def available_slots(self) -> int:
        """The number of requests that can be submitted now."""
        ...

    def submit(self, request: Request) -> None:
        """Queue a request. Do not submit more than `available_slots`."""
        ...

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        """Return finished requests in any order, each with its request's id. Wait up to `timeout_s` for the first."""
        ...

    def close(self) -> None:
        """Drop requests in flight and release the model. It is safe to call this twice."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


Result = Reply | Failed | BaseException | str  # what a session's thread produces; a str is a line for the user


class ThreadedSession(Session):
    """A session whose thread puts its results into `_results`."""

    def __init__(self, log: Callable[[str], None]) -> None:
        """log: Receives lines for the user, called by the thread that polls."""
        self._log = log
        self._results: SimpleQueue[Result] = SimpleQueue()
        self._in_flight = 0  # submitted, and not yet returned by `poll`

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        """Raises the first exception. Replies before it are returned first, and the next call raises it."""
        replies: list[Reply | Failed] = []
        try:
            result = self._results.get(timeout=timeout_s)
            while True:
                if isinstance(result, str):
                    self._log(result)
                elif not isinstance(result, BaseException):
                    replies.append(result)
                elif replies:
                    self._results.put(result)
                    break
                else:
                    raise result
                result = self._results.get_nowait()
        except Empty:
            pass
        self._in_flight -= len(replies)
        return replies


class Engine(Protocol):
    """A model that is not loaded yet.

    An engine may also have `prepare() -> Callable[[], None]`. It begins in the background what `open` needs and what
    depends on no file, such as imports, and returns a function that waits for it. It is called once files are decoded.
    """

    @property
    def spec(self) -> EngineSpec:
        """The facts that are known before loading.

        Raises:
            ModelError: The model cannot be found or used.
            MemoryShortageError: The model does not fit into memory.
        """
        ...

    def describe(self) -> str:
        """Describe the model, device, precision and memory for the user."""
        ...

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        """Return the maximum number of tokens of a prompt with its frames. Loads no weights."""
        ...

    def open(self) -> Session:
        """Load the model and return a session."""
        ...
