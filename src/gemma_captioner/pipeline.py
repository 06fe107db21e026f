"""paths -> plan -> MediaItem -> decode -> Frames -> prompt -> Request -> engine -> Reply -> clean, judge
-> Outcome -> store. The one loop, for images and clips alike."""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import psutil

from .captions.clean import bare, dressed, to_last_sentence
from .captions.judge import UNFIT, judge
from .captions.limits import length_flags
from .engines import Engine, Session, engine_for
from .errors import ItemError, StorageError
from .media.discover import roots_of
from .media.pool import DecodePool, Decoding
from .plan import Plan
from .prompts import facts_for, filled, values_of
from .records import Captioned, Failed, Frames, MediaItem, Outcome, Reply, Request, Skipped, most_bytes
from .settings import Settings, seconds
from .store import sidecar
from .store.journal import Journal, Line, fingerprint, new_run_id

PIXEL_BYTES = 1 << 30  # of pixels held at once, from decode until the outcome; more for an engine that asks for it
_MOST_JOBS = 256  # items begun and not settled, however small their pixels are
_WAIT_S = 0.02
_RETRY_TEMPERATURE = 0.7
_MEANWHILE = "a caption was written there meanwhile"


@dataclass(slots=True)
class _Job:
    """An item whose pixels are held: being decoded, or with the engine."""

    id: int
    item: MediaItem
    media: str  # its fingerprint before it was read
    decoding: Decoding
    frames: Frames | None = None  # set once the engine has them
    prompt: str = ""
    values: Mapping[str, str | int | float] = field(default_factory=dict)  # of the prompt's variables
    rejected: list[str] = field(default_factory=list)  # raw replies that were not fit
    is_asked: bool = False  # the engine has it

    @property
    def ready(self) -> bool:
        return self.decoding.done()


