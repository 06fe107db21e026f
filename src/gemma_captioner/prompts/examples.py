"""Examples that the model is shown before it is asked: media with their captions, or captions alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.selection import SelectionSettings
from ..dataset.discover import Discovery, Root
from ..errors import StartError, UsageError
from ..media.pool import DecodePool
from ..text import file_error
from ..types import Example, Failed, Frames, Kind, MediaItem
from .variables import fill_template, variable_values


@dataclass(frozen=True, slots=True)
class FewShotExample:
    """An answer and what it was said of. frames: once they are decoded; item: None where there are words alone."""

    answer: str
    item: MediaItem | None = None
    frames: Frames | None = None

    @property
    def kind(self) -> Kind | None:
        return self.frames.kind if self.frames else self.item.kind if self.item else None

    def to_example(self, template: str, prompt: str, trigger: str) -> Example:
        """template: the prompt with its variables. prompt: with those of the item that is asked about."""
        if self.item is None or self.frames is None:
            return Example(prompt, self.answer)
        values = variable_values(self.item, self.frames, trigger=trigger, existing="", metadata={})
        try:
            return Example(fill_template(template, values), self.answer, self.frames)
        except KeyError:  # a column of the facts, which tell nothing of it
            return Example(prompt, self.answer, self.frames)


def read_examples(path: Path | None) -> list[FewShotExample]:
    """In natural order; media without a caption are left out. Raises `UsageError` where there is none."""
    if path is None:
        return []
    try:
        if path.is_dir():
            found = Discovery([Root(path, path, path)], SelectionSettings())
            examples = [
                FewShotExample(_one_line(f.item.caption_path), f.item)
                for f in found
                if not isinstance(f, Failed) and f.captioned
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


def _one_line(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8-sig").split())


def examples_of_kind(examples: Sequence[FewShotExample], kind: Kind) -> list[FewShotExample]:
    """Clips are shown clips, images images; captions alone are for both."""
    return [example for example in examples if example.kind in (None, kind)]


def decode_examples(examples: Sequence[FewShotExample], pool: DecodePool) -> list[FewShotExample]:
    """With their frames. Raises `StartError` for one that cannot be read: the run would be another than was meant."""
    return [
        example if example.item is None else FewShotExample(example.answer, example.item, _frames(example.item, pool))
        for example in examples
    ]


def _frames(item: MediaItem, pool: DecodePool) -> Frames:
    decoding = pool.start(item)
    assert decoding is not None  # nothing else is in the pool yet
    while not decoding.done():
        time.sleep(0.01)
    frames = decoding.result()
    if isinstance(frames, Failed):
        raise StartError(f"--examples: {item.path}: {frames.error}")
    kept = Frames(frames.pixels.copy(), frames.times_s, frames.duration_s, (), frames.kind, frames.source_size)
    decoding.release()
    return kept
