"""The Ray actor: one engine and one pipeline, which several batches feed at once.

Ray calls the actor from one thread per batch. Each thread waits for the outcomes of its own files. All threads share
one pipeline, so the engine can combine files of different Ray batches into one of its own.
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
from typing import Any

from ...config.settings import Settings
from ...engines import Engine, EngineSpec, Session, engine_for
from ...errors import CaptionerError
from ...pipeline.scheduler import Pipeline
from ...prompts.context import Context
from ...types import Failed, Kind, MediaItem, Outcome, Reply, Request
from .completed import CompletedItems


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of each actor."""

    run_id: str
    settings: Settings
    stores: int  # the number of stores
    deadline: float = float("inf")  # in seconds since the epoch
    gpus: float = 0.0  # per actor
    isolated: bool = False  # whether the actor retries lost files one at a time


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one batch."""

    outcomes: list[Outcome | None]  # in the order of the files; None for a file that the deadline left unfinished
    error: CaptionerError | None  # ends the whole run
    worker: str  # the actor id
    utilization: float  # the share of time that the engine was busy
    load_seconds: float


class Worker:
    """The actor class. Ray Data calls `__call__`; `isolate_retry` calls `process`."""

    def __init__(self, config: WorkerConfig) -> None:
        import ray

        context = ray.get_runtime_context()
        self._name = context.get_actor_id() or ""
        self._worker_config = config
        # A restarted or isolated actor gets files that another actor may have finished.
        is_retry = config.isolated or context.was_current_actor_reconstructed
        as_rows = config.settings.selection.captions_to == "parquet"
        self._completed = CompletedItems(config.run_id, as_rows=as_rows) if is_retry else None
        self._inbox: SimpleQueue[MediaItem] = SimpleQueue()
        self._waiting: dict[MediaItem, Future[Outcome | None]] = {}
        self._lock = threading.Lock()
        self._is_done = False
        self._error: CaptionerError | None = None
        self._engine: InstrumentedEngine | None = None
        threading.Thread(target=self._work, args=(ready := threading.Event(),), daemon=True).start()
        ready.wait()  # until the model is loaded, so that Ray sends files only to actors that can caption them

    def __call__(self, batch: Any) -> Any:
        """Process a pyarrow table with one row, whose `items` are pickled. Returns a row with the pickled result."""
        import pyarrow as pa

        result = self.process(pickle.loads(batch["items"][0].as_py()))
        return pa.table({"batch": batch["batch"], "answer": pa.array([pickle.dumps(result)], pa.binary())})

    def process(self, items: list[MediaItem]) -> BatchResult:
        """Caption the items, and wait for their outcomes."""
        futures = [self._enqueue(item) for item in items]
        outcomes = [future.result() for future in futures]
        engine = self._engine
        return BatchResult(
            outcomes,
            self._error,
            self._name,
            engine.utilization if engine else 0.0,
            engine.load_seconds if engine else 0.0,
        )

    def _enqueue(self, item: MediaItem) -> Future[Outcome | None]:
        future: Future[Outcome | None] = Future()
        completed = self._completed.outcome(item) if self._completed else None
        with self._lock:
            if completed or self._is_done:
                future.set_result(completed)
            else:
                self._waiting[item] = future
                self._inbox.put(item)
        return future

    def _work(self, ready: threading.Event) -> None:
        """Run the pipeline in a thread. An unexpected error ends the whole actor."""
        pipeline: Pipeline | None = None
        try:
            config = self._worker_config
            context = Context(config.settings).planned
            self._engine = InstrumentedEngine(engine_for(config.settings, context=context), config.gpus)
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
            self._error = error
            for stored in pipeline.writer.take_stored() if pipeline else ():
                self._waiting.pop(stored.item).set_result(stored)
        except BaseException as error:
            if not self._worker_config.isolated:
                traceback.print_exc()  # into Ray's log of this actor
                sys.stderr.flush()
                os._exit(1)  # Ray sends the files to another actor
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


class InstrumentedEngine(Session):
    """An engine that is loaded at once and measures its utilization."""

    def __init__(self, engine: Engine, gpus: float) -> None:
        """Load the engine. If `gpus` is below 1.0, it is also the share of GPU memory that the engine may use."""
        if 0 < gpus < 1:
            import torch

            torch.cuda.set_per_process_memory_fraction(gpus)
        start = time.monotonic()
        self._engine, self._session = engine, engine.open()
        self._opened_at = time.monotonic()
        self.load_seconds = self._opened_at - start
        self._in_flight, self._busy_s, self._busy_since = 0, 0.0, 0.0

    @property
    def utilization(self) -> float:
        """The share of the time since loading that the engine was busy."""
        running = time.monotonic() - self._busy_since if self._in_flight else 0.0
        return (self._busy_s + running) / max(1e-9, time.monotonic() - self._opened_at)

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
            self._busy_since = time.monotonic()
        self._in_flight += 1
        self._session.submit(request)

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        replies = self._session.poll(timeout_s)
        if replies:
            self._in_flight -= len(replies)
            if not self._in_flight:
                self._busy_s += time.monotonic() - self._busy_since
        return replies

    def close(self) -> None:
        self._session.close()
