"""One item on its way: its pixels are held, its prompts asked, until each has a fit answer or one of them has none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from ..config.settings import Settings
from ..dataset.journal import Line
from ..media.pool import Decoding
from ..prompts.examples import Shown, of_kind
from ..prompts.facts import Facts
from ..prompts.variables import filled, values_of
from ..types import Captioned, Failed, Frames, Kind, MediaItem, Reply, Request
from .postprocess import Judged, judged

_RETRY_TEMPERATURE = 0.7


@dataclass(slots=True)
class Ask:
    """One prompt about the item. `rejected`: raw replies to it that were not fit."""

    id: int
    prompt: str  # its variables filled in
    template: str
    rejected: list[str] = field(default_factory=list)
    in_flight: bool = False
    reply: Reply | None = None  # the fit one
    judged: Judged | None = None


@dataclass(slots=True, eq=False)
class Job:
    """`media`: the file's fingerprint before it was read."""

    item: MediaItem
    media: str
    decoding: Decoding
    frames: Frames | None = None
    values: Mapping[str, str | int | float] = field(default_factory=dict)  # of the prompts' variables
    asks: list[Ask] = field(default_factory=list)
    failed: Failed | None = None

    @property
    def kind(self) -> Kind:
        """By content, once its frames are there."""
        return self.frames.kind if self.frames else self.item.kind

    @property
    def is_decoded(self) -> bool:
        return self.decoding.done()

    @property
    def is_over(self) -> bool:
        """Whether nothing is to come: no answer is missing, or one prompt failed and no other is with the engine."""
        if any(ask.in_flight for ask in self.asks):
            return False
        return self.failed is not None or all(ask.reply for ask in self.asks)

    def begin(self, frames: Frames, settings: Settings, facts: Facts, existing: str, new_id: Callable[[], int]) -> None:
        """existing: the caption that is there now. new_id: of a request, unique in the run."""
        self.frames = frames
        self.values = values_of(
            self.item, frames, trigger=settings.prompting.trigger, existing=existing, facts=facts.about(self.item)
        )
        self.asks = [Ask(new_id(), filled(text, self.values), text) for text in settings.prompts[frames.kind]]

    def due(self) -> list[Ask]:
        """What the engine is to be asked now."""
        return [] if self.failed else [ask for ask in self.asks if not ask.in_flight and ask.reply is None]

    def request(self, ask: Ask, settings: Settings, examples: Sequence[Shown]) -> Request:
        """A second try samples, with a seed of its own: a greedy answer would be the same again."""
        assert self.frames is not None
        generation, tried = settings.generation, len(ask.rejected)
        seed = f"{generation.seed} {self.item.name}" + (f" {tried}" if tried else "")
        kind = self.frames.kind
        return Request(
            id=ask.id,
            item=self.item,
            frames=self.frames,
            prompt=ask.prompt,
            max_new_tokens=settings.max_new_tokens(kind),
            examples=tuple(
                shown.as_example(ask.template, ask.prompt, settings.prompting.trigger)
                for shown in of_kind(examples, kind)
            ),
            temperature=max(generation.temperature, _RETRY_TEMPERATURE) if tried else generation.temperature,
            seed=crc32(seed.encode("utf-8", "replace")),
            begin=settings.prompting.begin.strip(),
        )

    def hear(self, answer: Reply | Failed, settings: Settings, count_tokens: Callable[[str], int] | None) -> None:
        """Take an answer: fit, to be asked again, or the item's failure."""
        [ask] = [ask for ask in self.asks if ask.id == answer.request_id]
        ask.in_flight = False
        if isinstance(answer, Failed):
            self.failed = answer
            return
        verdict = judged(answer, ask.prompt, settings, self.values, count_tokens)
        if verdict.unfit is None:
            ask.reply, ask.judged = answer, verdict
            return
        ask.rejected.append(answer.text)
        if len(ask.rejected) > settings.judging.retries:
            self.failed = Failed(self.item, verdict.unfit, rejected=tuple(ask.rejected))

    def captioned(self, *, as_lines: bool) -> Captioned:
        """Once it is over. as_lines: the `.txt` is to hold every caption, else the first."""
        assert self.frames is not None
        fit = [(ask.reply, ask.judged) for ask in self.asks if ask.reply and ask.judged]
        captions = tuple(verdict.caption for _, verdict in fit)
        flags = dict.fromkeys([*self.frames.flags, *(flag for _, verdict in fit for flag in verdict.flags)])
        return Captioned(
            item=self.item,
            caption="\n".join(dict.fromkeys(captions)) if as_lines else captions[0],
            captions=captions,
            flags=tuple(flags),
            frames=len(self.frames.times_s),
            prompt_tokens=sum(reply.prompt_tokens for reply, _ in fit),
            new_tokens=sum(reply.new_tokens for reply, _ in fit),
            seconds=max(reply.seconds for reply, _ in fit),
        )

    def line(self, captioned: Captioned) -> Line:
        """What the journal keeps of how the captions came about."""
        assert self.frames is not None
        replies = [ask.reply for ask in self.asks if ask.reply]
        return {
            "kind": "caption",
            "path": self.item.name,
            "caption_file": self.item.caption_file,
            "media": self.media,
            "media_kind": self.kind,
            "prompts": [ask.prompt for ask in self.asks],
            "frame_times_s": self.frames.times_s,
            "raw": [reply.text for reply in replies],
            "finish_reasons": [reply.finish_reason for reply in replies],
            "captions": captioned.captions,
            "flags": captioned.flags,
            "prompt_tokens": captioned.prompt_tokens,
            "new_tokens": captioned.new_tokens,
            "seconds": round(captioned.seconds, 3),
            "retries": sum(len(ask.rejected) for ask in self.asks),
            "rejected": [raw for ask in self.asks for raw in ask.rejected],
        }
