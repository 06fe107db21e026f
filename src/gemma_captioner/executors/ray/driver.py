"""A run on a cluster: lists and plans the files like a local run, sends paths to actors, yields outcomes."""

import logging
import pickle
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

from ...config.group import parse_duration
from ...errors import StartError
from ...types import MediaItem, Outcome
from ..local import Run
from .isolation import isolate_retry
from .resources import ActorResources, connect
from .worker import BatchResult, Worker, WorkerConfig

# An actor has 16 * 16 files at once: two engine batches of 64, and as many files that are decoded ahead. The batches
# are small so that all actors finish at nearly the same time.
_BATCH_SIZE, _CONCURRENT_BATCHES = 16, 16
_BLOCK_BYTES = 1 << 20  # Ray Data reserves this much memory for each batch in progress
_NO_PROGRESS_S = 1800.0  # Ray Data gives up after this time; a model download or a machine that starts takes long


class BatchQueue:
    """The files to caption, in pickled batches for Ray."""

    def __init__(self) -> None:
        self.files = 0  # the number of files
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
        """Yield the items of the batches with these indices."""
        for batch in batches:
            yield from pickle.loads(self.batches[batch])

    def split_for(self, actors: int) -> None:
        """Make the batches smaller if there are too few for each actor to get several."""
        size = max(1, self.files // (8 * actors))
        if size < _BATCH_SIZE:
            items = list(self.items(range(len(self.batches))))
            self.batches = [pickle.dumps(items[i : i + size]) for i in range(0, len(items), size)]


class ClusterRun(Run):
    """A `Run` on Ray actors. Its own pipeline only records the items that need no model."""

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
                lost = yield from self._run_batches(queue, config, resources)
                for result in isolate_retry(list(queue.items(lost)), config, resources):
                    if isinstance(result, BatchResult):
                        yield from self._outcomes_of(result)
                    else:
                        yield self.pipeline.writer.record(result)

    def _worker_config(self, resources: ActorResources) -> WorkerConfig:
        """The settings for any machine: absolute paths, and one decode worker per CPU of the actor."""
        settings = self.settings.with_absolute_paths()
        stop_after, workers = settings.run_options.stop_after, settings.run_options.workers
        settings = settings.with_values("run_options", workers=workers or max(1, round(resources.cpus)))
        return WorkerConfig(
            run_id=self.run_id,
            settings=settings,
            stores=len(self.stores),
            deadline=time.time() + parse_duration(stop_after) if stop_after else float("inf"),
            gpus=resources.gpus,
        )

    def _run_batches(
        self, queue: BatchQueue, config: WorkerConfig, resources: ActorResources
    ) -> Generator[Outcome, None, list[int]]:
        """Yield the outcomes of all batches that return. Return the indices of the others.

        Ray Data gives up when actors die repeatedly. Then the batches that it had not started are run again. If no
        batch returned, raises `StartError`.
        """
        import ray

        lost: list[int] = []
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
                return lost + missing
            if not returned:
                reason = str(gave_up).strip()[-500:]
                raise StartError(
                    f"all actors died before they captioned a file: check memory and GPUs of the nodes ({reason})"
                ) from gave_up
            lost += [batch for batch in missing if batch < max(returned)]
            pending = [batch for batch in missing if batch > max(returned)]
        return lost

    def _outcomes_of(self, result: BatchResult) -> Iterator[Outcome]:
        if result.error is not None:
            raise result.error
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
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # the run reports dead actors itself
    rows = [{"batch": batch, "items": queue.batches[batch]} for batch in pending]
    with warnings.catch_warnings():  # Ray 2.64 removes some of these arguments; earlier versions have no replacement
        warnings.simplefilter("ignore", RayDeprecationWarning)
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=[config],
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(resources.actors, len(rows)),
                max_concurrent_calls_per_actor=_CONCURRENT_BATCHES,
                # Two batches wait at each actor. A longer queue would take work from actors that start later.
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
