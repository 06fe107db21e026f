"""Few-shot examples: media with their captions, or captions without media."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..captions.formats import join_prose_lines
from ..config.selection import SelectionSettings
from ..dataset.discover import Discovery, Root
from ..errors import StartError, UsageError
from ..media.pool import DecodePool
from ..text import file_error
from ..types import Audio, Example, Failed, Frames, Kind, MediaItem
from .variables import fill_template, variable_values


@dataclass(frozen=True, slots=True)
class FewShotExample:
    """A caption and its media."""

    answer: str
    item: MediaItem | None = None  # None for a caption without media
    frames: Frames | None = None  # None until the media is decoded

    @property
    def kind(self) -> Kind | None:
        return self.frames.kind if self.frames else self.item.kind if self.item else None

    def to_example(self, template: str, prompt: str, trigger: str) -> Example:
        """Fill `template` for the example. Without media, use `prompt`, which is filled for the current item."""
        if self.item is None or self.frames is None:
            return Example(prompt, self.answer)
        values = variable_values(self.item, self.frames, trigger=trigger, existing="", metadata={})
        try:
            return Example(fill_template(template, values), self.answer, self.frames)
        except KeyError:  # the prompt uses a column of the metadata table, which has no row for examples
            return Example(prompt, self.answer, self.frames)


def read_examples(path: Path | None) -> list[FewShotExample]:
    """Read a folder of captioned media, in natural order, or a text file with one caption per line.

    It skips media without a caption. Raises `UsageError` if the path cannot be read or has no examples.
    """
    if path is None:
        return []
    try:
        if path.is_dir():
            examples = [
                FewShotExample(_answer(found.item.caption_path), found.item)
                for found in Discovery([Root(path, path, path)], SelectionSettings())
                if not isinstance(found, Failed) and found.captioned
            ]
        else:
            examples = [
                FewShotExample(line.strip())
                for line in path.read_text(encoding="utf-8-sig").splitlines()
                if line.strip()
            ]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--examples {path} cannot be read: {file_error(error)}") from error
    if not examples:
        raise UsageError(
            f"--examples {path} has no examples: give media with a .txt file beside each, or one caption per line"
        )
    return examples


def _answer(path: Path) -> str:
    try:
        return join_prose_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--examples: {path} cannot be read: {file_error(error)}") from error


def examples_of_kind(examples: Sequence[FewShotExample], kind: Kind) -> list[FewShotExample]:
    """Return the examples whose media is of this kind, and those without media."""
    return [example for example in examples if example.kind in (None, kind)]


def decode_examples(examples: Sequence[FewShotExample], pool: DecodePool) -> list[FewShotExample]:
    """Return the examples with their frames. Raises `StartError` if one cannot be decoded: skipping it would not do
    what the user asked for."""
    return [
        example if example.item is None else FewShotExample(example.answer, example.item, _frames(example.item, pool))
        for example in examples
    ]


def _frames(item: MediaItem, pool: DecodePool) -> Frames:
    decoding = pool.start(item)
    assert decoding is not None  # the pool is empty, so it has room
    frames = decoding.wait()
    if isinstance(frames, Failed):
        raise StartError(f"--examples: {item.path}: {frames.error}")
    # The pool reuses the memory of the pixels and samples after `release`.
    audio = None if frames.audio is None else Audio(frames.audio.samples.copy())
    copy = replace(frames, pixels=frames.pixels.copy(), audio=audio, flags=())
    decoding.release()
    return copy
