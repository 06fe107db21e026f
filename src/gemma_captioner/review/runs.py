"""Captioning runs that the page starts: one at a time, in a thread, with a model that stays loaded."""

import threading
import time
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable
from contextlib import closing
from typing import Any, Literal

from ..compare.shared_engine import SharedEngine, SharedModel
from ..config.settings import Settings
from ..engines import session_key
from ..errors import CaptionerError
from ..executors.local import Run
from ..executors.stats import RunStats
from ..pipeline.model_choice import resolve_auto_model
from ..pipeline.scheduler import Pipeline
from ..redaction import redact_token
from ..text import counted, format_duration
from ..types import Captioned, Failed, MediaItem, Outcome
from .library import Library, ReviewItem
from .proposals import Proposals

State = Literal["idle", "starting", "running", "paused", "stopping", "stopped", "finished", "failed"]
_BUSY: tuple[State, ...] = ("starting", "running", "paused", "stopping")
_MAX_RECENT = 30


class RunController:
    """Starts and stops runs. Any thread may read its attributes; the run's thread calls `changed` on each outcome."""

    def __init__(self, library: Library, proposals: Proposals) -> None:
        self._library = library
        self._proposals = proposals
        self._thread: threading.Thread | None = None
        self._state_changed = threading.Condition()  # its lock is held for every change of `state`
        self._loaded: tuple[Any, SharedModel] | None = None
        self._auto: str | None = None  # the model that `auto` stands for
        self.changed: Callable[[], None] = lambda: None
        self.started = 0  # number of runs since the page started
        self.clear()

    def clear(self) -> None:
        self.state: State = "idle"
        self.what = ""  # describes the run
        self.model = ""
        self.error = ""
        self.is_proposing = False  # whether the run makes proposals
        self.proposed = 0  # new captions that differ from the present ones
        self.unchanged = 0  # new captions that are the same
        self.total: int | None = None
        self.stats = RunStats()
        self.recent: deque[Outcome] = deque(maxlen=_MAX_RECENT)  # captions and failures, latest first
        self._outcome_times: deque[float] = deque(maxlen=200)  # time.monotonic() of the latest outcomes

    @property
    def is_busy(self) -> bool:
        return self.state in _BUSY

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None and self._loaded[1].is_open

    @property
    def rate(self) -> float | None:
        """Recent files per second; None until there are two outcomes."""
        if len(self._outcome_times) < 2 or self._outcome_times[-1] <= self._outcome_times[0]:
            return None
        return (len(self._outcome_times) - 1) / (self._outcome_times[-1] - self._outcome_times[0])

    @property
    def time_left(self) -> str:
        """# 3m20s"""
        if self.total is None or self.rate is None or not self.is_busy:
            return ""
        return format_duration(max(0, self.total - self.stats.done) / self.rate)

    # Starting and stopping

    def caption_folder(self, settings: Settings) -> bool:
        """Caption the folder as `caption` does. Return False if a run is active."""
        folder = self._library.root.folder

        def outcomes() -> Generator[Outcome]:
            named = self._with_model(settings)
            run = Run([folder], named, self._engine(named), log=self._log)
            with closing(run):
                for outcome in run:
                    self.total = run.total and max(run.total, self.stats.done)
                    yield outcome

        return self._start(f"captioning {folder.name}", outcomes)

    def propose(self, entries: list[ReviewItem], settings: Settings) -> bool:
        """Make proposals for these items. Return False if a run is active."""
        settings = settings.with_values("selection", existing="overwrite", only=None)

        def outcomes() -> Generator[Outcome]:
            by_name = {entry.item.name: entry for entry in entries}
            named = self._with_model(settings)
            pipeline = Pipeline(named, self._engine(named), stores=1, log=self._log)
            items: Iterable[MediaItem] = self._proposals.run_items(entries, pipeline.run_id)
            with closing(pipeline.run(iter(items))) as outcomes_of_run:
                for outcome in outcomes_of_run:
                    entry = by_name[outcome.item.name]
                    if isinstance(outcome, Captioned):
                        if self._proposals.add(entry, outcome.item.store):
                            self.proposed += 1
                            self._library.notify({entry.number})
                        else:
                            self.unchanged += 1
                    yield outcome

        started = self._start(f"recaptioning {counted(len(entries), 'file')}", outcomes)
        if started:
            self.total, self.is_proposing = len(entries), True
        return started

    def pause(self) -> None:
        """Pause after the next outcome. The model finishes its current batch."""
        self._change_state("paused", after=("running",))

    def resume(self) -> None:
        self._change_state("running", after=("paused",))

    def stop(self) -> None:
        """Stop after the next outcome. Finished captions are kept."""
        self._change_state("stopping", after=_BUSY)

    def _change_state(self, state: State, *, after: Container[State]) -> None:
        """Change the state if it is one of `after`, and wake the run's thread."""
        with self._state_changed:
            if self.state in after:
                self.state = state
                self._state_changed.notify_all()

    def unload(self) -> None:
        """Free the model's memory."""
        if self._loaded is not None and not self.is_busy:
            self._loaded[1].close()
            self._loaded = None

    def close(self) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.unload()

    # The thread of a run

    def _start(self, what: str, outcomes: Callable[[], Generator[Outcome]]) -> bool:
        with self._state_changed:
            if self.is_busy:
                return False
            self.clear()
            self.state, self.what = "starting", what
        self.started += 1
        self._thread = threading.Thread(target=self._run_thread, args=(outcomes,), name="captioning", daemon=True)
        self._thread.start()
        return True

    def _run_thread(self, outcomes: Callable[[], Generator[Outcome]]) -> None:
        try:
            with closing(outcomes()) as running:
                for outcome in running:
                    self._handle_outcome(outcome)
                    if self._is_to_stop():
                        break
            with self._state_changed:
                self.state = "stopped" if self.state == "stopping" else "finished"
        except Exception as error:  # the page must survive any error of a run
            message = (
                str(error)
                if isinstance(error, CaptionerError)
                else f"unexpected error ({type(error).__name__}: {error})"
            )
            self.error = redact_token(message)
            self._change_state("failed", after=_BUSY)
        self.changed()

    def _is_to_stop(self) -> bool:
        """Wait while the run is paused."""
        with self._state_changed:
            self._state_changed.wait_for(lambda: self.state != "paused")
            return self.state == "stopping"

    def _handle_outcome(self, outcome: Outcome) -> None:
        self._change_state("running", after=("starting",))
        self.stats.add(outcome)
        if isinstance(outcome, Captioned | Failed):
            self.recent.appendleft(outcome)
            self._outcome_times.append(time.monotonic())
            self.changed()

    def _log(self, line: str) -> None:
        self.model = line
        self.changed()

    def _with_model(self, settings: Settings) -> Settings:
        """Name the model in place of `auto`, once: later, the model that stays loaded takes the memory."""
        if self._auto is None and not settings.has_explicit_model:
            self._auto = resolve_auto_model(settings, [self._library.root.store], self._log).model.model
        return settings if settings.has_explicit_model or self._auto is None else settings.with_model(self._auto)

    def _engine(self, settings: Settings) -> SharedEngine:
        """Reuse the loaded model if it was planned for the same settings. One that failed to load is loaded again."""
        tokens = [settings.max_new_tokens(kind) for kind in settings.prompts]
        same = session_key(settings), settings.sampling.frames, tokens
        if self._loaded is None or not self._loaded[1].is_open or self._loaded[0] != same:
            if self._loaded is not None:
                self._loaded[1].close()
            self._loaded = same, SharedModel(settings)
        return SharedEngine(self._loaded[1], settings, lambda request: None)
