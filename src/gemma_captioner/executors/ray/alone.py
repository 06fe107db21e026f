"""What never came back: its actor died, and took its neighbours along. Each such file is run again by itself."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from ...types import Failed, MediaItem
from .crew import Crew
from .worker import Answer, Errand, Worker

_DEATHS = 2  # alone: a machine that is taken away must not look like a file that kills


def each_alone(items: list[MediaItem], errand: Errand, crew: Crew) -> Iterator[Answer | Failed]:
    """One answer a file. A file that kills its actor, again and again, is `Failed` with what Ray says of that death."""
    import ray

    actor: Any = ray.remote(Worker)
    actor = actor.options(num_cpus=crew.cpus, num_gpus=crew.gpus)  # it neither restarts nor tries again
    waiting = deque((item, 0) for item in items)
    idle: list[Any] = [None] * min(crew.actors, len(items))  # None: a place where no actor lives
    busy: dict[Any, tuple[Any, MediaItem, int]] = {}
    while waiting or busy:
        while waiting and idle:
            worker = idle.pop() or actor.remote(errand)
            item, deaths = waiting.popleft()
            busy[worker.answer.remote([item])] = worker, item, deaths
        [done], _ = ray.wait(list(busy), num_returns=1)
        worker, item, deaths = busy.pop(done)
        try:
            yield ray.get(done)
            idle.append(worker)
        except ray.exceptions.RayError as error:
            ray.kill(worker)
            idle.append(None)
            if deaths + 1 < _DEATHS:
                waiting.append((item, deaths + 1))
            else:
                yield Failed(
                    item, f"it kills the process that captions it, {_DEATHS} times alone ({_last_words(error)})"
                )


def _last_words(error: BaseException) -> str:
    """What matters of Ray's account of a death, in one line."""
    cause = getattr(error, "cause", None) or error
    said = " ".join(str(cause).partition("Worker exit detail:")[2].split() or str(cause).split())
    return f"{type(cause).__name__}: {said.partition(' Some common causes')[0][:300]}"
