"""Checks edit pairs: the sources that --control names, and how a trainer finds them."""

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from PIL import Image

from ..config.edits import FINDS_BY, reads_one_source
from ..config.targets import get_target
from ..dataset.discover import EXTENSIONS
from ..errors import ItemError
from ..prompts.sources import EditPairs, Sources
from ..storage import filesystem
from ..types import MediaItem
from .rules import Rule
from .settings import CheckSettings

_MAX_RATIO = 1.1  # between the aspect ratios of a file and its source
_UPRIGHT = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True, slots=True)
class PairRule(Rule):
    """A rule for edit pairs. trainers: the only ones that it is for."""

    _: KW_ONLY
    trainers: tuple[str, ...] = ()


# fmt: off
PAIR_RULES: Mapping[str, PairRule] = {
    "no_source": PairRule(
        "error", "it is not clear which images are the sources", "add or rename the source, or remove the file"),
    "extra_source": PairRule("note", "a source image without a file", "rename it after its file, or remove it"),
    "same_as_source": PairRule("note", "identical to its source, so nothing changes", "replace one, or remove both"),
    "source_aspect": PairRule(
        "note", "the source has another aspect ratio: trainers crop or stretch it to that of the file",
        "crop it yourself, so that both show the same place"),
    "source_name": PairRule(
        "error", "the trainer does not find the source under this name",
        "use `gemma-captioner export --control`, which links it under the right name", trainers=tuple(FINDS_BY)),
    "several_sources": PairRule(
        "error", "more sources than the trainer reads", "keep one",
        trainers=("diffusion-pipe", "huggingface", "musubi")),
    "source_caption": PairRule(
        "error", "a caption beside a source replaces the one of the edit", "remove it", trainers=("simpletuner",)),
    "name_unused": PairRule("note", "no caption has this name of --examples", "check whether it appears in any file"),
}
# fmt: on


class PairChecks:
    """Checks the pairs of one dataset. Without --control, it finds nothing."""

    def __init__(self, settings: CheckSettings) -> None:
        """Raises `UsageError` if a folder of --control cannot be listed."""
        self._settings = settings
        self._sources = Sources(settings.control)
        self._pairs = EditPairs(self._sources)

    def check(self, folder: Path, relative_path: str, name: str) -> Iterator[tuple[Path, str, str]]:
        """Yield (path, rule code, detail) for each problem of the sources of a file."""
        if not self._settings.control:
            return
        path, kind = folder / name, EXTENSIONS[name.rpartition(".")[2].lower()]
        item = MediaItem(path, kind, relative_path + name, path.with_suffix(".txt"), folder)
        sources = self._pairs.add(item)
        if (error := self._pairs.error(item)) is not None:
            yield path, "no_source", error
        if self._pairs.identical[-1:] == [item]:
            yield path, "same_as_source", ""
        for source in sources:
            yield from self._check_source(item, source)
        trainer = self._settings.trainer
        if trainer and len(sources) > 1 and reads_one_source(trainer, get_target(self._settings.for_ or "").name):
            yield path, "several_sources", ", ".join(source.name for source in sources)

    def _check_source(self, item: MediaItem, source: MediaItem) -> Iterator[tuple[Path, str, str]]:
        size, of_source = _size(item), _size(source)
        if size and of_source and not 1 / _MAX_RATIO < (size[0] * of_source[1]) / (size[1] * of_source[0]) < _MAX_RATIO:
            yield source.path, "source_aspect", f"{_shown(of_source)}, and the file {_shown(size)}"
        by = FINDS_BY.get(self._settings.trainer)
        wanted = item.path.stem if by == "stem" else item.path.name
        if by is not None and wanted != (source.path.stem if by == "stem" else source.path.name):
            yield source.path, "source_name", f"it looks for {wanted}{'.*' if by == 'stem' else ''}"
        if self._settings.trainer == "simpletuner" and source.path.with_suffix(".txt").exists():
            yield source.path.with_suffix(".txt"), "source_caption", ""

    def extra(self) -> Iterator[Path]:
        """The sources that no file has. Call it once all files were checked."""
        for source in self._pairs.extra(recursive=self._settings.recursive):
            yield source.path


def _size(item: MediaItem) -> tuple[int, int] | None:
    """Width and height of an upright image, from its header; None if that is not possible."""
    if item.kind != "image":
        return None
    try:
        with Image.open(filesystem.source(item.path)) as image:
            is_sideways = image.getexif().get(0x0112) in _UPRIGHT
            return image.size[::-1] if is_sideways else image.size
    except (ItemError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
