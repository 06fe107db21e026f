"""Runs the pipeline over paths on this machine: paths -> plan -> pipeline -> outcomes."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from ..config.group import parse_duration
from ..config.settings import Settings
from ..dataset.containment import check_store_is_contained
from ..dataset.discover import Root, resolve_roots
from ..dataset.journal import journal_path, mark_complete
from ..dataset.lock import RunLock
from ..engines import Engine
from ..pipeline.model_choice import resolve_auto_model
from ..pipeline.planner import Plan
from ..pipeline.scheduler import Pipeline
from ..pipeline.transcription import Transcripts
from ..prompts.context import Context
from ..prompts.metadata import load_metadata
from ..storage.filesystem import glob_files
from ..types import Activity, Captioned, Failed, MediaItem, Outcome, Skipped


class Run:
    """One run over paths. Iterate it for the outcomes: each is on disk before it is yielded.

    To stop early, call `close`: it drops the items in progress and keeps the finished ones.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        settings: Settings,
        engine: Engine | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Check the settings and the paths. Loads no model.

        Args:
            engine: By default, the settings select one.
            log: Receives lines for a person, such as the model and its precision.

        Raises:
            UsageError: A setting is invalid.
            StartError: The run cannot start, or a link leads `.gemma-captioner` outside the folder.
        """
        self.roots = resolve_roots(paths, settings.selection.output)
        for store in self.stores:
            check_store_is_contained(store)
        if engine is None and _requires_model(self.roots, settings):
            Transcripts(settings, load_metadata(settings))  # errors of prompts and examples are reported first
            Context(settings)
            settings = resolve_auto_model(settings, self.stores, log)
        self.settings = settings
        self.plan = Plan(self.roots, settings)
        self.total: int | None = None  # the number of files to caption, once they are counted
        stop_after = settings.run_options.stop_after
        self.pipeline = Pipeline(
            settings,
            engine,
            stores=len(self.stores),
            log=log,
            deadline=time.monotonic() + parse_duration(stop_after) if stop_after else float("inf"),
        )
        self.log = log
        self.utilization: dict[str, float] = {}  # actor id -> the share of time that its engine was busy
        self._run_lock = RunLock(self.stores, settings.selection.shard)
        self._outcomes = self._run_locked()

    @property
    def run_id(self) -> str:
        return self.pipeline.run_id

    @property
    def load_seconds(self) -> float:
        return self.pipeline.load_seconds

    @property
    def loaded_at(self) -> float | None:
        return self.pipeline.loaded_at

    @property
    def activity(self) -> Activity:
        """What the run does now. Any thread may ask."""
        return self.pipeline.activity

    @property
    def stopped_by_deadline(self) -> bool:
        return self.pipeline.stopped_by_deadline

    @property
    def stores(self) -> list[Path]:
        """The folders that hold a journal of this run, without duplicates."""
        return list(dict.fromkeys(root.store for root in self.roots))

    @property
    def journals(self) -> list[Path]:
        """The journals of this run: in each store, one path, or a glob for several files."""
        paths = [journal_path(store, self.run_id + suffix) for store in self.stores for suffix in ("", ".*")]
        return [path for path in paths if glob_files(path.parent, path.name)]

    def __iter__(self) -> Iterator[Outcome]:
        return self._outcomes

    def close(self) -> list[Captioned]:
        """Stop the run. Return the captions that it stored and did not yield."""
        self._outcomes.close()
        return list(self.pipeline.writer.take_stored())

    def _run_locked(self) -> Generator[Outcome]:
        has_failed = False
        with self._run_lock, closing(self._work()) as outcomes:
            for outcome in outcomes:
                has_failed = has_failed or isinstance(outcome, Failed)
                yield outcome
            if not (has_failed or self.stopped_by_deadline):
                mark_complete(self.stores, self.run_id)

    def _work(self) -> Generator[Outcome]:
        return self.pipeline.run(self._plan_and_count())

    def _plan_items(self) -> Iterator[MediaItem | Skipped | Failed]:
        for step in self.plan:
            if isinstance(step, MediaItem):
                self._run_lock.acquire()
            yield step

    def _plan_and_count(self) -> Generator[MediaItem | Skipped | Failed]:
        counting = threading.Thread(target=self._count, name="count", daemon=True)
        for step in self._plan_items():
            if isinstance(step, MediaItem) and counting.ident is None:
                counting.start()  # only if there is work, because it walks the folders a second time
            yield step

    def _count(self) -> None:
        with suppress(OSError):  # without a total, there is no time estimate; the run reports the error
            plan = Plan(self.roots, self.settings, self.plan.overwrite)
            self.total = sum(isinstance(step, MediaItem) for step in plan)


def _requires_model(roots: list[Root], settings: Settings) -> bool:
    """Whether to name the model, for which the memory is measured: not for a folder that is finished."""
    if settings.has_explicit_model:
        return False
    selection = settings.selection
    plan_depends_on_model = selection.existing != "skip" or selection.only not in (None, "failed")
    return plan_depends_on_model or any(not isinstance(step, Skipped) for step in Plan(roots, settings))
