"""A run over many actors: lists and plans as on one machine, hands out paths, counts outcomes."""

import logging
import pickle
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from ...config.group import seconds
from ...errors import StartError
from ...types import MediaItem, Outcome
from ..local import Run
from .alone import each_alone
from .crew import Crew, joined
from .worker import Answer, Errand, Worker

# Files that an actor has in hand at once: two batches of 64, which an engine takes, and as many decoded ahead. They
# come in small batches, so that at the end all actors run out at nearly the same time.
_BATCH, _BATCHES_AT_ONCE = 16, 16
_BLOCK_BYTES = 1 << 20  # Ray Data keeps room for one of this size for each batch in work
_NO_PROGRESS_S = 1800.0  # until it gives up: a model that is downloaded, a machine that is waited for take their time


class Packed:
    """The files that are handed out, in batches as Ray is to get them, and which batches have come back."""

    def __init__(self) -> None:
        self.files = 0
        self.batches: list[bytes] = []
        self._open: list[MediaItem] = []

    def add(self, item: MediaItem) -> None:
        self.files += 1
        self._open.append(item)
        if len(self._open) == _BATCH:
            self.close()

    def close(self) -> None:
        if self._open:
            self.batches.append(pickle.dumps(self._open))
            self._open = []

    def items(self, batches: Iterable[int]) -> Iterator[MediaItem]:
        for batch in batches:
            yield from pickle.loads(self.batches[batch])

    def spread_over(self, actors: int) -> None:
        """Smaller batches, where there are too few for every actor to get several."""
        size = max(1, self.files // (8 * actors))
        if size < _BATCH:
            items = list(self.items(range(len(self.batches))))
            self.batches = [pickle.dumps(items[i : i + size]) for i in range(0, len(items), size)]


class ClusterRun(Run):
    """`Run`, with the work done by Ray's actors. Its own pipeline settles what needs none of them."""

    def _work(self) -> Generator[Outcome]:
        packed = Packed()
        with closing(self.pipeline.writer):
            for step in self._planned():
                if isinstance(step, MediaItem):
                    packed.add(step)
                else:
                    yield self.pipeline.writer.record(step)
            packed.close()
            self.total = packed.files
            if not packed.files:
                return
            with joined(self.settings.cluster) as crew:
                self.tell(str(crew) + (f"; dashboard: http://{crew.dashboard}" if crew.dashboard else ""))
                packed.spread_over(crew.actors)
                errand = self._errand(crew)
                lost: list[int] = []
                yield from self._all_at_once(packed, errand, crew, lost)
                for answer in each_alone(list(packed.items(lost)), errand, crew):
                    if isinstance(answer, Answer):
                        yield from self._heard(answer)
                    else:
                        yield self.pipeline.writer.record(answer)

    def _errand(self, crew: Crew) -> Errand:
        """The settings as they hold on any machine: paths absolute, decoding processes by an actor's share."""
        conduct = self.settings.conduct
        workers = conduct.workers or max(1, round(crew.cpus))
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
        return Errand(
            self.run_id,
            settings,
            len(self.stores),
            time.time() + seconds(stop_after) if stop_after else float("inf"),
            crew.gpus,
        )

    def _all_at_once(self, packed: Packed, errand: Errand, crew: Crew, lost: list[int]) -> Iterator[Outcome]:
        """Every outcome that comes back; `lost` is given the batches that do not.

        Where actors die again and again, Ray Data gives up: what it had not reached is begun anew, and if nothing at
        all came back, the run ends. Raises `StartError`.
        """
        import ray

        waiting = list(range(len(packed.batches)))
        while waiting:
            back: set[int] = set()
            gave_up: Exception | None = None
            try:
                for batch, answer in _answers(packed, waiting, errand, crew, self.settings.cluster.attempts):
                    if batch not in back:
                        back.add(batch)
                        self.busy[answer.worker] = answer.busy
                        yield from self._heard(answer)
            except ray.exceptions.RayError as error:
                gave_up = error
            missing = [batch for batch in waiting if batch not in back]
            if gave_up is None:
                lost += missing
                return
            if not back:
                raise StartError(f"the actors die, and no file comes back: {str(gave_up).strip()[-500:]}") from gave_up
            lost += [batch for batch in missing if batch < max(back)]
            waiting = [batch for batch in missing if batch > max(back)]

    def _heard(self, answer: Answer) -> Iterator[Outcome]:
        if answer.fault is not None:
            raise answer.fault
        self.pipeline.load_seconds = max(self.load_seconds, answer.load_seconds)
        for outcome in answer.outcomes:
            if outcome is None:
                self.pipeline.left_by_deadline = True
            else:
                yield outcome


def _answers(
    packed: Packed, waiting: list[int], errand: Errand, crew: Crew, attempts: int
) -> Iterator[tuple[int, Answer]]:
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.max_errored_blocks = 2 * _BATCHES_AT_ONCE * (crew.actors + 1)
    context.max_consecutive_actor_init_deaths = 3 * crew.actors
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a dead actor is ours to tell of, when it matters
    rows = [{"batch": batch, "items": packed.batches[batch]} for batch in waiting]
    with warnings.catch_warnings():  # keyword arguments of Ray's go away in 2.64; until then there is no other way
        warnings.simplefilter("ignore", RayDeprecationWarning)
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=[errand],
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(crew.actors, len(rows)),
                max_concurrent_calls_per_actor=_BATCHES_AT_ONCE,
                # One waits for each of those that end; none takes what another, ready a little later, could begin.
                max_tasks_in_flight_per_actor=min(2 + _BATCHES_AT_ONCE, -(-len(rows) // crew.actors)),
                enable_true_multi_threading=True,
            ),
            num_cpus=crew.cpus,
            num_gpus=crew.gpus,
            max_restarts=-1,
            max_task_retries=attempts - 1,
        )
    for row in data.iter_rows():
        yield row["batch"], pickle.loads(row["answer"])
