"""What never came back: its actor died, and took its neighbours along. Each such file is run again by itself."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from ...types import Failed, MediaItem
from .resources import ActorResources
from .worker import BatchResult, Worker, WorkerConfig

_MAX_DEATHS = 2  # alone: a machine that is taken away must not look like a file that kills


def isolate_retry(
    items: list[MediaItem], config: WorkerConfig, resources: ActorResources
) -> Iterator[BatchResult | Failed]:
    """One answer a file. A file that kills its actor, again and again, is `Failed` with what Ray says of that death."""
    import ray

    actor: Any = ray.remote(Worker)
    actor = actor.options(num_cpus=resources.cpus, num_gpus=resources.gpus)  # it neither restarts nor tries again
    pending = deque((item, 0) for item in items)
    idle: list[Any] = [None] * min(resources.actors, len(items))  # None: a place where no actor lives
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
                    item, f"it kills the process that captions it, {_MAX_DEATHS} times alone ({_death_reason(error)})"
                )


def _death_reason(error: BaseException) -> str:
    """What matters of Ray's account of a death, in one line."""
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).partition("Worker exit detail:")[2].split() or str(cause).split())
    return f"{type(cause).__name__}: {text.partition(' Some common causes')[0][:300]}"
