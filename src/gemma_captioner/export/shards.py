"""Writes WebDataset shards: tar files of samples `00000000.png`, `.txt`, `.json`."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..dataset.reader import CaptionedItem
from ..errors import ItemError
from ..text import file_error
from ..types import MediaItem
from .writers import whole_file

_SHARD_BYTES = 1 << 30  # media bytes per tar file


def write_shards(entries: Iterable[CaptionedItem], to: Path) -> Iterator[Path]:
    """Write the shards and yield their paths. Each tar has one media extension, which `datasets` requires."""
    by_suffix: dict[str, list[CaptionedItem]] = {}
    for entry in entries:
        by_suffix.setdefault(entry.item.path.suffix.lower(), []).append(entry)
    number = 0
    for suffix, same_suffix in by_suffix.items():
        for shard, group in enumerate(_by_size(same_suffix)):
            path = to.with_name(f"{to.stem}{suffix.replace('.', '-')}-{shard:06d}.tar")
            with whole_file(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
                for entry in group:
                    metadata = {"file_name": entry.item.name, "caption": entry.captions[0], "captions": entry.captions}
                    tar.add(entry.item.path, f"{number:08d}{suffix}", recursive=False, filter=_anonymize)
                    _add_bytes(tar, f"{number:08d}.txt", entry.captions[0].encode())
                    _add_bytes(tar, f"{number:08d}.json", json.dumps(metadata).encode())
                    number += 1
            yield path


def require_readable(item: MediaItem) -> None:
    """Raises `ItemError` if the file cannot be copied into a tar."""
    try:
        item.path.open("rb").close()
    except OSError as error:
        raise ItemError(f"it cannot be read: {file_error(error)}") from error


def _by_size(entries: Sequence[CaptionedItem]) -> Iterator[list[CaptionedItem]]:
    shard: list[CaptionedItem] = []
    size = 0
    for entry in entries:
        shard.append(entry)
        size += entry.item.path.stat().st_size
        if size >= _SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _anonymize(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
