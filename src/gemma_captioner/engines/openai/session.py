"""Requests under way with a server: one thread with an event loop, as many at once as the server is found to bear."""

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from ...config.model import ServerSettings
from ...types import Failed, Frames, Reply, Request
from .asking import Asker
from .client import Client
from .concurrency import Concurrency
from .pictures import base64_pictures
from .question import Form
from .serving import Served

Pictures = tuple[bytes, ...]  # base64, one a frame

_ENCODERS = min(4, os.cpu_count() or 1)


def at_once(limit: int) -> int:
    """Requests to hold for so many slots: as many again have their pictures made while the server answers.

    Answers come in waves, where all were asked at once: half as many would leave slots empty after each.
    """
    return 2 * limit


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    pictures: Future[list[Pictures]]
    since_s: float


class ServerSession:
    """See `Session`. A request gets its slot once its pictures are made."""

    def __init__(
        self, client: Client, form: Form, settings: ServerSettings, tell: Callable[[str], None], served: Served | None
    ) -> None:
        self._client, self._settings, self._tell, self._served = client, settings, tell, served
        self._answers: queue.SimpleQueue[Reply | Failed | BaseException | str] = queue.SimpleQueue()
        self._concurrency = Concurrency(None if settings.concurrency == "auto" else settings.concurrency)
        self._asker = Asker(
            client,
            form,
            settings,
            self._concurrency,
            say=self._answers.put,
            check=served.check if served else lambda: None,
        )
        self._unanswered = 0
        self._examples: dict[int, tuple[Frames, Pictures]] = {}  # by the identity of frames, which are kept for it
        self._waiting: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[Reply | Failed]] = set()
        self._encoders = ThreadPoolExecutor(_ENCODERS, thread_name_prefix="pictures")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()

    # The contract

    @property
    def free(self) -> int:
        return max(0, at_once(self._concurrency.limit) - self._unanswered)

    def submit(self, request: Request) -> None:
        self._unanswered += 1
        pictures = self._encoders.submit(self._pictures, request)
        waiting = _Waiting(request, pictures, time.monotonic())
        pictures.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._take, waiting))

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        answers: list[Reply | Failed] = []
        with suppress(queue.Empty):
            answer = self._answers.get(timeout=timeout_s)
            while True:
                if isinstance(answer, str):
                    self._tell(answer)
                elif not isinstance(answer, BaseException):
                    answers.append(answer)
                elif answers:
                    self._answers.put(answer)  # for the next call: what was answered before it counts
                    break
                else:
                    raise answer
                answer = self._answers.get_nowait()
        self._unanswered -= len(answers)
        return answers

    def close(self) -> None:
        if self._thread.is_alive():
            self._encoders.shutdown(cancel_futures=True)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if self._served is not None:
            self._served.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # The encoders' threads

    def _pictures(self, request: Request) -> list[Pictures]:
        """Of its examples, made once, and its own."""
        shown = [self._of_example(example.frames) for example in request.examples]
        return [*shown, base64_pictures(request.frames.pixels, self._settings)]

    def _of_example(self, frames: Frames | None) -> Pictures:
        if frames is None:
            return ()
        if id(frames) not in self._examples:
            self._examples[id(frames)] = frames, base64_pictures(frames.pixels, self._settings)
        return self._examples[id(frames)][1]

    # The loop's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _take(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._fill_slots()

    def _fill_slots(self) -> None:
        while self._waiting and len(self._tasks) < self._concurrency.limit:
            task = self._loop.create_task(self._answer(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._settle)

    async def _answer(self, waiting: _Waiting) -> Reply | Failed:
        return await self._asker.answer(waiting.request, waiting.pictures.result(), waiting.since_s)

    def _settle(self, task: "asyncio.Task[Reply | Failed]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:  # whatever it is, it ends the run: `poll` raises it
            self._waiting.clear()
            self._answers.put(error)
            return
        self._answers.put(task.result())
        self._fill_slots()
