"""A sample under each variant: runs the pipeline over it, variant after variant, and keeps what came of it.

Nothing is written beside the media: captions and journals go to a temporary folder. What one variant cannot do is its
`error`, and the others go on.
"""

import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from ..captions.limits import estimated_tokens
from ..config.targets import TOKEN_LIMITS, TokenLimit
from ..dataset import sidecar
from ..errors import CaptionerError, ItemError, redact_token
from ..pages import jpeg_data_url
from ..pipeline.scheduler import Pipeline
from ..types import Captioned, Failed, Frames, Kind, MediaItem, Outcome, Request
from .kept import Kept, Lent
from .variants import Variant, by_model

_PICTURE_SIDE = {"image": 480, "clip": 184}  # pixels, twice what they are shown at


@dataclass(frozen=True, slots=True)
class Sight:
    """What the model saw of a file. pictures: data: URLs, of the times' number."""

    kind: Kind
    size: tuple[int, int]  # of the file's own picture
    duration_s: float
    times_s: tuple[float, ...]
    pictures: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, frames: Frames) -> "Sight":
        width, height = frames.source_size
        scale = _PICTURE_SIDE[frames.kind] / max(width, height)
        box = max(1, round(width * scale)), max(1, round(height * scale))
        pictures = tuple(jpeg_data_url(pixels, *box) for pixels in frames.pixels)
        return cls(frames.kind, frames.source_size, frames.duration_s, frames.times_s, pictures)

    @property
    def shown(self) -> list[tuple[str, str]]:
        """Each picture with its time before it."""
        return [(f"{time_s:.2f} s", shown) for time_s, shown in zip(self.times_s, self.pictures, strict=True)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one file. prompt, times_s: as it was asked; "" and () where it could not be read.

    tokens: of the caption, as the target's text encoder counts them; None without a target
    """

    caption: str = ""
    error: str | None = None
    flags: tuple[str, ...] = ()
    prompt: str = ""
    times_s: tuple[float, ...] = ()
    seconds: float = 0.0  # from being asked to the answer: files that are answered together share the time
    new_tokens: int = 0  # that the model wrote
    tokens: int | None = None

    @property
    def words(self) -> int:
        return len(self.caption.split())


@dataclass
class Column:
    """What one variant made of the sample. error: why it could not start, or what ended it; trace: where that was."""

    variant: Variant
    count_tokens: Callable[[str], int] | None = None
    answers: dict[Path, Answer] = field(default_factory=dict)
    error: str | None = None
    trace: str = ""
    load_seconds: float | None = None  # None: not reached, or its model was loaded already
    _asked: dict[Path, tuple[str, tuple[float, ...]]] = field(default_factory=dict)
    _began: float = 0.0
    _ended: float = 0.0

    def see(self, request: Request) -> None:
        if not self._asked:
            self._began = time.monotonic()
        self._asked[request.item.path] = request.prompt, request.frames.times_s

    def hear(self, outcome: Outcome) -> None:
        path = outcome.item.path
        prompt, times_s = self._asked.get(path, ("", ()))
        if times_s:
            self._ended = time.monotonic()
        if isinstance(outcome, Captioned):
            self.answers[path] = Answer(
                caption=outcome.caption,
                flags=outcome.flags,
                prompt=prompt,
                times_s=times_s,
                seconds=outcome.seconds,
                new_tokens=outcome.new_tokens,
                tokens=self._tokens(outcome.caption),
            )
        elif isinstance(outcome, Failed):
            self.answers[path] = Answer(error=outcome.error, prompt=prompt, times_s=times_s)

    def end(self, error: Exception) -> None:
        """The error itself is not kept: its frames hold on to the model."""
        said = str(error) if isinstance(error, CaptionerError) else f"it died ({type(error).__name__}: {error})"
        token = self.variant.settings.model.hf_token
        self.error = redact_token(said, token)
        self.trace = redact_token("".join(traceback.format_exception(error)), token)

    @property
    def limit(self) -> TokenLimit | None:
        """Of the target's text encoder."""
        target = self.variant.settings.judging.target
        return None if target is None else TOKEN_LIMITS[target]

    def _tokens(self, caption: str) -> int | None:
        if self.limit is None:
            return None
        return self.count_tokens(caption) if self.count_tokens else estimated_tokens(caption, self.limit.encoder)

    @property
    def captioned(self) -> list[Answer]:
        return [answer for answer in self.answers.values() if answer.error is None]

    @property
    def failed(self) -> int:
        return len(self.answers) - len(self.captioned)

    @property
    def flagged(self) -> int:
        return sum(bool(answer.flags) for answer in self.captioned)

    @property
    def seconds_a_file(self) -> float | None:
        """From the first question to the last answer, divided by the files that were asked about."""
        answered = sum(bool(answer.times_s) for answer in self.answers.values())
        return (self._ended - self._began) / answered if answered else None

    @property
    def mean_words(self) -> float | None:
        return fmean(answer.words for answer in self.captioned) if self.captioned else None


class Comparison:
    """Iterate over `run`; what is there when it is interrupted is worth showing."""

    def __init__(
        self,
        items: Sequence[MediaItem],
        variants: Sequence[Variant],
        count_tokens: Callable[[str], int] | None = None,
    ) -> None:
        """count_tokens: of --tokenizer, in place of the estimate."""
        self.items = items
        self.columns = [Column(variant, count_tokens) for variant in variants]
        self._sights: dict[Path, dict[tuple[float, ...], Sight]] = {item.path: {} for item in items}

    @property
    def total(self) -> int:
        """Answers that are to be had in all."""
        return sum(len(self.items if column.error is None else column.answers) for column in self.columns)

    @property
    def has_answers(self) -> bool:
        return any(column.answers for column in self.columns)

    @property
    def exit_code(self) -> int:
        if not self.has_answers:
            return 1
        return 3 if any(column.error or column.failed for column in self.columns) else 0

    def sights(self, item: MediaItem) -> Iterator[tuple[list[Column], Sight]]:
        """What was seen of a file, each with the columns that saw it so."""
        for times_s, sight in self._sights[item.path].items():
            saw = [c for c in self.columns if item.path in c.answers and c.answers[item.path].times_s == times_s]
            yield saw, sight

    def run(self, tell: Callable[[str], None]) -> Generator[Outcome]:
        """Outcomes as they come. tell: is given lines for a person."""
        columns = {column.variant.letter: column for column in self.columns}
        for demanding, together in by_model([column.variant for column in self.columns]):
            with closing(Kept(demanding)) as kept:
                for variant in together:
                    column = columns[variant.letter]
                    tell(f"{variant.letter} (of {len(columns)}): {variant.name}")
                    try:
                        yield from self._caption(column, kept, tell)
                    except Exception as error:  # whatever it is, it is this variant's
                        column.end(error)
                        tell(f"{variant.letter} failed: {column.error}")

    def _caption(self, column: Column, kept: Kept, tell: Callable[[str], None]) -> Iterator[Outcome]:
        def watch(request: Request) -> None:
            column.see(request)
            seen = self._sights[request.item.path]
            if request.frames.times_s not in seen:
                seen[request.frames.times_s] = Sight.of(request.frames)

        was_open, settings = kept.is_open, column.variant.settings
        with tempfile.TemporaryDirectory(prefix="gemma-captioner-compare-") as folder:
            items = [_moved(item, Path(folder), number) for number, item in enumerate(self.items)]
            pipeline = Pipeline(settings, Lent(kept, settings, watch), stores=1, log=tell)
            with closing(pipeline.run(iter(items))) as outcomes:
                for outcome in outcomes:
                    column.hear(outcome)
                    yield outcome
            column.load_seconds = None if was_open else pipeline.load_seconds


def _moved(item: MediaItem, folder: Path, number: int) -> MediaItem:
    """With its caption in `folder`, where the one that it has is copied to: `{existing}` tells of it."""
    moved = replace(item, caption_path=folder / f"{number}.txt", store=folder)
    with suppress(ItemError):
        moved.caption_path.write_bytes(sidecar.read(item.caption_path) or b"")
    return moved
