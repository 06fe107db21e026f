"""Examples that the model is shown before it is asked: media with their captions, or captions alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.selection import Selection
from ..dataset.discover import Discovery, Root
from ..errors import StartError, UsageError
from ..media.pool import DecodePool
from ..types import Example, Failed, Frames, Kind, MediaItem
from .variables import filled, values_of


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer and what it was said of. frames: once they are decoded; item: None where there are words alone."""

    answer: str
    item: MediaItem | None = None
    frames: Frames | None = None

    @property
    def kind(self) -> Kind | None:
        return self.frames.kind if self.frames else self.item.kind if self.item else None

    def as_example(self, template: str, prompt: str, trigger: str) -> Example:
        """template: the prompt with its variables. prompt: with those of the item that is asked about."""
        if self.item is None or self.frames is None:
            return Example(prompt, self.answer)
        values = values_of(self.item, self.frames, trigger=trigger, existing="", facts={})
        try:
            return Example(filled(template, values), self.answer, self.frames)
        except KeyError:  # a column of the facts, which tell nothing of it
            return Example(prompt, self.answer, self.frames)


def read_examples(path: Path | None) -> list[Shown]:
    """In natural order; media without a caption are left out. Raises `UsageError` where there is none."""
    if path is None:
        return []
    try:
        if path.is_dir():
            found = Discovery([Root(path, path, path)], Selection())
            shown = [
                Shown(_one_line(f.item.caption_path), f.item)
                for f in found
                if not isinstance(f, Failed) and f.captioned
            ]
        else:
            shown = [Shown(line.strip()) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--examples {path}: {error}") from error
    if not shown:
        raise UsageError(f"--examples {path}: holds none. Give media with a .txt beside each, or a caption a line")
    return shown


def _one_line(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8-sig").split())


def of_kind(shown: Sequence[Shown], kind: Kind) -> list[Shown]:
    """Clips are shown clips, images images; captions alone are for both."""
    return [one for one in shown if one.kind in (None, kind)]


def decoded(shown: Sequence[Shown], pool: DecodePool) -> list[Shown]:
    """With their frames. Raises `StartError` for one that cannot be read: the run would be another than was meant."""
    return [one if one.item is None else Shown(one.answer, one.item, _frames(one.item, pool)) for one in shown]


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