class Run:
    """One pass over `paths`: iterate it for the outcomes; when one comes, its caption is on disk.

    `close` it when leaving early: the work in flight is dropped, what is finished is kept. `tell` is given lines for a
    person: which model is loaded, and in which precision. Raises `StartError` and its kin.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        settings: Settings,
        engine: Engine | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings = settings
        self._own_engine = engine
        self._facts = facts_for(settings)
        self.roots = roots_of(paths, settings.selection.output)
        self.plan = Plan(self.roots, settings)
        self.run_id = new_run_id()
        self.total: int | None = None  # files to caption, once they are counted
        self.load_seconds = 0.0
        self.left_by_deadline = False
        self._tell = tell
        self._prepared: dict[Path, str | None] = {}  # store -> why it cannot be written
        self._numbers = count()
        self._journal = Journal(self.run_id, self._header())
        self._outcomes = self._run()

    @cached_property
    def engine(self) -> Engine:
        """Made when the first file needs it: a finished folder asks for no model."""
        return self._own_engine or engine_for(self.settings, self._tell)

    @property
    def stores(self) -> list[Path]:
        """The folders that hold a journal of this run, each once."""
        return list(dict.fromkeys(root.store for root in self.roots))

    def __iter__(self) -> Iterator[Outcome]:
        return self._outcomes

    def close(self) -> None:
        self._outcomes.close()

    @cached_property
    def _token_counter(self) -> Callable[[str], int] | None:
        """Of --tokenizer. Raises `ModelError` where it cannot be had."""
        if (name := self.settings.judging.tokenizer) is None:
            return None
        from .engines.tokenizer import token_counter

        return token_counter(name, self.settings.model.hf_token)

    def _header(self) -> Line:
        settings = self.settings.model_dump(mode="json", exclude={"model": {"hf_token"}})
        return {"version": version("gemma-captioner"), "settings": settings}

    def _run(self) -> Generator[Outcome]:
        counting = threading.Thread(target=self._count, name="count", daemon=True)
        jobs: dict[int, _Job] = {}
        pool: DecodePool | None = None
        session: Session | None = None
        with ExitStack() as stack:
            stack.enter_context(closing(self._journal))
            deadline = time.monotonic() + seconds(self.settings.conduct.stop_after or "36500d")
            steps = iter(self.plan)
            step = next(steps, None)
            while True:
                while step is not None and len(jobs) < _MOST_JOBS:
                    if isinstance(step, MediaItem):
                        if time.monotonic() > deadline:
                            self.left_by_deadline, step = True, None
                            break
                        if pool is None:
                            pool = stack.enter_context(self._pool())
                            counting.start()  # not before there is work: it walks the folders once more
                        started = self._start(step, pool)
                        if started is None:  # its pixels have no room until others are settled
                            break
                        if isinstance(started, Failed):
                            yield self._settled(started)
                        else:
                            jobs[started.id] = started
                    else:
                        yield self._settled(step)
                    step = next(steps, None)
                if time.monotonic() > deadline:
                    self._drop_undone(jobs)
                if not jobs:
                    return
                for failed in self._undecodable(jobs):
                    yield self._settled(failed)
                if session is None:
                    if not any(job.ready for job in jobs.values()):  # where none can be decoded, no model is wanted
                        time.sleep(_WAIT_S / 4)
                        continue
                    # While it loads, the next files decode.
                    loading = time.monotonic()
                    self._tell(self.engine.describe())
                    session = stack.enter_context(self.engine.open())
                    self.load_seconds = time.monotonic() - loading
                self._submit_decoded(jobs, session)
                for answer in session.poll(_WAIT_S):
                    assert answer.request_id is not None
                    job = jobs[answer.request_id]
                    if (outcome := self._outcome(job, answer)) is not None:
                        jobs.pop(job.id).decoding.release()
                        yield self._settled(outcome)

    def _count(self) -> None:
        with suppress(OSError):  # without a total there is no estimate; the run itself says what is wrong
            self.total = sum(isinstance(step, MediaItem) for step in Plan(self.roots, self.settings))

    def _pool(self) -> DecodePool:
        spec = self.engine.spec
        clip_size = spec.clip_size or spec.size
        wanted = spec.at_once * self.settings.sampling.frames * most_bytes(clip_size)
        return DecodePool(
            spec.size,
            self.settings.reading,
            self.settings.sampling,
            clip_size=clip_size,
            workers=self.settings.conduct.workers or os.cpu_count() or 1,
            pixel_bytes=max(PIXEL_BYTES, min(wanted, psutil.virtual_memory().available // 4)),
        )

    def _start(self, item: MediaItem, pool: DecodePool) -> _Job | Failed | None:
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
        return None if decoding is None else _Job(next(self._numbers), item, media, decoding)

    def _why_not_writable(self, store: Path) -> str | None:
        """None where captions can be written. Raises `StorageError` where they can be written nowhere."""
        try:
            sidecar.prepare(store)
        except StorageError as error:
            if len(self.stores) == 1:
                raise
            return str(error)
        return None

    def _drop_undone(self, jobs: dict[int, _Job]) -> None:
        """Time is up: what the model has not begun is left for another run."""
        for job in [job for job in jobs.values() if job.frames is None]:
            jobs.pop(job.id).decoding.release()
            self.left_by_deadline = True

    def _undecodable(self, jobs: dict[int, _Job]) -> list[Failed]:
        failures = []
        for job in [job for job in jobs.values() if job.frames is None and job.ready]:
            decoded = job.decoding.result()
            if isinstance(decoded, Failed):
                failures.append(decoded)
                jobs.pop(job.id).decoding.release()
        return failures

    def _submit_decoded(self, jobs: dict[int, _Job], session: Session) -> None:
        """Fill what is free with what is decoded, in the order of work."""
        free = session.free
        for job in jobs.values():
            if free == 0:
                break
            if job.is_asked or not job.ready:
                continue
            decoded = job.decoding.result()
            if isinstance(decoded, Failed):  # since the last look: settled at the next
                continue
            if job.frames is None:
                job.values = self._values(job.item, decoded)
                job.prompt = filled(self.settings.prompts[decoded.kind], job.values)
            job.frames, job.is_asked = decoded, True
            session.submit(self._request(job, decoded))
            free -= 1

    def _values(self, item: MediaItem, frames: Frames) -> Mapping[str, str | int | float]:
        existing = ""
        with suppress(ItemError):  # what stands in the caption's way is told where it is written
            existing = (sidecar.read(item.caption_path) or b"").decode("utf-8", "replace").strip()
        trigger = self.settings.prompting.trigger
        return values_of(item, frames, trigger=trigger, existing=existing, facts=self._facts.about(item))

    def _request(self, job: _Job, frames: Frames) -> Request:
        """A second try samples, with a seed of its own: a greedy answer would be the same again."""
        generation, tried = self.settings.generation, len(job.rejected)
        seed = f"{generation.seed} {job.item.name}" + (f" {tried}" if tried else "")
        return Request(
            id=job.id,
            item=job.item,
            frames=frames,
            prompt=job.prompt,
            max_new_tokens=self.settings.max_new_tokens(frames.kind),
            temperature=max(generation.temperature, _RETRY_TEMPERATURE) if tried else generation.temperature,
            seed=crc32(seed.encode("utf-8", "replace")),
        )

    def _outcome(self, job: _Job, answer: Reply | Failed) -> Outcome | None:
        """Clean and judge a reply, and store what is fit. None where it is to be asked again."""
        if isinstance(answer, Failed):
            return answer
        assert job.frames is not None
        settings = self.settings
        said = bare(answer.text, ascii_punctuation=settings.prompting.punctuation == "ascii")
        truncated = answer.finish_reason == "length" and bool(said)
        if truncated:
            said = to_last_sentence(said)
        flags = judge(said, prompt=job.prompt, language=settings.judging.language)
        if unfit := [flag for flag in flags if flag in UNFIT]:
            job.rejected.append(answer.text)
            if len(job.rejected) <= settings.judging.retries:
                job.is_asked = False
                return None
            return Failed(job.item, UNFIT[unfit[0]], rejected=tuple(job.rejected))
        put = settings.prompting
        prefix, suffix = (filled(text, job.values) for text in (put.prefix, put.suffix))
        caption = dressed(said, trigger=put.trigger, prefix=prefix, suffix=suffix)
        flags += ("truncated",) * truncated + length_flags(caption, settings.judging.target, self._token_counter)
        flags = job.frames.flags + answer.flags + flags
        captioned = Captioned(
            item=job.item,
            caption=caption,
            flags=flags,
            frames=len(job.frames.times_s),
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            seconds=answer.seconds,
        )
        try:
            return self._store(job, answer, captioned)
        except ItemError as error:
            return Failed(job.item, str(error))

    def _store(self, job: _Job, reply: Reply, captioned: Captioned) -> Captioned | Skipped:
        """Journal line, then the `.txt`. What somebody wrote there since the run began stays."""
        item, existing = job.item, self.settings.selection.existing
        present = sidecar.read(item.caption_path) or None
        if present and (existing == "skip" or (existing == "stale" and not self.plan.is_stale(item))):
            return Skipped(item, _MEANWHILE)
        content = captioned.caption.encode()
        assert job.frames is not None
        line = {
            "kind": "caption",
            "path": item.name,
            "caption_file": item.caption_file,
            "media": job.media,
            "model": self.engine.spec.model,
            "revision": self.engine.spec.revision,
            "recipe": self.settings.recipe(job.frames.kind),
            "media_kind": job.frames.kind,
            "prompt": job.prompt,
            "span": self.settings.sampling.span if job.frames.kind == "clip" else None,
            "frame_times_s": job.frames.times_s,
            "raw": [reply.text],
            "finish_reason": reply.finish_reason,
            "flags": captioned.flags,
            "prompt_tokens": reply.prompt_tokens,
            "new_tokens": reply.new_tokens,
            "seconds": round(reply.seconds, 3),
            "retries": len(job.rejected),
            "rejected": job.rejected,
            "digest": sidecar.digest(content),
            "replaced": None if present is None else present.decode("utf-8", "surrogateescape"),
        }
        try:
            sidecar.write(
                item.caption_path,
                content,
                item.store,
                lambda: self._journal.append(item.store, line),
                replace=existing != "skip",
            )
        except sidecar.Occupied:
            return Skipped(item, _MEANWHILE)
        return captioned

    def _settled(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Failed):
            line: Line = {"kind": "failure", "path": outcome.item.name, "error": outcome.error}
            if outcome.rejected:
                line["rejected"] = outcome.rejected
            # A folder that cannot be listed or written keeps no journal either; the summary tells of it.
            with suppress(ItemError):
                self._journal.append(outcome.item.store, line, sync=False)
        return outcome


def caption(*paths: str | Path, engine: Engine | str | None = None, **settings: Any) -> Iterator[Outcome]:
    """Caption images and clips; yields an outcome a file, each on disk when it comes.

    paths: folders and files. settings: the command line's options with `_` for `-`: `model="demo"`, `frames=8`,
    `existing="stale"`, `image={"prompt": "..."}`. engine: as --engine takes it, or one of your own (see `Engine`).

    Raises `CaptionerError`: `UsageError` for a setting that makes no sense, `StartError` where the run cannot go on.
    """
    own = None if isinstance(engine, str) else engine
    named = {"engine": engine} if isinstance(engine, str) else {}
    with closing(Run(map(Path, paths), Settings.of(settings, named), own)) as run:
        yield from run
