"""Where trainers read the source images of edits: in columns of the rows, or in folders of their own."""

import filecmp
import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..config.edits import FINDS_BY, NOT_IN_SUBFOLDERS, reads_one_source
from ..config.targets import get_target
from ..dataset.reader import CaptionedItem
from ..errors import StartError
from .entries import path_inside
from .folders import link_file
from .writers import Row

_IMAGES_ONLY = ("diffsynth", "huggingface")  # the column of a clip's source depends on the pipeline


def require_readable_sources(entries: Iterable[CaptionedItem], target: str) -> Iterator[CaptionedItem]:
    """Yield the entries. Raises `StartError` for sources that `TRAINER[:MODEL]` does not read."""
    trainer, _, model = target.partition(":")
    target = get_target(target).name if model else trainer
    for entry in entries:
        is_clip = entry.item.kind == "clip"
        if is_clip and trainer in _IMAGES_ONLY:
            raise StartError(f"{entry.item.path} is a clip: the export for {trainer} has sources of images only")
        takes_one = reads_one_source(trainer, target) or (is_clip and trainer == "musubi")
        if takes_one and len(entry.sources) > 1:
            raise StartError(
                f"{entry.item.path} has {len(entry.sources)} sources, but {target} reads one: remove the others"
            )
        if trainer in NOT_IN_SUBFOLDERS and "/" in entry.item.name:
            raise StartError(
                f"{entry.item.path} is in a subfolder, where {trainer} finds no sources: move the subfolder and its "
                "sources out, and export it on its own"
            )
        yield entry


def musubi_columns(entry: CaptionedItem) -> Row:
    """# one source -> control_path      two -> control_path_0, control_path_1"""
    paths = [str(source.path) for source in entry.sources]
    return {"control_path": paths[0]} if len(paths) == 1 else {f"control_path_{n}": p for n, p in enumerate(paths)}


def diffsynth_columns(entry: CaptionedItem) -> Row:
    paths = [str(source.path) for source in entry.sources]
    return {"edit_image": paths[0] if len(paths) == 1 else paths} if paths else {}


def huggingface_columns(entry: CaptionedItem, folder: Path) -> Row:
    """`datasets` reads the column `control_file_name` as the images of a column `control`."""
    if not entry.sources:
        return {}
    return {"control_file_name": path_inside(entry.sources[0].path, folder, "move the folder of --control into it")}


def write_control_folders(entries: Sequence[CaptionedItem], trainer: str, beside: Path) -> Iterator[Path]:
    """Link the sources to folders beside this path, the first of each target to the first folder. Yields the folders.

    # set -> set-ai-toolkit-control, set-ai-toolkit-control-2

    Raises `StartError` if another file is in the place of a link.
    """
    for number in range(max((len(entry.sources) for entry in entries), default=0)):
        folder = beside.with_name(f"{beside.name}-{trainer}-control" + (f"-{number + 1}" if number else ""))
        links: dict[Path, Path] = {}
        for entry in entries:
            if number < len(entry.sources):
                source = entry.sources[number].path
                inside = Path(entry.item.name).parent if trainer == "diffusion-pipe" else Path()
                name = entry.item.path.name if FINDS_BY[trainer] == "name" else entry.item.path.stem + source.suffix
                _add(links, folder / inside / name, source)
        for at, source in links.items():
            at.parent.mkdir(parents=True, exist_ok=True)
            link_file(source, at)
        yield folder


def _add(links: dict[Path, Path], at: Path, source: Path) -> None:
    existing = [path for path in at.parent.glob(f"{glob.escape(at.stem)}.*") if path.exists()]
    others = [path for path in existing if path != at or not filecmp.cmp(path, source, shallow=False)]
    if others or any(at.parent == other.parent and at.stem == other.stem for other in links):
        raise StartError(f"{[*others, at][0]} would be taken for the source of another file: remove or rename it")
    if not existing:
        at.unlink(missing_ok=True)  # a broken link
        links[at] = source
