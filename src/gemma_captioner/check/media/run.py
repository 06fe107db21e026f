"""Measures the media of a dataset in worker processes and reports what is wrong with them."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ...config.targets import trains_on_sound
from ...dataset.discover import EXTENSIONS, Root
from ...dataset.journal import fingerprint
from ...errors import StartError
from ...media.workers import GIB, WorkerError, WorkerPool, WorkerTask
from ...text import file_error
from ...types import MediaItem
from ..rules import Finding
from ..settings import CheckSettings
from .cache import MeasurementCache
from .record import Measurement
from .rules import match

_TIMEOUT_S, _MEMORY_BYTES = 300.0, 8 * GIB
_TASKS_PER_WORKER = 4
_POLL_S = 0.02


def require_libraries() -> None:
    """Raises `StartError` if the extra is not installed."""
    if not all(map(find_spec, ("cv2", "imagehash", "scenedetect"))):
        raise StartError("check --media requires more libraries: pip install 'gemma-captioner[media]'")


def check_media(
    root: Root,
    paths: Sequence[Path],
    settings: CheckSettings,
    on_progress: Callable[[int, int], None] = lambda done, measured: None,
    on_warning: Callable[[str], None] = lambda message: None,
) -> list[Finding]:
    """Measure files that have changed since the last check, and return the findings of all.

    on_progress: called after each file with the numbers of files that are done, and that were measured now.
    """
    found: dict[str, Measurement] = {}
    pending: list[tuple[Path, str]] = []
    with MeasurementCache(root.folder) as cache:
        for path in paths:
            try:
                version = fingerprint(path)
            except OSError as error:
                found[str(path)] = Measurement(error=f"cannot read this file ({file_error(error)}): check it")
                continue
            if (known := cache.get(path, version)) is None:
                pending.append((path, version))
            else:
                found[str(path)] = known
        known_count = len(found)
        versions = dict(pending)
        for path, measurement in _measured(root, [path for path, _ in pending]):
            found[str(path)] = measurement
            cache.add(path, versions[path], measurement)
            on_progress(len(found), len(found) - known_count)
        if cache.error is not None:
            on_warning(f"the measurements are not kept ({file_error(cache.error)}): the next check starts again")
    return list(_findings({str(path): found[str(path)] for path in paths}, settings))


def _findings(found: Mapping[str, Measurement], settings: CheckSettings) -> Iterator[Finding]:
    from .duplicates import exact_copies, near_copies  # OpenCV

    flags = {"partial_image", "partial_video"} | ({"silent"} if trains_on_sound(settings.for_) else set())
    readable = {path: measurement for path, measurement in found.items() if not measurement.error}
    for path, measurement in found.items():
        if measurement.error:
            yield Finding(path, "unreadable", measurement.error)
            continue
        for flag in measurement.flags:
            if flag in flags:
                yield Finding(path, flag)
        for code, detail in match(measurement, settings):
            yield Finding(path, code, detail)
    same: dict[str, str] = {}  # a copy -> the first of its group
    for group in exact_copies(readable):
        for path in group:
            other = group[1] if path is group[0] else group[0]
            more = f" and {len(group) - 2} more" if len(group) > 2 else ""
            yield Finding(path, "exact_copy", f"same as {_short(other, path)}{more}", other)
            same[path] = group[0]
    alike: dict[str, list[str]] = {}
    distinct = {path: each for path, each in readable.items() if same.get(path, path) == path}
    for first, second in near_copies(distinct):
        alike.setdefault(first, []).append(second)
        alike.setdefault(second, []).append(first)
    for path, others in alike.items():
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        yield Finding(path, "near_copy", f"like {_short(others[0], path)}{more}", others[0])


def _short(other: str, path: str) -> str:
    """The name of the other file, with its folder if that differs."""
    return Path(os.path.relpath(other, Path(path).parent)).as_posix()


def _measured(root: Root, paths: Sequence[Path]) -> Iterator[tuple[Path, Measurement]]:
    """Measure on all cores, in order, a few files ahead."""
    from .measure import measure  # OpenCV

    if not paths:
        return
    workers = min(len(paths), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    pool = WorkerPool(workers, _MEMORY_BYTES, _TIMEOUT_S)
    try:
        tasks: deque[tuple[Path, WorkerTask]] = deque()
        for path in paths:
            kind = EXTENSIONS[path.suffix[1:].lower()]
            item = MediaItem(path, kind, path.name, path.with_suffix(".txt"), root.store)
            tasks.append((path, pool.start(measure, item)))
            if len(tasks) == workers * _TASKS_PER_WORKER:
                yield _wait(*tasks.popleft())
        while tasks:
            yield _wait(*tasks.popleft())
    finally:
        pool.close()


def _wait(path: Path, task: WorkerTask) -> tuple[Path, Measurement]:
    while not task.done():
        time.sleep(_POLL_S)
    try:
        return path, task.result()
    except WorkerError as error:
        return path, Measurement(error=str(error))
