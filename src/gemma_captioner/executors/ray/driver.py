"""A run over many actors: lists and plans as on one machine, hands out paths, counts outcomes."""

import logging
import pickle
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from ...config.group import parse_duration
from ...errors import StartError
from ...types import MediaItem, Outcome
from ..local import Run
from .isolation import isolate_retry
from .resources import ActorResources, connect
from .worker import BatchResult, Worker, WorkerConfig

# Files that an actor has in hand at once: two batches of 64, which an engine takes, and as many decoded ahead. They
# come in small batches, so that at the end all actors run out at nearly the same time.
_BATCH_SIZE, _CONCURRENT_BATCHES = 16, 16
_BLOCK_BYTES = 1 << 20  # Ray Data keeps room for one of this size for each batch in work
_NO_PROGRESS_S = 1800.0  # until it gives up: a model that is downloaded, a machine that is waited for take their time


class BatchQueue:
    """The files that are handed out, in batches as Ray is to get them, and which batches have come back."""

    def __init__(self) -> None:
        self.files = 0
        self.batches: list[bytes] = []
        self._partial_batch: list[MediaItem] = []

    def add(self, item: MediaItem) -> None:
        self.files += 1
        self._partial_batch.append(item)
        if len(self._partial_batch) == _BATCH_SIZE:
            self.close()

    def close(self) -> None:
        if self._partial_batch:
            self.batches.append(pickle.dumps(self._partial_batch))
            self._partial_batch = []

    def items(self, batches: Iterable[int]) -> Iterator[MediaItem]:
        for batch in batches:
            yield from pickle.loads(self.batches[batch])

    def split_for(self, actors: int) -> None:
        """Smaller batches, where there are too few for every actor to get several."""
        size = max(1, self.files // (8 * actors))
        if size < _BATCH_SIZE:
            items = list(self.items(range(len(self.batches))))
            self.batches = [pickle.dumps(items[i : i + size]) for i in range(0, len(items), size)]


class ClusterRun(Run):
    """`Run`, with the work done by Ray's actors. Its own pipeline settles what needs none of them."""

    def _work(self) -> Generator[Outcome]:
        queue = BatchQueue()
        with closing(self.pipeline.writer):
            for step in self._plan_items():
                if isinstance(step, MediaItem):
                    queue.add(step)
                else:
                    yield self.pipeline.writer.record(step)
            queue.close()
            self.total = queue.files
            if not queue.files:
                return
            with connect(self.settings.cluster) as resources:
                self.log(str(resources) + (f"; dashboard: http://{resources.dashboard}" if resources.dashboard else ""))
                queue.split_for(resources.actors)
                config = self._worker_config(resources)
                lost: list[int] = []
                yield from self._run_batches(queue, config, resources, lost)
                for result in isolate_retry(list(queue.items(lost)), config, resources):
                    if isinstance(result, BatchResult):
                        yield from self._outcomes_of(result)
                    else:
                        yield self.pipeline.writer.record(result)

    def _worker_config(self, resources: ActorResources) -> WorkerConfig:
        """The settings as they hold on any machine: paths absolute, decoding processes by an actor's share."""
        conduct = self.settings.conduct
        workers = conduct.workers or max(1, round(resources.cpus))
        model = self.settings.model
        if Path(model.model).exists():
            model = model.model_copy(update={"model": str(Path(model.model).absolute())})
        prompting = self.settings.prompting
        prompting = prompting.model_copy(
            update={name: path.absolute() for name in ("facts", "examples") if (path := getattr(prompting, name))}
        )
        settings = self.settings.model_copy(
            update={
                "conduct": conduct.model_copy(update={"workers": workers}),
                "model": model,
                "prompting": prompting,
            }
        )
        stop_after = conduct.stop_after
        return WorkerConfig(
            self.run_id,
            settings,
            len(self.stores),
            time.time() + parse_duration(stop_after) if stop_after else float("inf"),
            resources.gpus,
        )

    def _run_batches(
        self, queue: BatchQueue, config: WorkerConfig, resources: ActorResources, lost: list[int]
    ) -> Iterator[Outcome]:
        """Every outcome that comes back; `lost` is given the batches that do not.

        Where actors die again and again, Ray Data gives up: what it had not reached is begun anew, and if nothing at
        all came back, the run ends. Raises `StartError`.
        """
        import ray

        pending = list(range(len(queue.batches)))
        while pending:
            returned: set[int] = set()
            gave_up: Exception | None = None
            try:
                for batch, result in _batch_results(queue, pending, config, resources, self.settings.cluster.attempts):
                    if batch not in returned:
                        returned.add(batch)
                        self.utilization[result.worker] = result.utilization
                        yield from self._outcomes_of(result)
            except ray.exceptions.RayError as error:
                gave_up = error
            missing = [batch for batch in pending if batch not in returned]
            if gave_up is None:
                lost += missing
                return
            if not returned:
                raise StartError(f"the actors die, and no file comes back: {str(gave_up).strip()[-500:]}") from gave_up
            lost += [batch for batch in missing if batch < max(returned)]
            pending = [batch for batch in missing if batch > max(returned)]

    def _outcomes_of(self, result: BatchResult) -> Iterator[Outcome]:
        if result.fault is not None:
            raise result.fault
        self.pipeline.load_seconds = max(self.load_seconds, result.load_seconds)
        for outcome in result.outcomes:
            if outcome is None:
                self.pipeline.stopped_by_deadline = True
            else:
                yield outcome


def _batch_results(
    queue: BatchQueue, pending: list[int], config: WorkerConfig, resources: ActorResources, attempts: int
) -> Iterator[tuple[int, BatchResult]]:
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.max_errored_blocks = 2 * _CONCURRENT_BATCHES * (resources.actors + 1)
    context.max_consecutive_actor_init_deaths = 3 * resources.actors
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a dead actor is ours to tell of, when it matters
    rows = [{"batch": batch, "items": queue.batches[batch]} for batch in pending]
    with warnings.catch_warnings():  # keyword arguments of Ray's go away in 2.64; until then there is no other way
        warnings.simplefilter("ignore", RayDeprecationWarning)
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=[config],
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(resources.actors, len(rows)),
                max_concurrent_calls_per_actor=_CONCURRENT_BATCHES,
                # One waits for each of those that end; none takes what another, ready a little later, could begin.
                max_tasks_in_flight_per_actor=min(2 + _CONCURRENT_BATCHES, -(-len(rows) // resources.actors)),
                enable_true_multi_threading=True,
            ),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_restarts=-1,
            max_task_retries=attempts - 1,
        )
    for row in data.iter_rows():
        yield row["batch"], pickle.loads(row["answer"])
