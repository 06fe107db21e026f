"""One actor: an engine, and a pipeline that never runs dry because several batches feed it at once.

Ray calls it from as many threads as there are batches; each waits for its own files' outcomes. All share one pipeline,
so that the engine's batches are made of whatever is decoded, not of what Ray happened to hand over together.
"""

import os
import pickle
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Self

from ...config.settings import Settings
from ...engines import Engine, EngineSpec, Session, engine_for
from ...errors import CaptionerError
from ...pipeline.scheduler import Pipeline
from ...prompts.examples import read_examples
from ...types import Failed, Kind, MediaItem, Outcome, Reply, Request
from .finished import Finished


@dataclass(frozen=True, slots=True)
class Errand:
    """What every actor is told. deadline: seconds since the epoch. alone: a file at a time, after others died of it."""

    run_id: str
    settings: Settings
    stores: int
    deadline: float = float("inf")
    gpus: float = 0.0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """outcomes: of the files handed over, in their order; None for one that was left as the time was up.

    fault: what ends the whole run. busy: share of its time that the engine had something to do.
    """

    outcomes: list[Outcome | None]
    fault: CaptionerError | None
    worker: str
    busy: float
    load_seconds: float


class Worker:
    """`__call__` is Ray Data's way in, `answer` the plain one."""

    def __init__(self, errand: Errand) -> None:
        import ray

        context = ray.get_runtime_context()
        self._name = context.get_actor_id() or ""
        self._errand = errand
        # Whoever begins where another died asks first what that one had finished.
        is_second = errand.alone or context.was_current_actor_reconstructed
        as_rows = errand.settings.selection.captions_to == "parquet"
        self._finished = Finished(errand.run_id, as_rows=as_rows) if is_second else None
        self._inbox: SimpleQueue[MediaItem] = SimpleQueue()
        self._waiting: dict[MediaItem, Future[Outcome | None]] = {}
        self._lock = threading.Lock()
        self._is_over = False
        self._fault: CaptionerError | None = None
        self._engine: Metered | None = None
        threading.Thread(target=self._work, args=(ready := threading.Event(),), daemon=True).start()
        ready.wait()  # until the model is loaded: no files are handed to an actor that cannot take them

    def __call__(self, batch: Any) -> Any:
        """batch: a pyarrow table with a row: `items`, pickled. The answer, pickled, in a row as well."""
        import pyarrow as pa

        answer = self.answer(pickle.loads(batch["items"][0].as_py()))
        return pa.table({"batch": batch["batch"], "answer": pa.array([pickle.dumps(answer)], pa.binary())})

    def answer(self, items: list[MediaItem]) -> Answer:
        coming = [self._begin(item) for item in items]
        outcomes = [future.result() for future in coming]
        engine = self._engine
        return Answer(
            outcomes,
            self._fault,
            self._name,
            engine.busy if engine else 0.0,
            engine.load_seconds if engine else 0.0,
        )

    def _begin(self, item: MediaItem) -> Future[Outcome | None]:
        future: Future[Outcome | None] = Future()
        before = self._finished.outcome(item) if self._finished else None
        with self._lock:
            if before or self._is_over:
                future.set_result(before)
            else:
                self._waiting[item] = future
                self._inbox.put(item)
        return future

    def _work(self, ready: threading.Event) -> None:
        """The pipeline's thread, and the actor's life: what it cannot go on after, the actor does not survive."""
        try:
            errand = self._errand
            examples = read_examples(errand.settings.prompting.examples)
            self._engine = Metered(engine_for(errand.settings, examples=examples), errand.gpus)
            pipeline = Pipeline(
                errand.settings,
                self._engine,
                run_id=f"{errand.run_id}.{secrets.token_hex(4)}",
                stores=errand.stores,
                deadline=time.monotonic() + errand.deadline - time.time(),
            )
            ready.set()
            for outcome in pipeline.run(self._steps()):
                assert isinstance(outcome.item, MediaItem)
                self._waiting.pop(outcome.item).set_result(outcome)
        except CaptionerError as error:
            self._fault = error
        except BaseException as error:
            if not self._errand.alone:  # where it happened, Ray's log of this actor says; its files are run again
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            for future in self._waiting.values():
                future.set_exception(error)
            return
        finally:
            ready.set()
        with self._lock:
            self._is_over = True
            for future in self._waiting.values():
                future.set_result(None)

    def _steps(self) -> Iterator[MediaItem | None]:
        while True:
            try:
                yield self._inbox.get_nowait()
            except Empty:
                yield None


class Metered:
    """An engine that is loaded from the start, and knows for how much of its time since it had something to do."""

    def __init__(self, engine: Engine, gpus: float) -> None:
        """gpus: below 1.0, the share of its GPU's memory that it keeps to."""
        if 0 < gpus < 1:
            import torch

            torch.cuda.set_per_process_memory_fraction(gpus)
        began = time.monotonic()
        self._engine, self._session = engine, engine.open()
        self._opened = time.monotonic()
        self.load_seconds = self._opened - began
        self._in_flight, self._busy_s, self._since = 0, 0.0, 0.0

    @property
    def busy(self) -> float:
        running = time.monotonic() - self._since if self._in_flight else 0.0
        return (self._busy_s + running) / max(1e-9, time.monotonic() - self._opened)

    @property
    def spec(self) -> EngineSpec:
        return self._engine.spec

    def describe(self) -> str:
        return self._engine.describe()

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        return self._engine.prompt_tokens(prompt, kind, num_frames)

    def open(self) -> Session:
        return self

    @property
    def free(self) -> int:
        return self._session.free

    def submit(self, request: Request) -> None:
        if not self._in_flight:
            self._since = time.monotonic()
        self._in_flight += 1
        self._session.submit(request)

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        answers = self._session.poll(timeout_s)
        if answers:
            self._in_flight -= len(answers)
            if not self._in_flight:
                self._busy_s += time.monotonic() - self._since
        return answers

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
