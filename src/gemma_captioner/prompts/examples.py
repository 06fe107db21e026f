"""Reads --examples: few-shot examples, which have captions, and references, which have names."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..captions.formats import join_prose_lines
from ..config.selection import SelectionSettings
from ..dataset.discover import Collision, DiscoveredItem, Discovery, Root
from ..errors import UsageError
from ..text import encodable, path_error
from ..types import Failed, MediaItem


@dataclass(frozen=True, slots=True)
class ShownMedia:
    """The media and captions of --examples.

    Attributes:
        examples: (caption, its media or None).
        references: (label, image), sorted by name.
        names: Whom or what the references show.
    """

    examples: Sequence[tuple[str, MediaItem | None]] = ()
    references: Sequence[tuple[str, MediaItem]] = ()
    names: Sequence[str] = ()


def read_examples(paths: Sequence[Path], *, has_sources: bool = False) -> ShownMedia:
    """Read folders of media, in natural order, and text files with one caption per line.

    The media of a folder with a caption are examples, and those without a caption are skipped. In a folder without
    captions, each image is a reference, named after whom or what it shows.

    Args:
        has_sources: Whether the run has source images. The media of an example have none, so it must be a text.

    Raises:
        UsageError: A path cannot be read or has nothing to show, or two references have the same name.
    """
    examples: list[tuple[str, MediaItem | None]] = []
    images: list[MediaItem] = []
    for path in paths:
        try:
            if not path.is_dir():
                lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
                if not lines:
                    raise UsageError(_nothing(path))
                examples += [(line, None) for line in lines]
                continue
            found = list(Discovery([Root(path, path, path)], SelectionSettings()))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--examples {path} cannot be read: {path_error(error)}") from error
        captioned = [one.item for one in found if isinstance(one, DiscoveredItem) and one.captioned]
        if captioned and has_sources:
            raise UsageError(
                f"--examples {path}: media with captions cannot be combined with --control, because the model "
                "would not see their sources: give a text file with one caption per line"
            )
        examples += [(_answer(item.caption_path), item) for item in captioned]
        if not captioned:
            images += _reference_images(path, found)
    names = _names(images)
    if "" in names:
        raise UsageError(
            f"--examples: {images[names.index('')].path} names nobody: name it after whom or what it shows"
        )
    return ShownMedia(examples, list(_labeled(images, names)), list(dict.fromkeys(names)))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _answer(path: Path) -> str:
    try:
        return join_prose_lines(_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--examples: {path} cannot be read: {path_error(error)}") from error


def _nothing(path: Path) -> str:
    return (
        f"--examples {path} has nothing to show: give media with a .txt file beside each, images named after whom or "
        "what they show, or a text file with one caption per line"
    )


def _reference_images(path: Path, found: Sequence[DiscoveredItem | Failed]) -> list[MediaItem]:
    for one in found:
        if isinstance(one, Collision):
            raise UsageError(
                f"--examples: {one.item.path} has the same name as another file: number them, as in "
                f"{one.item.path.stem}-1.png and {one.item.path.stem}-2.jpg"
            )
        if isinstance(one, Failed):
            raise UsageError(f"--examples {path}: {one.error}")
        if unsafe := re.search(r"[<>|]", one.item.path.stem):
            raise UsageError(
                f"--examples: {one.item.path}: the model would read {unsafe[0]} as part of a token: rename the file"
            )
    items = [one.item for one in found if isinstance(one, DiscoveredItem)]
    if clip := next((item for item in items if item.kind == "clip"), None):
        raise UsageError(f"--examples: {clip.path} is a clip: references are images: save a frame of it")
    if not items:
        raise UsageError(_nothing(path))
    return items


def _names(images: Sequence[MediaItem]) -> list[str]:
    """The name that each image shows. A number at the end only counts the images of one name.

    # Mara.png, Mara-2.jpg, red_lantern.png, Apollo-11.png -> Mara, Mara, red lantern, Apollo-11
    """
    stems = [encodable(image.path.stem) for image in images]
    bases = [re.sub(r"[-_ ]\d+$", "", stem) for stem in stems]
    sharing = Counter(base.casefold() for base in bases)
    names = [base if sharing[base.casefold()] > 1 else stem for stem, base in zip(stems, bases, strict=True)]
    return [name.replace("_", " ").strip() for name in names]


def _labeled(images: Sequence[MediaItem], names: Sequence[str]) -> Iterator[tuple[str, MediaItem]]:
    for name in dict.fromkeys(names):
        of_name = [image for image, known in zip(images, names, strict=True) if known == name]
        for number, image in enumerate(of_name):
            yield f"This is {name}:" if number == 0 else f"This is {name}, too:", image
