"""The state of one item in the pipeline, until each of its prompts has a valid reply or one of them fails."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..captions.encoding import decode_text
from ..captions.formats import CaptionFormat
from ..captions.repair import strip_invisible
from ..config.prompting import chains
from ..config.settings import Settings
from ..dataset import sidecar
from ..dataset.journal import JournalRecord
from ..errors import ItemError
from ..prompts.context import Context, entries_of_kind
from ..prompts.metadata import MetadataTable
from ..prompts.variables import fill_template, find_empty_variable, variable_values
from ..text import encodable
from ..types import Captioned, ContextPart, Failed, Frames, Kind, MediaItem, Reply, Request
from .postprocess import CaptionCheck, check_chain_reply, postprocess_reply
from .transcription import Speech

if TYPE_CHECKING:
    from ..media.pool import DecodeTask

_RETRY_TEMPERATURE = 0.7
_RETRY_PROMPT = (
    "{prompt}\n\nAn earlier answer could not be used: {format_error}. Answer again, completely and in that format."
)


def templates(settings: Settings, kind: Kind) -> tuple[str, ...]:
    """Return all texts of an item of this kind that may have variables."""
    return (*settings.prompts[kind], settings.prompting.prefix, settings.prompting.suffix)


def existing_caption(item: MediaItem, metadata: MetadataTable) -> str:
    """Return the existing caption, which is read only if a prompt uses it."""
    if metadata.used_variables.isdisjoint({"existing", "tags"}):
        return ""
    try:
        content = sidecar.read(item.caption_path) or b""
        text, _ = decode_text(content)
        return (content.decode("utf-8", "replace") if text is None else text).strip()
    except ItemError:  # the writer reports this error later
        return ""


def _is_heard(frames: Frames) -> bool | None:
    """True if the model gets the sound of the clip, False if the clip has none, None if unknown."""
    if not {"no_audio", "silent"}.isdisjoint(frames.flags):
        return False
    return None if frames.audio is None else True


@dataclass(slots=True)
class PromptState:
    """One prompt of an item: the current one of a chain of prompts."""

    id: int
    prompt: str  # with the values of its variables
    template: str  # with its variables
    following: list[str] = field(default_factory=list)  # the templates that continue the chain
    earlier: list[tuple[str, Reply]] = field(default_factory=list)  # the prompts and answers of the chain so far
    attempt: int = 0  # of this prompt
    format_error: str = ""  # why the last answer does not fit the format
    rejected: list[str] = field(default_factory=list)  # raw replies without a valid caption
    in_flight: bool = False
    reply: Reply | None = None  # the valid one
    check: CaptionCheck | None = None

    @property
    def answered(self) -> list[tuple[str, Reply]]:
        """The prompts and their answers, in order."""
        return [*self.earlier, *([(self.prompt, self.reply)] if self.reply else [])]


@dataclass(slots=True, eq=False)
class ItemState:
    """One item between decoding and outcome."""

    item: MediaItem
    media: str  # the fingerprint of the file, taken before it is decoded
    decoding: "DecodeTask"  # of the file, then of its sources
    sources: Sequence[MediaItem] = ()
    context_digest: str | None = None  # of the references and sources
    transcription: Future[Speech | Failed | None] | None = None  # None if nothing is transcribed
    frames: Frames | None = None
    source_frames: Sequence[Frames] = ()
    speech_nearby: str | None = None  # the transcript of the clip, None if unknown
    values: Mapping[str, str | int | float] = field(default_factory=dict)  # of the variables in its prompts
    prompt_states: list[PromptState] = field(default_factory=list)
    failed: Failed | None = None

    @property
    def kind(self) -> Kind:
        """The kind by file extension; by content once the item is decoded."""
        return self.frames.kind if self.frames else self.item.kind

    @property
    def is_decoded(self) -> bool:
        return self.decoding.done()

    @property
    def is_asked(self) -> bool:
        """Whether a request was sent for it."""
        return any(prompt.in_flight or prompt.reply or prompt.rejected for prompt in self.prompt_states)

    @property
    def is_done(self) -> bool:
        """Whether every prompt has a valid reply, or one failed. False while a request is in flight."""
        if any(prompt.in_flight for prompt in self.prompt_states):
            return False
        return self.failed is not None or all(prompt.reply for prompt in self.prompt_states)

    def speech(self) -> Speech | Failed | None:
        """The transcript of the clip; None if unknown."""
        return None if self.transcription is None else self.transcription.result()

    def begin(
        self,
        frames: Frames,
        settings: Settings,
        metadata: MetadataTable,
        existing: str,
        new_id: Callable[[], int],
        speech: Speech | None = None,
    ) -> None:
        """Take the decoded frames and create the prompts, or fail. `existing` is the existing caption."""
        self.frames, self.speech_nearby = frames, speech.nearby if speech else None
        self.values = variable_values(
            self.item,
            frames,
            trigger=settings.prompting.trigger,
            existing=existing,
            metadata=metadata.lookup(self.item),
            transcript=speech.text if speech else "",
        )
        if (empty := find_empty_variable(templates(settings, frames.kind), self.values)) is not None:
            self.failed = Failed(self.item, metadata.explain_empty_variable(empty, self.item))
            return
        self.prompt_states = [
            PromptState(new_id(), fill_template(first, self.values), first, following)
            for first, *following in chains(settings.prompts[frames.kind])
        ]

    def pending_prompts(self) -> list[PromptState]:
        """The prompts to send to the engine now."""
        if self.failed:
            return []
        return [prompt for prompt in self.prompt_states if not prompt.in_flight and prompt.reply is None]

    def take_decoded(self) -> Frames | Failed:
        """Keep the frames of the sources, and return those of the item. One that cannot be decoded fails the item."""
        frames, *of_sources = self.decoding.results()
        for source, result in zip(self.sources, of_sources, strict=True):
            if isinstance(frames, Frames) and isinstance(result, Failed):
                return Failed(self.item, f"its source {source.path}: {result.error}")
        self.source_frames = [result for result in of_sources if isinstance(result, Frames)]
        return frames

    def request(self, prompt_state: PromptState, settings: Settings, context: Context) -> Request:
        """Build the request. A retry samples with another seed, because greedy decoding would repeat the reply."""
        assert self.frames is not None
        generation, attempt, is_last = settings.generation, prompt_state.attempt, not prompt_state.following
        prompt, format_error, begin = prompt_state.prompt, prompt_state.format_error, settings.prompting.begin.strip()
        seed = f"{generation.seed} {self.item.name}" + (f" {attempt}" if attempt else "")
        kind = self.frames.kind
        labels = context.labels([frames.kind for frames in self.source_frames], kind)
        return Request(
            id=prompt_state.id,
            item=self.item,
            frames=self.frames,
            prompt=_RETRY_PROMPT.format(prompt=prompt, format_error=format_error) if format_error else prompt,
            max_new_tokens=settings.max_new_tokens(kind),
            context=(
                *(
                    entry.to_part(prompt_state.template, prompt_state.prompt, settings.prompting.trigger)
                    for entry in entries_of_kind(context.entries, kind)
                ),
                *(
                    ContextPart(label, frames=frames, is_shared=False)
                    for label, frames in zip(labels, self.source_frames, strict=False)
                ),
            ),
            label=labels[-1],
            temperature=max(generation.temperature, _RETRY_TEMPERATURE) if attempt else generation.temperature,
            seed=crc32(seed.encode("utf-8", "replace")),
            begin=begin if is_last else "",
            schema=settings.format.json_schema if is_last and not begin else None,
        )

    def handle_reply(
        self,
        reply: Reply | Failed,
        settings: Settings,
        caption_format: CaptionFormat[Any],
        count_tokens: Callable[[str], int] | None,
    ) -> None:
        """Accept the reply, continue its chain, reject it so that its prompt is sent again, or fail the item."""
        assert self.frames is not None
        [prompt_state] = [prompt for prompt in self.prompt_states if prompt.id == reply.request_id]
        prompt_state.in_flight = False
        if isinstance(reply, Failed):
            self.failed = reply
            return
        reply = replace(reply, text=strip_invisible(encodable(reply.text)))
        # A caption may repeat the previous answer and the transcript, but not the prompt.
        prompt = fill_template(prompt_state.template, {**self.values, "previous": "", "transcript": ""})
        if prompt_state.following:
            check = check_chain_reply(reply, prompt, settings)
        else:
            check = postprocess_reply(
                reply,
                prompt,
                settings,
                self.values,
                caption_format,
                count_tokens=count_tokens,
                duration_s=self.frames.duration_s,
                is_heard=_is_heard(self.frames),
                spoken=self.speech_nearby,
            )
        if check.rejection is None and prompt_state.following:
            prompt_state.earlier.append((prompt_state.prompt, reply))
            prompt_state.template, prompt_state.attempt = prompt_state.following.pop(0), 0
            prompt_state.prompt = fill_template(prompt_state.template, {**self.values, "previous": check.caption})
            return
        if check.rejection is None:
            prompt_state.reply, prompt_state.check = reply, check
            return
        prompt_state.rejected.append(reply.text)
        prompt_state.attempt, prompt_state.format_error = prompt_state.attempt + 1, check.format_error
        if prompt_state.attempt > settings.quality.retries:
            self.failed = Failed(self.item, check.rejection, rejected=tuple(prompt_state.rejected))

    def captioned(self, *, as_lines: bool) -> Captioned:
        """Return the outcome of a finished item. as_lines: the `.txt` has one line per caption, not only the first."""
        assert self.frames is not None
        checks = [prompt.check for prompt in self.prompt_states if prompt.check]
        replies = [[reply for _, reply in prompt.answered] for prompt in self.prompt_states]
        captions = tuple(check.caption for check in checks)
        of_media = (flag for frames in (self.frames, *self.source_frames) for flag in frames.flags)
        flags = dict.fromkeys([*of_media, *(flag for check in checks for flag in check.flags)])
        return Captioned(
            item=self.item,
            caption="\n".join(dict.fromkeys(captions)) if as_lines else captions[0],
            captions=captions,
            flags=tuple(flags),
            frames=len(self.frames.times_s),
            prompt_tokens=sum(reply.prompt_tokens for chain in replies for reply in chain),
            new_tokens=sum(reply.new_tokens for chain in replies for reply in chain),
            seconds=max(sum(reply.seconds for reply in chain) for chain in replies),
        )

    def to_journal_record(self, captioned: Captioned) -> JournalRecord:
        """Return the journal record of how the captions were made."""
        assert self.frames is not None
        answered = [asked for prompt in self.prompt_states for asked in prompt.answered]
        return {
            "kind": "caption",
            "path": self.item.name,
            "caption_file": self.item.caption_file,
            "media": self.media,
            "media_kind": self.kind,
            "prompts": [prompt for prompt, _ in answered],
            "frame_times_s": self.frames.times_s,
            "raw": [reply.text for _, reply in answered],
            "finish_reasons": [reply.finish_reason for _, reply in answered],
            "captions": captioned.captions,
            "flags": captioned.flags,
            "prompt_tokens": captioned.prompt_tokens,
            "new_tokens": captioned.new_tokens,
            "seconds": round(captioned.seconds, 3),
            "retries": sum(len(prompt.rejected) for prompt in self.prompt_states),
            "rejected": [raw for prompt in self.prompt_states for raw in prompt.rejected],
            **({"sources": [source.name for source in self.sources]} if self.sources else {}),
            **({} if self.context_digest is None else {"context": self.context_digest}),
        } | ({} if self.frames.audio is None else {"audio_s": round(self.frames.audio.duration_s, 3)})
