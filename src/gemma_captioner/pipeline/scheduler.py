"""MediaItem -> decode -> Frames -> prompt -> Request -> engine -> Reply -> clean, judge -> Outcome -> store.

The one loop, for images and clips alike, on one machine and on each of many. It knows nothing of folders: items come
in, outcomes go out, each on disk when it comes.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from functools import cached_property
from importlib.metadata import version
from itertools import count
from pathlib import Path

import psutil

from ..config.settings import Settings
from ..config.targets import trainer_of
from ..dataset import sidecar
from ..dataset.journal import Journal, Line, fingerprint, new_run_id
from ..dataset.parquet import Parts
from ..engines import Engine, Session, engine_for
from ..errors import ItemError, StorageError
from ..media.pool import DecodePool
from ..prompts.examples import Shown, decoded, read_examples
from ..prompts.facts import facts_for
from ..types import Captioned, Failed, MediaItem, Outcome, Skipped, most_bytes
from .decoding import decode_settings
from .item import Job
from .planner import Replacing

PIXEL_BYTES = 1 << 30  # of pixels held at once, from decode until the outcome; more for an engine that asks for it
_MOST_JOBS = 256  # items begun and not settled, however small their pixels are
_WAIT_S = 0.02
_MEANWHILE = "a caption was written there meanwhile"


class Pipeline:
    """Raises `UsageError` where prompts, facts or examples cannot be had, before any model is loaded.

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
        self._stores = stores
        self._tell = tell
        self._deadline = deadline
        self._facts = facts_for(settings)
        self._examples: list[Shown] = read_examples(settings.prompting.examples)
        self._as_lines = settings.sampling.for_ is not None and trainer_of(settings.sampling.for_).takes_lines
        self._replacing = Replacing(settings)
        self._asked: dict[int, Job] = {}  # by the id of what the engine is asked
        self._prepared: dict[Path, str | None] = {}  # store -> why it cannot be written
        self._numbers = count()
        self.journal = Journal(self.run_id, self._header())
        self._parts = Parts(self.run_id) if settings.selection.captions_to == "parquet" else None

    @cached_property
    def engine(self) -> Engine:
        """Made when the first file needs it: a finished folder asks for no model."""
        return self._own_engine or engine_for(self.settings, self._tell)

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        """Of --tokenizer. Raises `ModelError` where it cannot be had."""
        if (name := self.settings.judging.tokenizer) is None:
            return None
        from ..engines.local.tokenizer import token_counter

        return token_counter(name, self.settings.model.hf_token)

    def _header(self) -> Line:
        settings = self.settings.model_dump(mode="json", exclude={"model": {"hf_token"}})
        return {"version": version("gemma-captioner"), "settings": settings}

    def run(self, steps: Iterator[MediaItem | Skipped | Failed | None]) -> Generator[Outcome]:
        """Outcomes, in the order in which they come; what `steps` says is skipped or failed is one as it stands.

        None among the steps: there is nothing new at present. Raises `StartError` and its kin.
        """
        jobs: list[Job] = []
        pool: DecodePool | None = None
        session: Session | None = None
        with ExitStack() as stack:
            stack.enter_context(closing(self.journal))
            stack.callback(self._written)  # whatever ends the run
            step, more = None, True
            while True:
                while more and len(jobs) < _MOST_JOBS:
                    if step is None:
                        try:
                            step = next(steps)
                        except StopIteration:
                            more = False
                        if step is None:
                            break
                    if isinstance(step, MediaItem):
                        if self._time_is_up():
                            self.left_by_deadline, more = True, False
                            break
                        if pool is None:
                            pool = stack.enter_context(self._pool())
                            self._examples = decoded(self._examples, pool)
                        started = self._start(step, pool)
                        if started is None:  # its pixels have no room until others are settled
                            break
                        if isinstance(started, Failed):
                            yield self.settled(started)
                        else:
                            jobs.append(started)
                    else:
                        yield self.settled(step)
                    step = None
                if self._time_is_up():
                    self._drop_undone(jobs)
                if not jobs:
                    yield from self._written()  # nobody who waits for an outcome is kept waiting
                    if not more:
                        return
                yield from self._undecodable(jobs)
                if session is None:
                    if not any(job.is_decoded for job in jobs):  # where none can be, no model is wanted
                        time.sleep(_WAIT_S / 4)
                        continue
                    # While it loads, the next files decode.
                    loading = time.monotonic()
                    self._tell(self.engine.describe())
                    session = stack.enter_context(self.engine.open())
                    self.load_seconds = time.monotonic() - loading
                self._ask(jobs, session)
                for answer in session.poll(_WAIT_S):
                    assert answer.request_id is not None
                    job = self._asked.pop(answer.request_id)
                    job.hear(answer, self.settings, self._count_tokens)
                    if job.is_over:
                        _drop(job, jobs)
                        if (outcome := job.failed or self._stored(job)) is not None:
                            yield self.settled(outcome)
                if self._parts is not None and self._parts.are_due:
                    yield from self._written()

    def _time_is_up(self) -> bool:
        return time.monotonic() > self._deadline

    def _pool(self) -> DecodePool:
        spec = self.engine.spec
        clip_size = spec.clip_size or spec.size
        wanted = spec.at_once * self.settings.sampling.frames * most_bytes(clip_size)
        return DecodePool(
            spec.size,
            decode_settings(self.settings),
            clip_size=clip_size,
            workers=self.settings.conduct.workers or os.cpu_count() or 1,
            pixel_bytes=max(PIXEL_BYTES, min(wanted, psutil.virtual_memory().available // 4)),
        )

    def _start(self, item: MediaItem, pool: DecodePool) -> Job | Failed | None:
        """None where its pixels have no room now."""
        if item.store not in self._prepared:
            self._prepared[item.store] = self._why_not_writable(item.store)
        if (fault := self._prepared[item.store]) is not None:
            return Failed(item, fault)
        try:
            media = fingerprint(item.path)
        except OSError as error:
            return Failed(item, f"cannot be read ({error.strerror}): mend or remove it")
        decoding = pool.start(item)
        return None if decoding is None else Job(item, media, decoding)

    def _why_not_writable(self, store: Path) -> str | None:
        """None where captions can be written. Raises `StorageError` where they can be written nowhere."""
        try:
            sidecar.prepare(store)
        except StorageError as error:
            if self._stores == 1:
                raise
            return str(error)
        return None

    def _drop_undone(self, jobs: list[Job]) -> None:
        """Time is up: what the model has not begun is left for another run."""
        for job in [job for job in jobs if job.frames is None]:
            _drop(job, jobs)
            self.left_by_deadline = True

    def _undecodable(self, jobs: list[Job]) -> Iterator[Outcome]:
        for job in [job for job in jobs if job.frames is None and job.is_decoded]:
            if isinstance(failed := job.decoding.result(), Failed):
                _drop(job, jobs)
                yield self.settled(failed)

    def _ask(self, jobs: list[Job], session: Session) -> None:
        """Fill what is free with what is decoded, in the order of work."""
        free = session.free
        for job in jobs:
            if free <= 0:
                return
            if job.frames is None:
                if not job.is_decoded or isinstance(frames := job.decoding.result(), Failed):
                    continue  # what has failed since the last look is settled at the next
                job.begin(frames, self.settings, self._facts, self._existing(job.item), lambda: next(self._numbers))
            for ask in job.due()[:free]:
                self._asked[ask.id], ask.in_flight = job, True
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

    def _written(self) -> list[Captioned]:
        """What comes true as a part is written; the lines about it are in the journal by then."""
        if self._parts is None:
            return []
        self.journal.keep()
        return self._parts.write()

    def _stored(self, job: Job) -> Outcome | None:
        """Journal line, then the `.txt`. What somebody wrote there since the run began stays.

        None where it waits for its part of a parquet file to be written.
        """
        item, captioned = job.item, job.captioned(as_lines=self._as_lines)
        try:
            present = sidecar.read(item.caption_path) or None
            replace = self._replacing.allows(item)
            if present and not replace:
                return Skipped(item, _MEANWHILE)
            content = captioned.caption.encode()
            spec, sampling = self.engine.spec, self.settings.sampling
            replaced = None if present is None else present.decode("utf-8", "surrogateescape")
            line = job.line(captioned) | {
                "model": spec.model,
                "revision": spec.revision,
                "recipe": self.settings.recipe(job.kind),
                "span": sampling.span if job.kind == "clip" else None,
                "digest": sidecar.digest(content),
                "replaced": replaced,
            }
            if self._parts is not None:
                self.journal.append(item.store, line, sync=False)
                self._parts.add(captioned, line)
                return None
            sidecar.write(
                item.caption_path,
                content,
                item.store,
                lambda: self.journal.append(item.store, line),
                replace=replace,
            )
        except sidecar.Occupied:
            return Skipped(item, _MEANWHILE)
        except ItemError as error:
            return Failed(item, str(error))
        return captioned

    def settled(self, outcome: Outcome) -> Outcome:
        """The outcome, a failure written into the journal."""
        if isinstance(outcome, Failed):
            line: Line = {"kind": "failure", "path": outcome.item.name, "error": outcome.error}
            if outcome.rejected:
                line["rejected"] = outcome.rejected
            # A folder that cannot be listed or written keeps no journal either; the summary tells of it.
            with suppress(ItemError):
                self.journal.append(outcome.item.store, line, sync=False)
        return outcome


def _drop(job: Job, jobs: list[Job]) -> None:
    jobs.remove(job)
    job.decoding.release()
