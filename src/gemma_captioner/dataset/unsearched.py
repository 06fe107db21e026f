"""Reports media in subfolders that a run without --recursive does not search."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..storage.filesystem import is_local
from ..text import counted
from .discover import is_media
from .listing import IGNORED_NAMES

_MAX_FILES = 20_000  # looked at: a run must not wait for a large tree that it does not caption


def describe_unsearched(folders: Iterable[Path]) -> str | None:
    """# 1 subfolder not searched (23 media files): add --recursive

    None if the subfolders hold no media. Folders of an object store are not listed, so they always count.
    """
    with_media = media = seen = 0
    for folder in folders:
        found = 0
        for _, below, names in os.walk(folder) if is_local(folder) else ():
            below[:] = [name for name in below if not name.startswith(".") and name.lower() not in IGNORED_NAMES]
            found += sum(is_media(name) and not name.startswith(".") for name in names)
            seen += len(names) + len(below)
            if seen > _MAX_FILES:
                break
        with_media += bool(found) or not is_local(folder)
        media += found
    if not with_media:
        return None
    more = " or more" if seen > _MAX_FILES else ""
    count = f" ({counted(media, 'media file')}{more})" if media else ""
    return f"{counted(with_media, 'subfolder')} not searched{count}: add --recursive"
