"""Runs the pipeline over the sample, one variant after another, and collects the results.

Nothing is written beside the media: captions and journals go to a temporary folder. If one variant fails, the error is
recorded in its results and the other variants still run.
"""

import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ..captions.length import caption_length
from ..captions.limits import estimated_tokens
from ..config.targets import TokenLimit, token_limit
from ..dataset import sidecar
from ..errors import CaptionerError
from ..pages import jpeg_data_url
from ..pipeline.scheduler import Pipeline
from ..redaction import redact_token
from ..types import Captioned, Failed, Frames, Kind, MediaItem, Outcome, Request
from .shared_engine import SharedEngine, SharedModel
from .variants import Variant, group_by_model

_THUMBNAIL_SIDE = {"image": 480, "clip": 184}  # pixels, twice the display size


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """The frames of a file that the model saw. pictures: data: URLs, one per time."""

    kind: Kind
    size: tuple[int, int]  # width and height of the source, in pixels
    duration_s: float
    times_s: tuple[float, ...]
    pictures: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, frames: Frames) -> "SampledFrames":
        width, height = frames.source_size
        scale = _THUMBNAIL_SIDE[frames.kind] / max(width, height)
        box = max(1, round(width * scale)), max(1, round(height * scale))
        pictures = tuple(jpeg_data_url(pixels, *box) for pixels in frames.pixels)
        return cls(frames.kind, frames.source_size, frames.duration_s, frames.times_s, pictures)

    @property
    def timed_thumbnails(self) -> list[tuple[str, str]]:
        """Pairs of (time, picture)."""
        return [(f"{time_s:.2f} s", picture) for time_s, picture in zip(self.times_s, self.pictures, strict=True)]


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """The result of one variant for one file. prompt, times_s: of the request; "" and () if there was none."""

    caption: str = ""
    error: str | None = None
    flags: tuple[str, ...] = ()
    prompt: str = ""
    times_s: tuple[float, ...] = ()
    seconds: float = 0.0  # from request to reply; files of one batch share the time
    new_tokens: int = 0  # generated
    tokens: int | None = None  # of the target's text encoder; None without a target

    @property
    def words(self) -> int:
        return caption_length(self.caption)


@dataclass
class VariantResults:
    """The results of one variant. error: what stopped it. trace: the traceback of that error."""

    variant: Variant
    count_tokens: Callable[[str], int] | None = None
    answers: dict[Path, CaptionResult] = field(default_factory=dict)
    error: str | None = None
    trace: str = ""
    load_seconds: float | None = None  # None if no model was loaded for it
    _requests: dict[Path, tuple[str, tuple[float, ...]]] = field(default_factory=dict)
    _first_request_at: float = 0.0
    _last_outcome_at: float = 0.0

    def record_request(self, request: Request) -> None:
        if not self._requests:
            self._first_request_at = time.monotonic()
        self._requests[request.item.path] = request.prompt, request.frames.times_s

    def record_outcome(self, outcome: Outcome) -> None:
        path = outcome.item.path
        prompt, times_s = self._requests.get(path, ("", ()))
        if times_s:
            self._last_outcome_at = time.monotonic()
        if isinstance(outcome, Captioned):
            self.answers[path] = CaptionResult(
                caption=outcome.caption,
                flags=outcome.flags,
                prompt=prompt,
                times_s=times_s,
                seconds=outcome.seconds,
                new_tokens=outcome.new_tokens,
                tokens=self._tokens(outcome.caption),
            )
        elif isinstance(outcome, Failed):
            self.answers[path] = CaptionResult(error=outcome.error, prompt=prompt, times_s=times_s)

    def record_error(self, error: Exception) -> None:
        """Store the error as text: an exception would keep the model in memory through its traceback."""
        unexpected = f"unexpected error ({type(error).__name__}: {error}): use --debug to see where"
        message = str(error) if isinstance(error, CaptionerError) else unexpected
        token = self.variant.settings.model.hf_token
        self.error = redact_token(message, token)
        self.trace = redact_token("".join(traceback.format_exception(error)), token)

    @property
    def limit(self) -> TokenLimit | None:
        """The limit of the target's text encoder, None without a target or a limit."""
        return token_limit(self.variant.settings.quality.target)

    def _tokens(self, caption: str) -> int | None:
        if self.limit is None:
            return None
        return self.count_tokens(caption) if self.count_tokens else estimated_tokens(caption, self.limit.encoder)

    @property
    def captioned(self) -> list[CaptionResult]:
        return [answer for answer in self.answers.values() if answer.error is None]

    @property
    def failed(self) -> int:
        return len(self.answers) - len(self.captioned)

    @property
    def flagged(self) -> int:
        return sum(bool(answer.flags) for answer in self.captioned)

    @property
    def seconds_per_file(self) -> float | None:
        """The time from the first request to the last outcome, divided by the number of files sent to the model."""
        answered = sum(bool(answer.times_s) for answer in self.answers.values())
        return (self._last_outcome_at - self._first_request_at) / answered if answered else None

    @property
    def mean_words(self) -> float | None:
        return fmean(answer.words for answer in self.captioned) if self.captioned else None


