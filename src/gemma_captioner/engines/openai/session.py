"""The server session: one thread runs an event loop and adapts the number of concurrent requests."""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ...config.model import ServerSettings
from ...types import ContextPart, Failed, Frames, Reply, Request
from ..base import ThreadedSession
from .client import Client
from .concurrency import AdaptiveConcurrency
from .media_encoding import encode_images, encode_sound
from .payload import EncodedMedia, RequestTemplate
from .requests import RetryingClient
from .server_process import ServerProcess

_ENCODERS = min(4, os.cpu_count() or 1)


def max_in_flight(limit: int) -> int:
    """Return the number of requests to hold: for each one at the server, another one whose media is being encoded.

    Answers arrive in waves if the requests started together. A smaller reserve would leave slots empty after each wave.
    """
    return 2 * limit


@dataclass(frozen=True, slots=True)
class _QueuedRequest:
    request: Request
    media: Future[list[EncodedMedia]]
    submitted_at_s: float


class ServerSession(ThreadedSession):
    """A request takes a slot once its media is encoded."""

    def __init__(
        self,
        client: Client,
        template: RequestTemplate,
        settings: ServerSettings,
        log: Callable[[str], None],
        server_process: ServerProcess | None,
    ) -> None:
        super().__init__(log)
        self._client, self._settings, self._server_process = client, settings, server_process
        self._sends_sound = template.sound is not None
        self._concurrency = AdaptiveConcurrency(None if settings.concurrency == "auto" else settings.concurrency)
        self._retrying_client = RetryingClient(
            client,
            template,
            settings,
            self._concurrency,
            log=self._results.put,
            check=server_process.check if server_process else lambda: None,
        )
        self._shared: dict[int, tuple[Frames, EncodedMedia]] = {}  # key: id(frames); the value keeps the frames alive
        self._queued: deque[_QueuedRequest] = deque()
        self._has_failed = False  # nothing more is sent
        self._tasks: set[asyncio.Task[Reply | Failed]] = set()
        self._encoders = ThreadPoolExecutor(_ENCODERS, thread_name_prefix="images")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()

    # The session protocol

    @property
    def available_slots(self) -> int:
        return max(0, max_in_flight(self._concurrency.limit) - self._in_flight)

    def submit(self, request: Request) -> None:
        self._in_flight += 1
        media = self._encoders.submit(self._encode_request, request)
        queued = _QueuedRequest(request, media, time.monotonic())
        media.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._enqueue, queued))

    def close(self) -> None:
        if self._thread.is_alive():
            self._encoders.shutdown(cancel_futures=True)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if self._server_process is not None:
            self._server_process.close()

    # Runs in the encoders' threads

    def _encode_request(self, request: Request) -> list[EncodedMedia]:
        """Encode the media of the context and of the request."""
        return [*map(self._encode_part, request.context), self._encode(request.frames)]

    def _encode_part(self, part: ContextPart) -> EncodedMedia:
        """Encode once per session what every request has; the pipeline owns the pixels of the others."""
        if part.frames is None:
            return EncodedMedia()
        if not part.is_shared:
            return self._encode(part.frames)
        if id(part.frames) not in self._shared:
            self._shared[id(part.frames)] = part.frames, self._encode(part.frames)
        return self._shared[id(part.frames)][1]

    def _encode(self, frames: Frames) -> EncodedMedia:
        sound = encode_sound(frames.audio) if frames.audio is not None and self._sends_sound else None
        return EncodedMedia(encode_images(frames, self._settings), sound)

    # Runs in the event loop's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._queued.clear()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _enqueue(self, queued: _QueuedRequest) -> None:
        self._queued.append(queued)
        self._fill_slots()

    def _fill_slots(self) -> None:
        while self._queued and not self._has_failed and len(self._tasks) < self._concurrency.limit:
            task = self._loop.create_task(self._answer(self._queued.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._on_task_done)

    async def _answer(self, queued: _QueuedRequest) -> Reply | Failed:
        return await self._retrying_client.complete(queued.request, queued.media.result(), queued.submitted_at_s)

    def _on_task_done(self, task: "asyncio.Task[Reply | Failed]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:  # any error ends the run: `poll` raises it
            self._has_failed = True
            self._results.put(error)
            return
        self._results.put(task.result())
        self._fill_slots()
