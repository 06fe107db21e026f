"""The Python entry points: they caption paths and yield the outcomes, on this machine or on a cluster."""

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
    """Create a run on this machine, or on the cluster that the settings name. The arguments are those of `Run`."""
    if settings.cluster.cluster is None:
        return Run(paths, settings, engine, log)
    if engine is not None:
        raise UsageError("--cluster cannot send your own engine to other machines: leave out `cluster` or `engine`")
    from .executors.ray.driver import ClusterRun

    return ClusterRun(paths, settings, None, log)


def caption(*paths: str | Path, engine: Engine | str | None = None, **settings: Any) -> Iterator[Outcome]:
    """Caption images and clips. Returns an iterator of one outcome per file, which is on disk by then.

    Args:
        paths: Folders and files, also `s3://BUCKET/FOLDER`.
        engine: A value of --engine, or your own `Engine`.
        settings: The options of the command line, with `_` for `-`: `model="demo"`, `frames=8`, `existing="stale"`,
            `image={"prompt": "..."}`.

    Raises:
        UsageError: A setting is invalid.
        StartError: The run cannot start, or, from the iterator, cannot continue.
    """
    own = None if isinstance(engine, str) else engine
    named = {"engine": engine} if isinstance(engine, str) else {}
    run = run_for(map(parse_path, paths), Settings.from_dict(settings, named), own)

    def outcomes() -> Iterator[Outcome]:
        with closing(run):
            yield from run

    return outcomes()
