"""paths -> plan -> pipeline: one pass over what was given, on this machine."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from .engines import Engine
from .errors import UsageError
from .media.discover import roots_of
from .pipeline import Pipeline
from .places import matching, place
from .plan import Plan
from .records import Failed, MediaItem, Outcome, Skipped
from .settings import Settings, seconds
from .store.claims import Claims
from .store.journal import run_file


class Run:
    """One pass over `paths`: iterate it for the outcomes; when one comes, its caption is on disk.

    `close` it when leaving early: the work in flight is dropped, what is finished is kept. `tell` is given lines for a
    person: which model is loaded, and in which precision. Raises `StartError` and its kin.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        settings: Settings,
        engine: Engine | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings = settings
        self.roots = roots_of(paths, settings.selection.output)
        self.plan = Plan(self.roots, settings)
        self.total: int | None = None  # files to caption, once they are counted
        stop_after = settings.conduct.stop_after
        self.pipeline = Pipeline(
            settings,
            engine,
            stores=len(self.stores),
            tell=tell,
            deadline=time.monotonic() + seconds(stop_after) if stop_after else float("inf"),
        )
        self.tell = tell
        self.busy: dict[str, float] = {}  # of each actor, where there are several: the share of its time that it worked
        self._claims = Claims(self.stores, settings.selection.shard)
        self._outcomes = self._alone()

    @property
    def run_id(self) -> str:
        return self.pipeline.run_id

    @property
    def load_seconds(self) -> float:
        return self.pipeline.load_seconds

    @property
    def left_by_deadline(self) -> bool:
        return self.pipeline.left_by_deadline

    @property
    def stores(self) -> list[Path]:
        """The folders that hold a journal of this run, each once."""
        return list(dict.fromkeys(root.store for root in self.roots))

    @property
    def journals(self) -> list[Path]:
        """The files that tell of this run's captions: one in each store, or several, called alike."""
        of_all = [run_file(store, self.run_id + mark) for store in self.stores for mark in ("", ".*")]
        return [path for path in of_all if matching(path.parent, path.name)]

    def __iter__(self) -> Iterator[Outcome]:
        return self._outcomes

    def close(self) -> None:
        self._outcomes.close()

    def _alone(self) -> Generator[Outcome]:
        with self._claims:
            yield from self._work()

    def _work(self) -> Generator[Outcome]:
        return self.pipeline.run(self._steps())

    def _planned(self) -> Iterator[MediaItem | Skipped | Failed]:
        for step in self.plan:
            if isinstance(step, MediaItem):
                self._claims.take()
            yield step

    def _steps(self) -> Generator[MediaItem | Skipped | Failed]:
        counting = threading.Thread(target=self._count, name="count", daemon=True)
        for step in self._planned():
            if isinstance(step, MediaItem) and counting.ident is None:
                counting.start()  # not before there is work: it walks the folders once more
            yield step

    def _count(self) -> None:
        with suppress(OSError):  # without a total there is no estimate; the run itself says what is wrong
            self.total = sum(isinstance(step, MediaItem) for step in Plan(self.roots, self.settings))


def run_of(
    paths: Iterable[Path],
    settings: Settings,
    engine: Engine | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Run:
    """On this machine, or where --cluster says. Raises `StartError` and its kin."""
    if settings.cluster.cluster is None:
        return Run(paths, settings, engine, tell)
    if engine is not None:
        raise UsageError("an engine of your own cannot be sent to other machines: leave out `cluster`")
    from .cluster.driver import ClusterRun

    return ClusterRun(paths, settings, None, tell)


def caption(*paths: str | Path, engine: Engine | str | None = None, **settings: Any) -> Iterator[Outcome]:
    """Caption images and clips; yields an outcome a file, each on disk when it comes.

    paths: folders and files, `s3://BUCKET/FOLDER` as well
    engine: as --engine takes it, or one of your own (see `Engine`)
    settings: the command line's options with `_` for `-`: `model="demo"`, `frames=8`, `existing="stale"`,
        `image={"prompt": "..."}`

    Raises `CaptionerError`: `UsageError` for a setting that makes no sense, `StartError` where the run cannot go on.
    """
    own = None if isinstance(engine, str) else engine
    named = {"engine": engine} if isinstance(engine, str) else {}
    with closing(run_of(map(place, paths), Settings.of(settings, named), own)) as run:
        yield from run
