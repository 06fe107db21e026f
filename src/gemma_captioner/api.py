"""The Python entry points: a run over paths, here or on a cluster, and its outcomes as they come."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from .config.settings import Settings
from .engines import Engine
from .errors import UsageError
from .executors.local import Run
from .storage.filesystem import parse_path
from .types import Outcome


def run_for(
    paths: Iterable[Path],
    settings: Settings,
    engine: Engine | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Run:
    """On this machine, or where --cluster says. Raises `StartError` and its kin."""
    if settings.cluster.cluster is None:
        return Run(paths, settings, engine, log)
    if engine is not None:
        raise UsageError("an engine of your own cannot be sent to other machines: leave out `cluster`")
    from .executors.ray.driver import ClusterRun

    return ClusterRun(paths, settings, None, log)


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
    with closing(run_for(map(parse_path, paths), Settings.from_dict(settings, named), own)) as run:
        yield from run