class Comparison:
    """Iterate over `run` to fill `columns`. After an interruption, they hold the results so far."""

    def __init__(
        self,
        items: Sequence[MediaItem],
        variants: Sequence[Variant],
        count_tokens: Callable[[str], int] | None = None,
    ) -> None:
        """count_tokens: counts with --tokenizer; None estimates."""
        self.items = items
        self.columns = [VariantResults(variant, count_tokens) for variant in variants]
        self._sampled_frames: dict[Path, dict[tuple[float, ...], SampledFrames]] = {item.path: {} for item in items}

    @property
    def total(self) -> int:
        """The number of results to expect."""
        return sum(len(self.items if column.error is None else column.answers) for column in self.columns)

    @property
    def has_answers(self) -> bool:
        return any(column.answers for column in self.columns)

    @property
    def exit_code(self) -> int:
        if not self.has_answers:
            return 1
        return 3 if any(column.error or column.failed for column in self.columns) else 0

    def sampled_frames(self, item: MediaItem) -> Iterator[tuple[list[VariantResults], SampledFrames]]:
        """Yield each set of frames of a file, with the columns whose model saw it."""
        for times_s, seen in self._sampled_frames[item.path].items():
            saw = [c for c in self.columns if item.path in c.answers and c.answers[item.path].times_s == times_s]
            yield saw, seen

    def run(self, log: Callable[[str], None]) -> Generator[Outcome]:
        """Run all variants and yield the outcomes. log: receives progress messages."""
        columns = {column.variant.letter: column for column in self.columns}
        for merged_settings, group in group_by_model([column.variant for column in self.columns]):
            with closing(SharedModel(merged_settings)) as shared_model:
                for variant in group:
                    column = columns[variant.letter]
                    log(f"variant {variant.letter} (of {len(columns)}): {variant.name}")
                    try:
                        yield from self._caption(column, shared_model, log)
                    except Exception as error:  # an error of one variant must not stop the others
                        column.record_error(error)
                        log(f"variant {variant.letter} failed: {column.error}")

    def _caption(
        self, column: VariantResults, shared_model: SharedModel, log: Callable[[str], None]
    ) -> Iterator[Outcome]:
        def on_request(request: Request) -> None:
            column.record_request(request)
            by_times = self._sampled_frames[request.item.path]
            if request.frames.times_s not in by_times:
                by_times[request.frames.times_s] = SampledFrames.of(request.frames)

        was_loaded, settings = shared_model.is_open, column.variant.settings
        with tempfile.TemporaryDirectory(prefix="gemma-captioner-compare-") as folder:
            store = Path(folder)
            items = [sidecar.redirect(item, store / f"{n}.txt", store) for n, item in enumerate(self.items)]
            pipeline = Pipeline(settings, SharedEngine(shared_model, settings, on_request), stores=1, log=log)
            with closing(pipeline.run(iter(items))) as outcomes:
                for outcome in outcomes:
                    column.record_outcome(outcome)
                    yield outcome
            column.load_seconds = None if was_loaded else pipeline.load_seconds
