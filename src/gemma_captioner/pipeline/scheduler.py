"""MediaItem -> decode -> Frames -> prompt -> Request -> engine -> Reply -> clean, judge -> Outcome -> store.

The one loop, for images and clips alike, on one machine and on each of many. It knows nothing of folders: items come
in, outcomes go out, each on disk when it comes.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from itertools import count

import psutil

from ..config.settings import Settings
from ..config.targets import trainer_of
from ..dataset import sidecar
from ..dataset.journal import Line, fingerprint, new_run_id
from ..engines import Engine, Session, engine_for
from ..errors import ItemError
from ..media.pool import DecodePool
from ..prompts.examples import Shown, decoded, read_examples
from ..prompts.facts import facts_for
from ..types import Captioned, Failed, MediaItem, Outcome, Skipped, most_bytes
from .decoding import decode_settings
from .item import Job
from .writer import OutcomeWriter

PIXEL_BYTES = 1 << 30  # of pixels held at once, from decode until the outcome; more for an engine that asks for it
_MOST_JOBS = 256  # items begun and not settled, however small their pixels are
_WAIT_S = 0.02


class Pipeline:
    """One run. Raises `UsageError` where prompts, facts or examples cannot be had, before any model is loaded.

    run_id: a new one, where it is not given. stores: how many folders will hold a journal, where that is known: a
    single one that cannot be written ends the run. tell: is given lines for a person: which model is loaded, and in
    which precision. deadline: of `time.monotonic()`, after which nothing new is begun.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine | None = None,
        *,
        run_id: str | None = None,
        stores: int | None = None,
        tell: Callable[[str], None] = lambda line: None,
        deadline: float = float("inf"),
    ) -> None:
        self.settings = settings
        self.run_id = run_id or new_run_id()
        self.load_seconds = 0.0
        self.left_by_deadline = False
        self._own_engine = engine
        self._tell = tell
        self._deadline = deadline
        self._facts = facts_for(settings)
        self._examples: list[Shown] = read_examples(settings.prompting.examples)
        self._as_lines = settings.sampling.for_ is not None and trainer_of(settings.sampling.for_).takes_lines
        self._jobs: list[Job] = []  # admitted and not settled, in the order of work
        self._in_flight: dict[int, Job] = {}  # by the id of the request that the engine has
        self._request_ids = count()
        self._no_room_yet: MediaItem | None = None  # taken from the steps, its pixels having no room
        self._is_exhausted = False  # nothing more is admitted
        self._resources = ExitStack()  # the decode pool and the session: closed before the writer
        self.writer = OutcomeWriter(settings, self.run_id, stores=stores)

    def run(self, steps: Iterator[MediaItem | Skipped | Failed | None]) -> Generator[Outcome]:
        """Outcomes, in the order in which they come; what `steps` says is skipped or failed is one as it stands.

        None among the steps: there is nothing new at present. Raises `StartError` and its kin.
        """
        session: Session | None = None
        with closing(self.writer), self._resources:
            while True:
                yield from self._admit(steps)
                if self._time_is_up():
                    self._drop_undecoded()
                if not self._jobs:
                    yield from self.writer.flush()  # nobody who waits for an outcome is kept waiting
                    if self._is_exhausted:
                        return
                yield from self._collect_undecodable()
                if session is None and any(job.is_decoded for job in self._jobs):  # no model for broken files alone
                    session = self._load_model()
                if session is None:
                    time.sleep(_WAIT_S / 4)
                    continue
                self._submit(session)
                yield from self._collect(session)
                if self.writer.is_flush_due:
                    yield from self.writer.flush()

    # Admission and decoding

    def _admit(self, steps: Iterator[MediaItem | Skipped | Failed | None]) -> Iterator[Outcome]:
        """Begin items, as many as there is room for; yields what needs no work or cannot be begun."""
        while not self._is_exhausted and len(self._jobs) < _MOST_JOBS:
            try:
                step = self._no_room_yet or next(steps)
            except StopIteration:
                self._is_exhausted = True
                return
            self._no_room_yet = None
            if step is None:
                return
            if not isinstance(step, MediaItem):
                yield self.writer.record(step)
            elif self._time_is_up():
                self._is_exhausted = self.left_by_deadline = True
            elif (job := self._begin(step)) is None:
                self._no_room_yet = step  # until others are settled
                return
            elif isinstance(job, Failed):
                yield self.writer.record(job)
            else:
                self._jobs.append(job)

    def _time_is_up(self) -> bool:
        return time.monotonic() > self._deadline

    def _begin(self, item: MediaItem) -> Job | Failed | None:
        """Start to decode it. None where its pixels have no room now."""
        pool = self._pool
        if (error := self.writer.write_error(item.store)) is not None:
            return Failed(item, error)
        try:
            media = fingerprint(item.path)
        except OSError as unreadable:
            return Failed(item, f"cannot be read ({unreadable.strerror}): mend or remove it")
        decoding = pool.start(item)
        return None if decoding is None else Job(item, media, decoding)

    @cached_property
    def _pool(self) -> DecodePool:
        """Started when the first file needs it; the examples are decoded before anything else."""
        spec = self.engine.spec
        clip_size = spec.clip_size or spec.size
        wanted = spec.at_once * self.settings.sampling.frames * most_bytes(clip_size)
        pool = DecodePool(
            spec.size,
            decode_settings(self.settings),
            clip_size=clip_size,
            workers=self.settings.conduct.workers or os.cpu_count() or 1,
            pixel_bytes=max(PIXEL_BYTES, min(wanted, psutil.virtual_memory().available // 4)),
        )
        self._resources.enter_context(pool)
        self._examples = decoded(self._examples, pool)
        return pool

    def _drop_undecoded(self) -> None:
        """Time is up: what the model has not begun is left for another run."""
        for job in [job for job in self._jobs if job.frames is None]:
            self._release(job)
            self.left_by_deadline = True

    def _collect_undecodable(self) -> Iterator[Outcome]:
        for job in [job for job in self._jobs if job.frames is None and job.is_decoded]:
            if isinstance(failed := job.decoding.result(), Failed):
                self._release(job)
                yield self.writer.record(failed)

    # The model

    @cached_property
    def engine(self) -> Engine:
        """Made when the first file needs it: a finished folder asks for no model."""
        return self._own_engine or engine_for(self.settings, self._tell, self._examples)

    def _load_model(self) -> Session:
        """While it loads, the next files decode."""
        start = time.monotonic()
        self._tell(self.engine.describe())
        session = self._resources.enter_context(self.engine.open())
        self.load_seconds = time.monotonic() - start
        return session

    def _submit(self, session: Session) -> None:
        """Fill what is free with what is decoded, in the order of work."""
        free = session.free
        for job in self._jobs:
            if free <= 0:
                return
            if job.frames is None:
                if not job.is_decoded or isinstance(frames := job.decoding.result(), Failed):
                    continue  # what has failed since the last look is settled at the next
                job.begin(frames, self.settings, self._facts, self._existing(job.item), lambda: next(self._request_ids))
            for ask in job.due()[:free]:
                self._in_flight[ask.id], ask.in_flight = job, True
                session.submit(job.request(ask, self.settings, self._examples))
                free -= 1

    def _existing(self, item: MediaItem) -> str:
        """The caption that is there, where a prompt wants it."""
        if self._facts.used.isdisjoint({"existing", "tags"}):
            return ""
        try:
            return (sidecar.read(item.caption_path) or b"").decode("utf-8", "replace").strip()
        except ItemError:  # what stands in the caption's way is told where it is written
            return ""

    # Outcomes

    def _collect(self, session: Session) -> Iterator[Outcome]:
        """Take the engine's answers; yields the items that are over with them."""
        for answer in session.poll(_WAIT_S):
            assert answer.request_id is not None
            job = self._in_flight.pop(answer.request_id)
            job.hear(answer, self.settings, self._count_tokens)
            if job.is_over:
                self._release(job)
                if (outcome := self._settle(job)) is not None:
                    yield outcome

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        """Of --tokenizer. Raises `ModelError` where it cannot be had."""
        if (name := self.settings.judging.tokenizer) is None:
            return None
        from ..engines.local.tokenizer import token_counter

        return token_counter(name, self.settings.model.hf_token)

    def _release(self, job: Job) -> None:
        self._jobs.remove(job)
        job.decoding.release()

    def _settle(self, job: Job) -> Outcome | None:
        """None while the caption is held for a part of a parquet file."""
        if job.failed is not None:
            return self.writer.record(job.failed)
        captioned = job.captioned(as_lines=self._as_lines)
        return self.writer.store(captioned, self._line(job, captioned))

    def _line(self, job: Job, captioned: Captioned) -> Line:
        """The journal's, with what the run knows and the item does not."""
        spec = self.engine.spec
        return job.line(captioned) | {
            "model": spec.model,
            "revision": spec.revision,
            "recipe": self.settings.recipe(job.kind),
            "span": self.settings.sampling.span if job.kind == "clip" else None,
        }
