"""Media and texts before each item in a request: few-shot examples, references, and the source images of an edit."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..config.settings import Settings
from ..dataset.journal import fingerprint
from ..errors import ItemError, StartError
from ..text import file_error
from ..types import Audio, ContextPart, Failed, Frames, Kind, MediaItem
from .examples import read_examples
from .sources import Sources
from .variables import fill_template, variable_values

if TYPE_CHECKING:
    from ..media.pool import DecodePool


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """A `ContextPart` of many requests, before its media is decoded."""

    text: str = ""  # the label of its media; a few-shot example has the prompt of the item instead
    answer: str | None = None  # of a few-shot example
    item: MediaItem | None = None  # None for a text alone
    frames: Frames | None = None  # None until the media is decoded
    for_kind: Kind | None = None  # the only kind of items whose requests have it

    @property
    def kind(self) -> Kind | None:
        return self.frames.kind if self.frames else self.item.kind if self.item else None

    def applies_to(self, kind: Kind) -> bool:
        """Whether requests for items of this kind have it: few-shot examples only with media of this kind."""
        return (self.for_kind if self.answer is None else self.kind) in (None, kind)

    def to_part(self, template: str, prompt: str, trigger: str) -> ContextPart:
        """Fill `template` for an example. Without media, use `prompt`, which is filled for the current item."""
        if self.answer is None:
            return ContextPart(self.text, frames=self.frames)
        if self.item is None or self.frames is None:
            return ContextPart(prompt, self.answer)
        values = variable_values(self.item, self.frames, trigger=trigger, existing="", metadata={})
        try:
            return ContextPart(fill_template(template, values), self.answer, self.frames)
        except (KeyError, ValueError):  # the prompt uses a column of the metadata table, which has no row for examples
            return ContextPart(prompt, self.answer, self.frames)


def entries_of_kind(entries: Sequence[ContextEntry], kind: Kind) -> list[ContextEntry]:
    """Return the entries that requests for items of this kind have."""
    return [entry for entry in entries if entry.applies_to(kind)]


class Context:
    """The context of all items of a run."""

    def __init__(self, settings: Settings) -> None:
        """Read --examples, and list the folders of --control. Raises `UsageError`."""
        shown = read_examples(settings.prompting.examples, has_sources=bool(settings.prompting.control))
        self.entries = [ContextEntry(answer=answer, item=item) for answer, item in shown.examples]
        self.entries += [ContextEntry(label, item=item) for label, item in shown.references]
        self.names = shown.names
        self.sources = Sources(settings.prompting.control)

    @property
    def planned(self) -> list[ContextEntry]:
        """The longest context of an item of each kind, to plan memory and to count tokens."""
        return [*self.entries, *(entry for kind in _KINDS for entry in self._planned_sources(kind))]

    def _planned_sources(self, kind: Kind) -> Iterator[ContextEntry]:
        largest = self.sources.largest(kind)
        labels = self.labels([item.kind for item in largest], kind)
        for label, item in zip(labels, [*largest, None], strict=True):
            yield ContextEntry(label, item=item, for_kind=kind)

    def labels(self, source_kinds: Sequence[Kind], kind: Kind) -> list[str]:
        """The labels of the sources of an item, and of the item itself.

        # 2 images -> Source image 1:, Source image 2:, Edited image:      none, but references -> Image to describe:
        """
        words = {"image": "image", "clip": "clip"}
        numbers = [f" {n}" for n in range(1, len(source_kinds) + 1)] if len(source_kinds) > 1 else [""]
        labels = [f"Source {words[of]}{n}:" for of, n in zip(source_kinds, numbers, strict=False)]
        if labels:
            labels.append(f"Edited {words[kind]}:")
        else:
            labels.append(f"{words[kind].capitalize()} to describe:" if self.names else "")
        if self.names:
            names = ", ".join(self.names)
            labels[0] = f"Call those that appear below by name ({names}), and leave out the others.\n{labels[0]}"
        return labels

    def digest(self, sources: Sequence[MediaItem]) -> str | None:
        """Return a digest of the references and of an item's sources. None without any. Raises `ItemError`."""
        files = [(entry.text, entry.item) for entry in self.entries if entry.item and entry.answer is None]
        files += [("source", item) for item in sources]
        if not files:
            return None
        found = []
        for text, item in files:
            try:
                found.append((text, fingerprint(item.path)))
            except OSError as error:
                raise ItemError(f"{item.path} cannot be read ({file_error(error)}): replace or remove it") from error
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]

    def decode(self, pool: "DecodePool", limit_sound: Callable[[Frames], Frames] = lambda frames: frames) -> None:
        """Decode the media of the entries. Raises `StartError` if one cannot be decoded.

        limit_sound: returns frames with as much of their sound as the run sends.
        """
        self.entries = [
            entry if entry.item is None else replace(entry, frames=limit_sound(_frames(entry.item, pool)))
            for entry in self.entries
        ]


_KINDS: tuple[Kind, ...] = ("image", "clip")


def _frames(item: MediaItem, pool: "DecodePool") -> Frames:
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
