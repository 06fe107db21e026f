"""One item on its way: its pixels are held, its prompts asked, until each has a fit answer or one of them has none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from ..config.settings import Settings
from ..dataset.journal import JournalRecord
from ..media.pool import DecodeTask
from ..prompts.examples import FewShotExample, examples_of_kind
from ..prompts.metadata import MetadataTable
from ..prompts.variables import fill_template, variable_values
from ..types import Captioned, Failed, Frames, Kind, MediaItem, Reply, Request
from .postprocess import CaptionCheck, postprocess_reply

_RETRY_TEMPERATURE = 0.7


@dataclass(slots=True)
class PromptState:
    """One prompt about the item. `rejected`: raw replies to it that were not fit."""

    id: int
    prompt: str  # its variables filled in
    template: str
    rejected: list[str] = field(default_factory=list)
    in_flight: bool = False
    reply: Reply | None = None  # the fit one
    check: CaptionCheck | None = None


@dataclass(slots=True, eq=False)
class ItemState:
    """`media`: the file's fingerprint before it was read."""

    item: MediaItem
    media: str
    decoding: DecodeTask
    frames: Frames | None = None
    values: Mapping[str, str | int | float] = field(default_factory=dict)  # of the prompts' variables
    prompt_states: list[PromptState] = field(default_factory=list)
    failed: Failed | None = None

    @property
    def kind(self) -> Kind:
        """By content, once its frames are there."""
        return self.frames.kind if self.frames else self.item.kind

    @property
    def is_decoded(self) -> bool:
        return self.decoding.done()

    @property
    def is_done(self) -> bool:
        """Whether nothing is to come: no answer is missing, or one prompt failed and no other is with the engine."""
        if any(prompt_state.in_flight for prompt_state in self.prompt_states):
            return False
        return self.failed is not None or all(prompt_state.reply for prompt_state in self.prompt_states)

    def begin(
        self, frames: Frames, settings: Settings, metadata: MetadataTable, existing: str, new_id: Callable[[], int]
    ) -> None:
        """existing: the caption that is there now. new_id: of a request, unique in the run."""
        self.frames = frames
        self.values = variable_values(
            self.item,
            frames,
            trigger=settings.prompting.trigger,
            existing=existing,
            metadata=metadata.lookup(self.item),
        )
        self.prompt_states = [
            PromptState(new_id(), fill_template(text, self.values), text) for text in settings.prompts[frames.kind]
        ]

    def pending_prompts(self) -> list[PromptState]:
        """What the engine is to be asked now."""
        return (
            []
            if self.failed
            else [
                prompt_state
                for prompt_state in self.prompt_states
                if not prompt_state.in_flight and prompt_state.reply is None
            ]
        )

    def request(self, prompt_state: PromptState, settings: Settings, examples: Sequence[FewShotExample]) -> Request:
        """A second try samples, with a seed of its own: a greedy answer would be the same again."""
        assert self.frames is not None
        generation, attempt = settings.generation, len(prompt_state.rejected)
        seed = f"{generation.seed} {self.item.name}" + (f" {attempt}" if attempt else "")
        kind = self.frames.kind
        return Request(
            id=prompt_state.id,
            item=self.item,
            frames=self.frames,
            prompt=prompt_state.prompt,
            max_new_tokens=settings.max_new_tokens(kind),
            examples=tuple(
                example.to_example(prompt_state.template, prompt_state.prompt, settings.prompting.trigger)
                for example in examples_of_kind(examples, kind)
            ),
            temperature=max(generation.temperature, _RETRY_TEMPERATURE) if attempt else generation.temperature,
            seed=crc32(seed.encode("utf-8", "replace")),
            begin=settings.prompting.begin.strip(),
        )

    def handle_reply(
        self, answer: Reply | Failed, settings: Settings, count_tokens: Callable[[str], int] | None
    ) -> None:
        """Take an answer: fit, to be asked again, or the item's failure."""
        [prompt_state] = [prompt_state for prompt_state in self.prompt_states if prompt_state.id == answer.request_id]
        prompt_state.in_flight = False
        if isinstance(answer, Failed):
            self.failed = answer
            return
        check = postprocess_reply(answer, prompt_state.prompt, settings, self.values, count_tokens)
        if check.rejection is None:
            prompt_state.reply, prompt_state.check = answer, check
            return
        prompt_state.rejected.append(answer.text)
        if len(prompt_state.rejected) > settings.judging.retries:
            self.failed = Failed(self.item, check.rejection, rejected=tuple(prompt_state.rejected))

    def captioned(self, *, as_lines: bool) -> Captioned:
        """Once it is over. as_lines: the `.txt` is to hold every caption, else the first."""
        assert self.frames is not None
        accepted = [
            (prompt_state.reply, prompt_state.check)
            for prompt_state in self.prompt_states
            if prompt_state.reply and prompt_state.check
        ]
        captions = tuple(check.caption for _, check in accepted)
        flags = dict.fromkeys([*self.frames.flags, *(flag for _, check in accepted for flag in check.flags)])
        return Captioned(
            item=self.item,
            caption="\n".join(dict.fromkeys(captions)) if as_lines else captions[0],
            captions=captions,
            flags=tuple(flags),
            frames=len(self.frames.times_s),
            prompt_tokens=sum(reply.prompt_tokens for reply, _ in accepted),
            new_tokens=sum(reply.new_tokens for reply, _ in accepted),
            seconds=max(reply.seconds for reply, _ in accepted),
        )

    def to_journal_record(self, captioned: Captioned) -> JournalRecord:
        """What the journal keeps of how the captions came about."""
        assert self.frames is not None
        replies = [prompt_state.reply for prompt_state in self.prompt_states if prompt_state.reply]
        return {
            "kind": "caption",
            "path": self.item.name,
            "caption_file": self.item.caption_file,
            "media": self.media,
            "media_kind": self.kind,
            "prompts": [prompt_state.prompt for prompt_state in self.prompt_states],
            "frame_times_s": self.frames.times_s,
            "raw": [reply.text for reply in replies],
            "finish_reasons": [reply.finish_reason for reply in replies],
            "captions": captioned.captions,
            "flags": captioned.flags,
            "prompt_tokens": captioned.prompt_tokens,
            "new_tokens": captioned.new_tokens,
            "seconds": round(captioned.seconds, 3),
            "retries": sum(len(prompt_state.rejected) for prompt_state in self.prompt_states),
            "rejected": [raw for prompt_state in self.prompt_states for raw in prompt_state.rejected],
        }
