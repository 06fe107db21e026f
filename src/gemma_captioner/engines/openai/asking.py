"""One request, asked until there is an answer or none is to be had."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from ...config.group import parse_duration
from ...config.model import ServerSettings
from ...errors import ServerError
from ...types import Failed, Reply, Request
from ..base import begun
from .client import Client
from .concurrency import Concurrency
from .question import Form, body
from .refusals import Trouble
from .replies import Answer

_TRIES = 6  # where the connection or the answer is bad; a server that has too much to do is asked until the deadline
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_LOOK_S = 0.5  # between two looks at a server that is down
_OUTAGE = "10m"  # how long a server that did answer is waited for


class Asker:
    """What the requests of a session share: what the server was found to bear and to know. Lives in one event loop.

    say: given lines for a person. check: raises `ServerError` where it is known that the server will not come back.
    """

    def __init__(
        self,
        client: Client,
        form: Form,
        settings: ServerSettings,
        concurrency: Concurrency,
        *,
        say: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._client, self._form, self._settings, self._concurrency = client, form, settings, concurrency
        self._say, self._check = say, check
        self._left_out: set[str] = set()  # parameters that the server does not know
        self._outage = asyncio.Lock()

    async def answer(self, request: Request, pictures: Sequence[Sequence[bytes]], since_s: float) -> Reply | Failed:
        """pictures: as `body` takes them. since_s: when it was submitted.

        Raises `ServerError` and `ModelError` where the run cannot go on.
        """
        places = all_places = range(len(request.frames.times_s))
        deadline = time.monotonic() + self._settings.item_timeout
        tries = pauses = 0
        while True:
            asked, left_out = time.monotonic(), frozenset(self._left_out)
            got = await self._once(body(self._form, request, pictures, places, left_out), deadline - asked)
            if isinstance(got, Answer):
                self._concurrency.answered(time.monotonic(), work=len(places))
                return Reply(
                    request_id=request.id,
                    text=begun(request.begin, got.text),
                    finish_reason=got.finish_reason,
                    prompt_tokens=got.prompt_tokens,
                    new_tokens=got.new_tokens,
                    seconds=time.monotonic() - since_s,
                    flags=() if places == all_places else ("fewer_frames",),
                )
            match got.kind:
                case "parameter" if got.parameter not in left_out:
                    self._leave_out(got)
                    continue
                case "too_much" if self._settings.shrink and len(places) > 1:
                    places = places[::2]
                    continue
                case "down":
                    deadline += await self._until_up()
                case "busy":
                    self._concurrency.refused(asked, time.monotonic())
                case "again":
                    tries += 1
                case _:
                    return self._failed(request, got, "")
            if tries == _TRIES:
                return self._failed(request, got, f"asked {_TRIES} times, at last: ")
            # To fail at once where the pause is longer than the time left would fail all that follow as quickly.
            left = deadline - time.monotonic()
            await asyncio.sleep(min(_pause_s(pauses, got.retry_after_s), left))
            pauses += 1
            if time.monotonic() >= deadline:
                limit = self._settings.item_timeout
                return self._failed(request, got, f"no answer within --item-timeout ({limit:g} s), at last: ")

    async def _once(self, asked: bytes, left_s: float) -> Answer | Trouble:
        limit = self._settings.request_timeout
        try:
            async with asyncio.timeout(max(0.0, min(limit, left_s))):
                return await self._client.ask(asked)
        except TimeoutError:
            return Trouble("busy", f"no answer within --request-timeout ({limit:g} s)")

    def _leave_out(self, trouble: Trouble) -> None:
        if trouble.parameter not in self._left_out:
            self._left_out.add(trouble.parameter)
            said = self._client.address.hushed(trouble.said)
            self._say(f"the server does not take `{trouble.parameter}`, which is left out from here on: {said}")

    def _failed(self, request: Request, trouble: Trouble, after: str) -> Failed:
        remedy = ": use fewer --frames, or --shrink" if trouble.kind == "too_much" else ""
        return Failed(request.item, self._client.address.hushed(f"{after}{trouble.said}{remedy}"), request.id)

    async def _until_up(self) -> float:
        """Seconds that it took. One asks, the others wait for what it finds. Raises `ServerError` when it is long."""
        since = time.monotonic()
        url, patience = self._client.address.url, self._settings.wait_for_server or _OUTAGE
        async with self._outage:
            if not await asyncio.to_thread(self._client.is_up):
                self._say(f"{url} does not answer any more: waiting for it, up to {patience}")
                while not await asyncio.to_thread(self._client.is_up):
                    self._check()
                    if time.monotonic() - since > parse_duration(patience):
                        raise ServerError(f"{url} did not come back within {patience}: see to it, and run again")
                    await asyncio.sleep(_LOOK_S)
                self._say(f"{url} answers again")
        return time.monotonic() - since


def _pause_s(pauses: int, retry_after_s: float | None) -> float:
    """What the server asks for, else twice as long each time. Spread, so that not all come back at once."""
    if retry_after_s is not None:
        return retry_after_s + random.uniform(0, 0.2)
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**pauses) * random.uniform(0.5, 1)
