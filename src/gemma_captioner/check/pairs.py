"""Checks edit pairs: the sources that --control names, and how a trainer finds them."""

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from ..config.edits import FINDS_BY, NOT_IN_SUBFOLDERS, reads_one_source
from ..config.targets import get_target
from ..dataset.discover import EXTENSIONS
from ..media.header import Header, read_header
from ..prompts.sources import EditPairs, Sources
from ..types import MediaItem
from .rules import Rule
from .settings import CheckSettings

_MAX_RATIO = 1.1  # between the aspect ratios of a file and its source


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
    "source_in_subfolder": PairRule(
        "error", "the trainer finds no sources in subfolders", "move the subfolder out, and export it on its own",
        trainers=NOT_IN_SUBFOLDERS),
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
        if trainer in NOT_IN_SUBFOLDERS and sources and "/" in item.name:
            yield path, "source_in_subfolder", ""
        if trainer and len(sources) > 1 and reads_one_source(trainer, get_target(self._settings.for_ or "").name):
            yield path, "several_sources", ", ".join(source.name for source in sources)

    def _check_source(self, item: MediaItem, source: MediaItem) -> Iterator[tuple[Path, str, str]]:
        own, other = (read_header(one.path) if one.kind == "image" else None for one in (item, source))
        if own and other and not 1 / _MAX_RATIO < _aspect(own) / _aspect(other) < _MAX_RATIO:
            yield source.path, "source_aspect", f"{_shown(other)}, and the file {_shown(own)}"
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


def _aspect(header: Header) -> float:
    return header.upright_size[0] / header.upright_size[1]


def _shown(header: Header) -> str:
    return "{} x {}".format(*header.upright_size)
