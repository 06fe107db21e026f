"""What never came back: its actor died, and took its neighbours along. Each such file is run again by itself."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ItemError
from ..places import matching
from ..records import Captioned, Failed, MediaItem, Outcome
from ..store import parts, sidecar
from ..store.journal import Line, read_run, run_file
from .crew import Crew

if TYPE_CHECKING:
    from .worker import Answer, Errand

_DEATHS = 2  # alone: a machine that is taken away must not look like a file that kills


class Finished:
    """What actors of this run that died had finished: their lines in the journal, where the captions bear them out."""

    def __init__(self, run_id: str, *, as_rows: bool = False) -> None:
        """as_rows: by --captions-to parquet."""
        self._run_id, self._as_rows = run_id, as_rows
        self._rows: frozenset[str] | None = None
        self._lines: dict[Path, dict[str, Line]] = {}  # by store, then by the item's name

    def outcome(self, item: MediaItem) -> Outcome | None:
        if item.store not in self._lines:
            of_all = run_file(item.store, f"{self._run_id}.*")
            runs = matching(of_all.parent, of_all.name)
            self._lines[item.store] = {line["path"]: line for run in runs for line in read_run(run) if "path" in line}
        line = self._lines[item.store].get(item.name)
        if line is None:
            return None
        if line["kind"] == "failure":
            return Failed(item, line["error"], rejected=tuple(line.get("rejected", ())))
        if (caption := self._caption(item, line)) is None:
            return None  # the actor died between the line and what it tells of
        return Captioned(
            item,
            caption,
            tuple(line["captions"]),
            tuple(line["flags"]),
            len(line["frame_times_s"]),
            line["prompt_tokens"],
            line["new_tokens"],
            line["seconds"],
        )

    def _caption(self, item: MediaItem, line: Line) -> str | None:
        """The one of this line, where it is stored."""
        if self._as_rows:
            if self._rows is None:
                self._rows = parts.done(item.store)
            several = line["captions"]
            stored = [several[0], "\n".join(dict.fromkeys(several))] if parts.path_in(item) in self._rows else []
        else:
            try:
                stored = [(sidecar.read(item.caption_path) or b"").decode()]
            except (ItemError, UnicodeDecodeError):
                return None
        return next((text for text in stored if sidecar.digest(text.encode()) == line["digest"]), None)


def each_alone(items: list[MediaItem], errand: "Errand", crew: Crew) -> Iterator["Answer | Failed"]:
    """One answer a file. A file that kills its actor, again and again, is `Failed` with what Ray says of that death."""
    import ray

    from .worker import Worker

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
