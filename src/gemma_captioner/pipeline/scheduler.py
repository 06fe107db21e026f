"""MediaItem -> decode -> Frames -> prompt -> Request -> engine -> Reply -> postprocess -> Outcome -> write.

The main loop, for images and clips, on one machine and in each actor of a cluster. It takes items and yields outcomes.
An outcome is on disk before it is yielded. The loop does not depend on folders.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING

import psutil

from ..captions.formats import get_format
from ..config.settings import Settings
from ..config.targets import get_target
from ..dataset.journal import JournalRecord, fingerprint, new_run_id
from ..engines import Engine, Session, engine_for
from ..engines.sound import SoundPlan, plan_sound, with_sound_up_to
from ..errors import ItemError
from ..prompts.context import Context
from ..prompts.metadata import load_metadata
from ..text import file_error
from ..types import (
    Activity,
    Captioned,
    Failed,
    Frames,
    Kind,
    MediaItem,
    Outcome,
    Skipped,
    max_audio_bytes,
    max_frame_bytes,
)
from .context_length import check_context_length
from .decoding import decode_settings
from .item import ItemState, existing_caption
from .transcription import Transcripts
from .writer import OutcomeWriter

if TYPE_CHECKING:
    from ..media.pool import DecodePool

PIXEL_BYTES = 1 << 30  # memory for pixels, held from decode until the outcome; more if the engine prefers large batches
_MAX_ITEMS = 512  # in progress at once: two of the local engine's largest batches
_POLL_TIMEOUT_S = 0.02


class Pipeline:
    """One run: captions items with an engine."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine | None = None,
        *,
        run_id: str | None = None,
        stores: int | None = None,
        log: Callable[[str], None] = lambda line: None,
        deadline: float = float("inf"),
    ) -> None:
        """Read the prompts, the metadata table and the context. Loads no model.

        Args:
            engine: By default, the settings select one.
            run_id: By default, a new id.
            stores: The number of stores, if known. If the only store cannot be written, the run ends.
            log: Receives lines for a person, such as the model and its precision.
            deadline: The value of `time.monotonic()` after which no item is started.

        Raises:
            UsageError: A prompt, the metadata table, an example or a folder of sources is invalid.
        """
        self.settings = settings
        self.run_id = run_id or new_run_id()
        self.load_seconds = 0.0
        self.loaded_at: float | None = None  # the value of `time.monotonic()` when the model was loaded
        self.stopped_by_deadline = False
        self._own_engine = engine
        self._log = log
        self._deadline = deadline
        self._metadata = load_metadata(settings)
        self._transcripts = Transcripts(settings, self._metadata)
        self._context = Context(settings)
        self._format = get_format(settings.format)
        for_ = settings.sampling.for_
        self._as_lines = self._format.is_one_line and for_ is not None and get_target(for_).one_caption_per_line
        self._items: list[ItemState] = []  # in progress, in the order of the plan
        self._in_flight: dict[int, ItemState] = {}  # by request id
        self._request_ids = count()
        self._kinds: set[Kind] = set()  # of the items so far
        self._deferred: MediaItem | None = None  # the next item, while there is no memory for its pixels
        self._is_exhausted = False  # no more items to start
        self._sound_is_reported = False  # with the first clip
        self._wait_until_prepared: Callable[[], None] = lambda: None
        self._resources = ExitStack()  # the decode pool and the session; closed before the writer
        self.writer = OutcomeWriter(settings, self.run_id, stores=stores)

    def run(self, planned: Iterator[MediaItem | Skipped | Failed | None]) -> Generator[Outcome]:
        """Caption the planned items, and yield outcomes as soon as they are on disk.

        Args:
            planned: Items to caption, and finished outcomes. None means that no item is available yet.

        Raises:
            StartError: The run cannot start or cannot continue.
        """
        session: Session | None = None
        with closing(self.writer), self._resources:
            while True:
                yield from self._admit(planned)
                if self._time_is_up():
                    self._drop_undecoded()
                if not self._items:
                    yield from self.writer.flush()  # a cluster waits for these outcomes before it sends more items
                    if self._is_exhausted:
                        return
                yield from self._begin_decoded()
                # A run in which no file can be decoded does not load the model.
                if session is None and any(state.frames for state in self._items):
                    session = self._load_model()
                if session is None:
                    time.sleep(_POLL_TIMEOUT_S / 4)
                    continue
                self._submit(session)
                yield from self._collect(session)
                if self.writer.is_flush_due:
                    yield from self.writer.flush()

    @property
    def activity(self) -> Activity:
        """What the run does now. Any thread may ask."""
        items = list(self._items)
        in_flight = [state for state in items if any(prompt.in_flight for prompt in state.prompt_states)]
        decoding = [state for state in items if not state.decoding.was_done]  # only the run's thread may call `done`
        if self.loaded_at is None and len(decoding) < len(items):
            return Activity("the model to load")
        is_ready = len(in_flight) + len(decoding) < len(items)
        waiting_for = "the model" if in_flight and (is_ready or not decoding) else "decoding" if decoding else ""
        current = in_flight if waiting_for == "the model" else decoding
        return Activity(waiting_for, tuple(state.item.name for state in current))

    # Admission and decoding

    def _admit(self, planned: Iterator[MediaItem | Skipped | Failed | None]) -> Iterator[Outcome]:
        """Start as many items as memory allows. Yields items that are finished already and items that cannot start."""
        while not self._is_exhausted and len(self._items) < _MAX_ITEMS:
            try:
                step = self._deferred or next(planned)
            except StopIteration:
                self._is_exhausted = True
                return
            self._deferred = None
            if step is None:
                return
            if not isinstance(step, MediaItem):
                yield self.writer.record(step)
            elif self._time_is_up():
                self._is_exhausted = self.stopped_by_deadline = True
            elif (state := self._begin(step)) is None:
                self._deferred = step
                return
            elif isinstance(state, Failed):
                yield self.writer.record(state)
            else:
                self._items.append(state)

    def _time_is_up(self) -> bool:
        return time.monotonic() > self._deadline

    def _begin(self, item: MediaItem) -> ItemState | Failed | None:
        """Start to decode an item. Returns None if there is no memory for its pixels now."""
        if self.loaded_at is None and item.kind not in self._kinds:  # later, the engine rejects single requests
            self._kinds.add(item.kind)
            check_context_length(self._context, self.engine, self.settings, item.kind)
        pool = self._pool
        if (error := self.writer.write_error(item.store)) is not None:
            return Failed(item, error)
        try:
            media = fingerprint(item.path)
        except OSError as unreadable:
            return Failed(item, f"cannot be read ({file_error(unreadable)}): replace or remove it")
        try:
            sources = self._context.sources.of(item)
            digest = self._context.digest(sources)
        except ItemError as error:
            return Failed(item, str(error))
        decoding = pool.start(item, *sources)
        if item.kind == "clip" and decoding is not None and not self._sound_is_reported:
            self._sound_is_reported = True
            if self._sound.message:
                self._log(self._sound.message)
        return None if decoding is None else ItemState(item, media, decoding, sources, digest)

    @cached_property
    def _pool(self) -> "DecodePool":
        """The decode pool, started for the first file. It decodes the examples and references first."""
        from ..media.pool import DecodePool  # here: a run without new files needs no decoders

        spec, max_bytes = self.engine.spec, max(PIXEL_BYTES, psutil.virtual_memory().available // 4)
        pool = DecodePool(
            spec.size,
            replace(decode_settings(self.settings), jpeg_scale=spec.jpeg_scale, max_audio_s=self._decoded_sound_s),
            clip_size=spec.clip_size or spec.size,
            workers=self.settings.run_options.workers or os.cpu_count() or 1,
            pixel_bytes=min(max_bytes, self._pixel_bytes()),
            max_pixel_bytes=max_bytes,
            files_per_task=self._context.sources.files_per_item,
        )
        self._resources.enter_context(pool)
        if prepare := getattr(self.engine, "prepare", None):  # an engine of the user's own may have none
            self._wait_until_prepared = prepare()
        self._context.decode(pool, partial(with_sound_up_to, self._sound.max_s))
        return pool

    @cached_property
    def _sound(self) -> SoundPlan:
        """Whether sound is sent. Raises `UsageError` if --audio on is impossible."""
        return plan_sound(self.settings, self.engine.spec)

    @property
    def _decoded_sound_s(self) -> float:
        """The most sound of one clip to decode: what is sent, or what is transcribed."""
        return max(self._sound.max_s, self._transcripts.max_audio_s)

    def _pixel_bytes(self) -> int:
        """Return the memory for as many clips as the engine prefers, with sound, as far as it knows yet."""
        spec = self.engine.spec
        clip = self.settings.sampling.frames * max_frame_bytes(spec.clip_size or spec.size)
        clip += max_audio_bytes(self._decoded_sound_s)
        return max(PIXEL_BYTES, spec.preferred_batch_size * clip * self._context.sources.files_per_item)

    def _drop_undecoded(self) -> None:
        """After the deadline, drop the items for which no request was sent: another run captions them."""
        for state in [state for state in self._items if not state.is_asked]:
            self._release(state)
            self.stopped_by_deadline = True

    def _begin_decoded(self) -> Iterator[Outcome]:
        """Create the prompts of the items that were decoded since. Yields those that fail."""
        for state in [state for state in self._items if state.frames is None and state.is_decoded]:
            if isinstance(frames := state.take_decoded(), Failed):
                state.failed = frames
            elif not self._is_transcribed(state, frames):
                continue
            elif isinstance(speech := state.speech(), Failed):
                state.failed = speech
            else:
                existing = existing_caption(state.item, self._metadata)
                frames = with_sound_up_to(self._sound.max_s, frames)
                state.source_frames = [with_sound_up_to(self._sound.max_s, source) for source in state.source_frames]
                state.begin(frames, self.settings, self._metadata, existing, lambda: next(self._request_ids), speech)
            if state.failed is not None:
                self._release(state)
                yield self.writer.record(state.failed)

    def _is_transcribed(self, state: ItemState, frames: Frames) -> bool:
        """Whether the transcript of the item is ready or not needed. A thread makes one transcript after the other."""
        if self._transcripts and frames.kind == "clip" and state.transcription is None:
            state.transcription = self._transcription_thread.submit(self._transcripts.speech, state.item, frames)
        return state.transcription is None or state.transcription.done()

    @cached_property
    def _transcription_thread(self) -> ThreadPoolExecutor:
        thread = ThreadPoolExecutor(1, "transcription")
        self._resources.callback(thread.shutdown, cancel_futures=True)
        return thread

    # The model

    @cached_property
    def engine(self) -> Engine:
        """The engine, created for the first file. A finished folder needs none."""
        return self._own_engine or engine_for(self.settings, self._log, self._context.planned)

    def _load_model(self) -> Session:
        """Load the model while workers decode the next files."""
        self._wait_until_prepared()
        start = time.monotonic()
        self._log(self.engine.describe())
        session = self._resources.enter_context(self.engine.open())
        self._pool.grow(self._pixel_bytes())  # a local engine has planned its memory by now
        self.loaded_at = time.monotonic()
        self.load_seconds = self.loaded_at - start
        return session

    def _submit(self, session: Session) -> None:
        """Send requests for decoded items to the engine, up to its available slots."""
        available_slots = session.available_slots
        for state in self._items:
            if available_slots <= 0:
                return
            for prompt_state in state.pending_prompts()[:available_slots]:
                self._in_flight[prompt_state.id], prompt_state.in_flight = state, True
                session.submit(state.request(prompt_state, self.settings, self._context))
                available_slots -= 1

    # Outcomes

    def _collect(self, session: Session) -> Iterator[Outcome]:
        """Handle the engine's replies, and yield the items that are done."""
        for reply in session.poll(_POLL_TIMEOUT_S):
            assert reply.request_id is not None
            state = self._in_flight.pop(reply.request_id)
            state.handle_reply(reply, self.settings, self._format, self._count_tokens)
            if state.is_done:
                self._release(state)
                if (outcome := self._store_outcome(state)) is not None:
                    yield outcome

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        """The token counter of --tokenizer. Raises `ModelError` if the tokenizer cannot be loaded."""
        from ..engines.local.tokenizer import token_counter

        return token_counter(self.settings.quality.tokenizer, self.settings.model.hf_token)

    def _release(self, state: ItemState) -> None:
        self._items.remove(state)
        state.decoding.release()

    def _store_outcome(self, state: ItemState) -> Outcome | None:
        """Store the outcome. Returns None while the writer buffers the caption."""
        if state.failed is not None:
            return self.writer.record(state.failed)
        captioned = state.captioned(as_lines=self._as_lines)
        return self.writer.store(captioned, self._journal_record(state, captioned))

    def _journal_record(self, state: ItemState, captioned: Captioned) -> JournalRecord:
        """The journal record of the item, with the fields of the run."""
        spec = self.engine.spec
        return (
            state.to_journal_record(captioned)
            | {
                "model": spec.model,
                "revision": spec.revision,
                "recipe": self.settings.settings_hash(state.kind),
                "span": self.settings.sampling.span if state.kind == "clip" else None,
            }
            | ({} if (metadata := self._metadata.digest(state.item)) is None else {"metadata": metadata})
            | ({} if (transcript := self._transcripts.digest(state.item)) is None else {"transcript": transcript})
        )
