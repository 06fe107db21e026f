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
from .completed import CompletedItems


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What every actor is told. deadline: seconds since the epoch. isolated: a file at a time, after others died of it."""

    run_id: str
    settings: Settings
    stores: int
    deadline: float = float("inf")
    gpus: float = 0.0
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """outcomes: of the files handed over, in their order; None for one that was left as the time was up.

    fault: what ends the whole run. utilization: share of its time that the engine had something to do.
    """

    outcomes: list[Outcome | None]
    fault: CaptionerError | None
    worker: str
    utilization: float
    load_seconds: float


class Worker:
    """`__call__` is Ray Data's way in, `process` the plain one."""

    def __init__(self, config: WorkerConfig) -> None:
        import ray

        context = ray.get_runtime_context()
        self._name = context.get_actor_id() or ""
        self._worker_config = config
        # Whoever begins where another died asks first what that one had finished.
        is_retry = config.isolated or context.was_current_actor_reconstructed
        as_rows = config.settings.selection.captions_to == "parquet"
        self._completed = CompletedItems(config.run_id, as_rows=as_rows) if is_retry else None
        self._inbox: SimpleQueue[MediaItem] = SimpleQueue()
        self._waiting: dict[MediaItem, Future[Outcome | None]] = {}
        self._lock = threading.Lock()
        self._is_done = False
        self._fault: CaptionerError | None = None
        self._engine: InstrumentedEngine | None = None
        threading.Thread(target=self._work, args=(ready := threading.Event(),), daemon=True).start()
        ready.wait()  # until the model is loaded: no files are handed to an actor that cannot take them

    def __call__(self, batch: Any) -> Any:
        """batch: a pyarrow table with a row: `items`, pickled. The answer, pickled, in a row as well."""
        import pyarrow as pa

        result = self.process(pickle.loads(batch["items"][0].as_py()))
        return pa.table({"batch": batch["batch"], "answer": pa.array([pickle.dumps(result)], pa.binary())})

    def process(self, items: list[MediaItem]) -> BatchResult:
        futures = [self._enqueue(item) for item in items]
        outcomes = [future.result() for future in futures]
        engine = self._engine
        return BatchResult(
            outcomes,
            self._fault,
            self._name,
            engine.utilization if engine else 0.0,
            engine.load_seconds if engine else 0.0,
        )

    def _enqueue(self, item: MediaItem) -> Future[Outcome | None]:
        future: Future[Outcome | None] = Future()
        before = self._completed.outcome(item) if self._completed else None
        with self._lock:
            if before or self._is_done:
                future.set_result(before)
            else:
                self._waiting[item] = future
                self._inbox.put(item)
        return future

    def _work(self, ready: threading.Event) -> None:
        """The pipeline's thread, and the actor's life: what it cannot go on after, the actor does not survive."""
        try:
            config = self._worker_config
            examples = read_examples(config.settings.prompting.examples)
            self._engine = InstrumentedEngine(engine_for(config.settings, examples=examples), config.gpus)
            pipeline = Pipeline(
                config.settings,
                self._engine,
                run_id=f"{config.run_id}.{secrets.token_hex(4)}",
                stores=config.stores,
                deadline=time.monotonic() + config.deadline - time.time(),
            )
            ready.set()
            for outcome in pipeline.run(self._inbox_items()):
                assert isinstance(outcome.item, MediaItem)
                self._waiting.pop(outcome.item).set_result(outcome)
        except CaptionerError as error:
            self._fault = error
        except BaseException as error:
            if (
                not self._worker_config.isolated
            ):  # where it happened, Ray's log of this actor says; its files are run again
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            for future in self._waiting.values():
                future.set_exception(error)
            return
        finally:
            ready.set()
        with self._lock:
            self._is_done = True
            for future in self._waiting.values():
                future.set_result(None)

    def _inbox_items(self) -> Iterator[MediaItem | None]:
        while True:
            try:
                yield self._inbox.get_nowait()
            except Empty:
                yield None


class InstrumentedEngine:
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
    def utilization(self) -> float:
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
    def available_slots(self) -> int:
        return self._session.available_slots

    def submit(self, request: Request) -> None:
        if not self._in_flight:
            self._since = time.monotonic()
        self._in_flight += 1
        self._session.submit(request)

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        replies = self._session.poll(timeout_s)
        if replies:
            self._in_flight -= len(replies)
            if not self._in_flight:
                self._busy_s += time.monotonic() - self._since
        return replies

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
