"""Retries lost files one at a time. When an actor dies, all files in its batches are lost, whichever file caused it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...types import Failed, MediaItem
from .resources import ActorResources
from .worker import BatchResult, Worker, WorkerConfig

_MAX_DEATHS = 2  # per file; one death may have another cause, such as a node that was taken away


def isolate_retry(
    items: list[MediaItem], config: WorkerConfig, resources: ActorResources
) -> Iterator[BatchResult | Failed]:
    """Caption each file alone in an actor. A file whose actor dies repeatedly becomes a `Failed`."""
    import ray

    config = replace(config, isolated=True)  # a dead actor may have finished the file: its outcome is in the journal
    actor: Any = ray.remote(Worker)
    actor = actor.options(num_cpus=resources.cpus, num_gpus=resources.gpus)  # by default, without restarts and retries
    pending = deque((item, 0) for item in items)
    idle: list[Any] = [None] * min(resources.actors, len(items))  # None: no actor yet
    in_flight: dict[Any, tuple[Any, MediaItem, int]] = {}
    while pending or in_flight:
        while pending and idle:
            worker = idle.pop() or actor.remote(config)
            item, deaths = pending.popleft()
            in_flight[worker.process.remote([item])] = worker, item, deaths
        [done], _ = ray.wait(list(in_flight), num_returns=1)
        worker, item, deaths = in_flight.pop(done)
        try:
            yield ray.get(done)
            idle.append(worker)
        except ray.exceptions.RayError as error:
            ray.kill(worker)
            idle.append(None)
            if deaths + 1 < _MAX_DEATHS:
                pending.append((item, deaths + 1))
            else:
                yield Failed(
                    item,
                    f"the process that captioned this file alone died {_MAX_DEATHS} times ({_death_reason(error)}): "
                    "remove or replace the file",
                )


def _death_reason(error: BaseException) -> str:
    """The cause in Ray's error message, in one line."""
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).partition("Worker exit detail:")[2].split() or str(cause).split())
    return f"{type(cause).__name__}: {text.partition(' Some common causes')[0][:300]}"
