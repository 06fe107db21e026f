"""Captioning that is started from the page: one run at a time, in a thread, with a model that stays loaded."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any, Literal

from ..compare.kept import Kept, Lent
from ..config.settings import Settings
from ..errors import CaptionerError, redact_token
from ..executors.local import Run
from ..executors.stats import RunStats
from ..pipeline.scheduler import Pipeline
from ..text import format_duration
from ..types import Captioned, Failed, MediaItem, Outcome
from .library import Entry, Library
from .proposals import Proposals

State = Literal["idle", "starting", "running", "paused", "stopping", "stopped", "finished", "failed"]
_NEWEST = 30


class Runs:
    """What it says of the run may be read at any time. `changed` is called from its thread after each outcome."""

    def __init__(self, library: Library, proposals: Proposals) -> None:
        self._library = library
        self._proposals = proposals
        self._thread: threading.Thread | None = None
        self._going = threading.Event()
        self._kept: tuple[Any, Kept] | None = None
        self.changed: Callable[[], None] = lambda: None
        self.clear()

    def clear(self) -> None:
        self.state: State = "idle"
        self.what = ""  # of the run, for a person
        self.model = ""
        self.error = ""
        self.total: int | None = None
        self.stats = RunStats()
        self.newest: deque[Outcome] = deque(maxlen=_NEWEST)  # captions and failures, the latest first
        self._times: deque[float] = deque(maxlen=200)  # when the last ones came

    @property
    def is_busy(self) -> bool:
        return self.state in ("starting", "running", "paused", "stopping")

    @property
    def is_loaded(self) -> bool:
        return self._kept is not None and self._kept[1].is_open

    @property
    def rate(self) -> float | None:
        """Files a second of late; None where too few have come."""
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return None
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    @property
    def left(self) -> str:
        """# 3m20s"""
        if self.total is None or self.rate is None or not self.is_busy:
            return ""
        return format_duration(max(0, self.total - self.stats.done) / self.rate)

    # Starting and stopping

    def caption_folder(self, settings: Settings) -> bool:
        """All of it, as `caption` would. False where a run is going on already."""
        folder = self._library.root.folder

        def outcomes() -> Generator[Outcome]:
            run = Run([folder], settings, self._engine(settings), log=self._tell)
            with closing(run):
                for outcome in run:
                    self.total = run.total and max(run.total, self.stats.done)
                    yield outcome

        return self._start(f"captioning {folder.name}", outcomes)

    def propose(self, entries: list[Entry], settings: Settings) -> bool:
        """New captions, which replace nothing before they are taken. False where a run is going on already."""
        settings = settings.model_copy(
            update={"selection": settings.selection.model_copy(update={"existing": "overwrite", "only": None})}
        )

        def outcomes() -> Generator[Outcome]:
            by_name = {entry.item.name: entry for entry in entries}
            pipeline = Pipeline(settings, self._engine(settings), stores=1, log=self._tell)
            items: Iterable[MediaItem] = self._proposals.ordered(entries, pipeline.run_id)
            with closing(pipeline.run(iter(items))) as made:
                for outcome in made:
                    entry = by_name[outcome.item.name]
                    if isinstance(outcome, Captioned):
                        self._proposals.offer(entry, outcome.item.store)
                        self._library.tell({entry.number})
                    yield outcome

        started = self._start(f"{len(entries):,} captioned again, to be taken or declined", outcomes)
        if started:
            self.total = len(entries)
        return started

    def pause(self) -> None:
        """After the next outcome; what the model works on meanwhile is kept."""
        if self.state == "running":
            self._going.clear()
            self.state = "paused"

    def resume(self) -> None:
        if self.state == "paused":
            self.state = "running"
            self._going.set()

    def stop(self) -> None:
        """After the next outcome. All that is finished is kept."""
        if self.is_busy:
            self.state = "stopping"
            self._going.set()

    def unload(self) -> None:
        """Give the model's memory back."""
        if self._kept is not None and not self.is_busy:
            self._kept[1].close()
            self._kept = None

    def close(self) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.unload()

    # Going on

    def _start(self, what: str, outcomes: Callable[[], Generator[Outcome]]) -> bool:
        if self.is_busy:
            return False
        self.clear()
        self.state, self.what = "starting", what
        self._going.set()
        self._thread = threading.Thread(target=self._work, args=(outcomes,), name="captioning", daemon=True)
        self._thread.start()
        return True

    def _work(self, outcomes: Callable[[], Generator[Outcome]]) -> None:
        try:
            with closing(outcomes()) as coming:
                for outcome in coming:
                    self._hear(outcome)
                    self._going.wait()
                    if self.state == "stopping":
                        break
            self.state = "stopped" if self.state == "stopping" else "finished"
        except Exception as error:  # whatever it is, the page goes on
            said = str(error) if isinstance(error, CaptionerError) else f"it died ({type(error).__name__}: {error})"
            self.state, self.error = "failed", redact_token(said)
        self.changed()

    def _hear(self, outcome: Outcome) -> None:
        if self.state == "starting":
            self.state = "running"
        self.stats.add(outcome)
        if isinstance(outcome, Captioned | Failed):
            self.newest.appendleft(outcome)
            self._times.append(time.monotonic())
            self.changed()

    def _tell(self, line: str) -> None:
        self.model = line
        self.changed()

    def _engine(self, settings: Settings) -> Lent:
        """The model that is loaded, where it is the one, planned for as much."""
        prompting = settings.prompting
        same = (
            settings.model, prompting.order, prompting.system, prompting.begin, prompting.examples, settings.sampling,
            settings.max_new_tokens("image"), settings.max_new_tokens("clip"),
        )  # fmt: skip
        if self._kept is None or self._kept[0] != same:
            if self._kept is not None:
                self._kept[1].close()
            self._kept = same, Kept(settings)
        return Lent(self._kept[1], settings, lambda request: None)
