"""An engine whose model stays loaded between runs, and which reports each request."""

import gc
import sys
from collections.abc import Callable
from functools import cached_property

from ..config.settings import Settings
from ..engines import Engine, EngineSpec, Session, engine_for
from ..prompts.context import Context
from ..types import Failed, Kind, Reply, Request


class SharedModel:
    """One model for several runs in sequence. `close` frees its memory."""

    def __init__(self, settings: Settings) -> None:
        """settings: the largest demands of all runs, for which memory is planned."""
        self._settings = settings
        self._session: Session | None = None
        self._load_error: Exception | None = None  # a failed load is not retried for each variant

    @cached_property
    def engine(self) -> Engine:
        return engine_for(self._settings, context=Context(self._settings).planned)

    @property
    def is_open(self) -> bool:
        return self._session is not None

    def session(self) -> Session:
        if self._load_error is not None:
            raise self._load_error
        if self._session is None:
            try:
                self._session = self.engine.open()
            except Exception as error:  # raised again for each variant of this model, without another load
                self._load_error = error
                raise
        return self._session

    def close(self) -> None:
        if self._session is None:
            return
        self._session.close()
        self._session = None
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()  # torch caches memory that the next model requires


class SharedEngine:
    """The `Engine` of one run: its own spec, the shared model's session.

    `on_request` receives each request, `on_reply` each raw reply.
    """

    def __init__(
        self,
        shared_model: SharedModel,
        settings: Settings,
        on_request: Callable[[Request], None],
        on_reply: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        self._shared_model = shared_model
        self._settings = settings
        self._on_request = on_request
        self._on_reply = on_reply

    @cached_property
    def spec(self) -> EngineSpec:
        return engine_for(self._settings).spec

    def describe(self) -> str:
        return "the same model, still loaded" if self._shared_model.is_open else self._shared_model.engine.describe()

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        return self._shared_model.engine.prompt_tokens(prompt, kind, num_frames)

    def open(self) -> Session:
        return _SharedSession(self._shared_model, self._on_request, self._on_reply)


class _SharedSession(Session):
    def __init__(
        self,
        shared_model: SharedModel,
        on_request: Callable[[Request], None],
        on_reply: Callable[[Reply], None],
    ) -> None:
        self._shared_model = shared_model
        self._on_request = on_request
        self._on_reply = on_reply
        self._session = shared_model.session()
        self._in_flight = 0

    @property
    def available_slots(self) -> int:
        return self._session.available_slots

    def submit(self, request: Request) -> None:
        self._on_request(request)
        self._in_flight += 1
        self._session.submit(request)

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        replies = self._session.poll(timeout_s)
        self._in_flight -= len(replies)
        for reply in replies:
            if isinstance(reply, Reply):
                self._on_reply(reply)
        return replies

    def close(self) -> None:
        if self._in_flight:  # the run was aborted: pending replies would reach the next run
            self._shared_model.close()
