"""Groups failures that differ only in the file that they concern, for the dry run and the summary."""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from ..text import counted, listed, printable

_MAX_GROUPS = 10


def describe_failures(failures: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield lines that describe (path, error) pairs, the most frequent reason first.

    # 7 files: cannot read this image: it may be damaged ...
    #   a.png, b.png, c.png and 4 more
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for path, error in failures:
        groups.setdefault(_reason(path, error), []).append((path, error))
    ordered = sorted(groups.values(), key=len, reverse=True)
    for group in ordered[:_MAX_GROUPS]:
        path, error = group[0]
        if len(group) == 1:
            yield f"{printable(path)}: {error}"
        else:
            yield f"{counted(len(group), 'file')}: {error}"
            yield f"  {listed([path for path, _ in group])}"
    if len(ordered) > _MAX_GROUPS:
        yield f"and {counted(sum(map(len, ordered[_MAX_GROUPS:])), 'file')} with other reasons"


def describe_collisions(paths: list[str]) -> str:
    """What is wrong with files that share a caption, and the ways out."""
    first = PurePath(paths[0])
    return (
        f"{counted(len(paths), 'file')} would share a caption with another, and fail: {listed(paths)}. "
        f"Rename one of each, leave one out (--exclude '*{first.suffix}'), or use --name full, which writes "
        f"{printable(first.name)}.txt (`gemma-captioner check --for TRAINER` says whether your trainer reads that)"
    )


def _reason(path: str, error: str) -> str:
    """The error without what names this file, and without numbers.

    # a.png, "would share a.txt with a.jpg, 2 s" -> "would share # with #, # s"
    """
    error = re.sub(rf"(?<!\w){re.escape(PurePath(path).stem)}(?=[._])", "#", error.replace(path, "#"))
    return re.sub(r"\S+\.\w{2,5}\b|\d+(\.\d+)?", "#", error)
