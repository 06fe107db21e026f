"""MediaItem -> decode -> Frames -> prompt -> Request -> engine -> Reply -> clean, judge -> Outcome -> store.

The one loop, for images and clips alike, on one machine and on each of many. It knows nothing of folders: items come
in, outcomes go out, each on disk when it comes.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from itertools import count

import psutil

from ..config.settings import Settings
from ..config.targets import get_trainer
from ..dataset import sidecar
from ..dataset.journal import JournalRecord, fingerprint, new_run_id
from ..engines import Engine, Session, engine_for
from ..errors import ItemError
from ..media.pool import DecodePool
from ..prompts.examples import FewShotExample, decode_examples, read_examples
from ..prompts.metadata import load_metadata
from ..types import Captioned, Failed, MediaItem, Outcome, Skipped, max_frame_bytes
from .decoding import decode_settings
from .item import ItemState
from .writer import OutcomeWriter

PIXEL_BYTES = 1 << 30  # of pixels held at once, from decode until the outcome; more for an engine that asks for it
_MAX_ITEMS = 256  # items begun and not settled, however small their pixels are
_POLL_TIMEOUT_S = 0.02


class Pipeline:
    """One run. Raises `UsageError` where prompts, facts or examples cannot be had, before any model is loaded.

    run_id: a new one, where it is not given. stores: how many folders will hold a journal, where that is known: a
    single one that cannot be written ends the run. log: is given lines for a person: which model is loaded, and in
    which precision. deadline: of `time.monotonic()`, after which nothing new is begun.
    """

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
        self.settings = settings
        self.run_id = run_id or new_run_id()
        self.load_seconds = 0.0
        self.stopped_by_deadline = False
        self._own_engine = engine
        self._log = log
        self._deadline = deadline
        self._metadata = load_metadata(settings)
        self._examples: list[FewShotExample] = read_examples(settings.prompting.examples)
        self._as_lines = settings.sampling.for_ is not None and get_trainer(settings.sampling.for_).one_caption_per_line
        self._items: list[ItemState] = []  # admitted and not settled, in the order of work
        self._in_flight: dict[int, ItemState] = {}  # by the id of the request that the engine has
        self._request_ids = count()
        self._no_room_yet: MediaItem | None = None  # taken from the steps, its pixels having no room
        self._is_exhausted = False  # nothing more is admitted
        self._resources = ExitStack()  # the decode pool and the session: closed before the writer
        self.writer = OutcomeWriter(settings, self.run_id, stores=stores)

    def run(self, planned: Iterator[MediaItem | Skipped | Failed | None]) -> Generator[Outcome]:
        """Outcomes, in the order in which they come; what `planned` says is skipped or failed is one as it stands.

        None among the steps: there is nothing new at present. Raises `StartError` and its kin.
        """
        session: Session | None = None
        with closing(self.writer), self._resources:
            while True:
                yield from self._admit(planned)
                if self._time_is_up():
                    self._drop_undecoded()
                if not self._items:
                    yield from self.writer.flush()  # nobody who waits for an outcome is kept waiting
                    if self._is_exhausted:
                        return
                yield from self._collect_undecodable()
                if session is None and any(
                    state.is_decoded for state in self._items
                ):  # no model for broken files alone
                    session = self._load_model()
                if session is None:
                    time.sleep(_POLL_TIMEOUT_S / 4)
                    continue
                self._submit(session)
                yield from self._collect(session)
                if self.writer.is_flush_due:
                    yield from self.writer.flush()

    # Admission and decoding

    def _admit(self, planned: Iterator[MediaItem | Skipped | Failed | None]) -> Iterator[Outcome]:
        """Begin items, as many as there is room for; yields what needs no work or cannot be begun."""
        while not self._is_exhausted and len(self._items) < _MAX_ITEMS:
            try:
                next_item = self._no_room_yet or next(planned)
            except StopIteration:
                self._is_exhausted = True
                return
            self._no_room_yet = None
            if next_item is None:
                return
            if not isinstance(next_item, MediaItem):
                yield self.writer.record(next_item)
            elif self._time_is_up():
                self._is_exhausted = self.stopped_by_deadline = True
            elif (state := self._begin(next_item)) is None:
                self._no_room_yet = next_item  # until others are settled
                return
            elif isinstance(state, Failed):
                yield self.writer.record(state)
            else:
                self._items.append(state)

    def _time_is_up(self) -> bool:
        return time.monotonic() > self._deadline

    def _begin(self, item: MediaItem) -> ItemState | Failed | None:
        """Start to decode it. None where its pixels have no room now."""
        pool = self._pool
        if (error := self.writer.write_error(item.store)) is not None:
            return Failed(item, error)
        try:
            media = fingerprint(item.path)
        except OSError as unreadable:
            return Failed(item, f"cannot be read ({unreadable.strerror}): mend or remove it")
        decoding = pool.start(item)
        return None if decoding is None else ItemState(item, media, decoding)

    @cached_property
    def _pool(self) -> DecodePool:
        """Started when the first file needs it; the examples are decoded before anything else."""
        spec = self.engine.spec
        clip_size = spec.clip_size or spec.size
        wanted = spec.preferred_batch_size * self.settings.sampling.frames * max_frame_bytes(clip_size)
        pool = DecodePool(
            spec.size,
            decode_settings(self.settings),
            clip_size=clip_size,
            workers=self.settings.conduct.workers or os.cpu_count() or 1,
            pixel_bytes=max(PIXEL_BYTES, min(wanted, psutil.virtual_memory().available // 4)),
        )
        self._resources.enter_context(pool)
        self._examples = decode_examples(self._examples, pool)
        return pool

    def _drop_undecoded(self) -> None:
        """Time is up: what the model has not begun is left for another run."""
        for state in [state for state in self._items if state.frames is None]:
            self._release(state)
            self.stopped_by_deadline = True

    def _collect_undecodable(self) -> Iterator[Outcome]:
        for state in [state for state in self._items if state.frames is None and state.is_decoded]:
            if isinstance(failed := state.decoding.result(), Failed):
                self._release(state)
                yield self.writer.record(failed)

    # The model

    @cached_property
    def engine(self) -> Engine:
        """Made when the first file needs it: a finished folder asks for no model."""
        return self._own_engine or engine_for(self.settings, self._log, self._examples)

    def _load_model(self) -> Session:
        """While it loads, the next files decode."""
        start = time.monotonic()
        self._log(self.engine.describe())
        session = self._resources.enter_context(self.engine.open())
        self.load_seconds = time.monotonic() - start
        return session

    def _submit(self, session: Session) -> None:
        """Fill what is free with what is decoded, in the order of work."""
        available_slots = session.available_slots
        for state in self._items:
            if available_slots <= 0:
                return
            if state.frames is None:
                if not state.is_decoded or isinstance(frames := state.decoding.result(), Failed):
                    continue  # what has failed since the last look is settled at the next
                state.begin(
                    frames,
                    self.settings,
                    self._metadata,
                    self._existing_caption(state.item),
                    lambda: next(self._request_ids),
                )
            for prompt_state in state.pending_prompts()[:available_slots]:
                self._in_flight[prompt_state.id], prompt_state.in_flight = state, True
                session.submit(state.request(prompt_state, self.settings, self._examples))
                available_slots -= 1

    def _existing_caption(self, item: MediaItem) -> str:
        """The caption that is there, where a prompt wants it."""
        if self._metadata.used_variables.isdisjoint({"existing", "tags"}):
            return ""
        try:
            return (sidecar.read(item.caption_path) or b"").decode("utf-8", "replace").strip()
        except ItemError:  # what stands in the caption's way is told where it is written
            return ""

    # Outcomes

    def _collect(self, session: Session) -> Iterator[Outcome]:
        """Take the engine's answers; yields the items that are over with them."""
        for answer in session.poll(_POLL_TIMEOUT_S):
            assert answer.request_id is not None
            state = self._in_flight.pop(answer.request_id)
            state.handle_reply(answer, self.settings, self._count_tokens)
            if state.is_done:
                self._release(state)
                if (outcome := self._settle(state)) is not None:
                    yield outcome

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        """Of --tokenizer. Raises `ModelError` where it cannot be had."""
        if (name := self.settings.judging.tokenizer) is None:
            return None
        from ..engines.local.tokenizer import token_counter

        return token_counter(name, self.settings.model.hf_token)

    def _release(self, state: ItemState) -> None:
        self._items.remove(state)
        state.decoding.release()

    def _settle(self, state: ItemState) -> Outcome | None:
        """None while the caption is held for a part of a parquet file."""
        if state.failed is not None:
            return self.writer.record(state.failed)
        captioned = state.captioned(as_lines=self._as_lines)
        return self.writer.store(captioned, self._journal_record(state, captioned))

    def _journal_record(self, state: ItemState, captioned: Captioned) -> JournalRecord:
        """The journal's, with what the run knows and the item does not."""
        spec = self.engine.spec
        return state.to_journal_record(captioned) | {
            "model": spec.model,
            "revision": spec.revision,
            "recipe": self.settings.settings_hash(state.kind),
            "span": self.settings.sampling.span if state.kind == "clip" else None,
        }
