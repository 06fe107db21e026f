"""Sends one request and retries until it succeeds or cannot succeed."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from ...config.group import parse_duration
from ...config.model import ServerSettings
from ...errors import ServerError
from ...types import Failed, Reply, Request
from ..base import prepend_begin
from .client import Client
from .concurrency import AdaptiveConcurrency
from .errors import ApiFailure
from .payload import EncodedMedia, RequestTemplate, request_body
from .responses import Completion

_MAX_ATTEMPTS = 6  # for a failed connection or an invalid answer; an overloaded server is retried until the deadline
_MAX_EQUAL_ERRORS = 8  # in a row; then the run ends
_INITIAL_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 30.0
_POLL_INTERVAL_S = 0.5  # between two checks of a server that is down
_OUTAGE_TIMEOUT = "10m"  # how long to wait for a server that answered earlier


class RetryingClient:
    """Sends the requests of a session and remembers which parameters the server supports. Runs in one event loop.

    log: receives lines for the user. check: raises `ServerError` if the server will not come back.
    """

    def __init__(
        self,
        client: Client,
        template: RequestTemplate,
        settings: ServerSettings,
        concurrency: AdaptiveConcurrency,
        *,
        log: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._client, self._template, self._settings, self._concurrency = client, template, settings, concurrency
        self._log, self._check = log, check
        self._dropped_parameters: set[str] = set()  # the server does not support these
        self._outage_lock = asyncio.Lock()
        self._has_succeeded = False
        self._last_error, self._equal_errors = "", 0  # errors in a row

    async def complete(self, request: Request, media: Sequence[EncodedMedia], submitted_at_s: float) -> Reply | Failed:
        """Return the reply to a request, or its failure. media: as `request_body` takes it.

        Raises `ServerError` or `ModelError` if the run cannot continue.
        """
        frame_indices = all_frame_indices = range(len(request.frames.times_s))
        is_muted = request.frames.audio is not None and self._template.sound is None
        deadline = time.monotonic() + self._settings.item_timeout
        attempts = num_backoffs = 0
        while True:
            sent_at, dropped = time.monotonic(), frozenset(self._dropped_parameters)
            result = await self._attempt(
                request_body(self._template, request, media, frame_indices, dropped), deadline - sent_at
            )
            if isinstance(result, Completion):
                self._concurrency.record_success(time.monotonic(), work=len(frame_indices))
                self._has_succeeded, self._equal_errors = True, 0
                return Reply(
                    request_id=request.id,
                    text=prepend_begin(request.begin, result.text),
                    finish_reason=result.finish_reason,
                    prompt_tokens=result.prompt_tokens,
                    new_tokens=result.new_tokens,
                    seconds=time.monotonic() - submitted_at_s,
                    flags=("fewer_frames",) * (frame_indices != all_frame_indices) + ("no_audio",) * is_muted,
                )
            match result.kind:
                case "parameter" if result.parameter not in dropped:
                    self._drop_parameter(result)
                    continue
                case "too_large" if self._settings.shrink and len(frame_indices) > 1:
                    frame_indices = frame_indices[::2]
                    continue
                case "down":
                    deadline += await self._wait_until_up()
                case "busy":
                    self._concurrency.record_overload(sent_at, time.monotonic())
                case "transient":
                    attempts += 1
                    self._count_error(result, is_final=attempts == _MAX_ATTEMPTS)
                case _:
                    self._count_error(result, is_final=True)
                    return self._failed(request, result, "")
            if attempts == _MAX_ATTEMPTS:
                return self._failed(request, result, f"failed after {_MAX_ATTEMPTS} attempts, at last: ")
            # Sleep until the deadline, even if the pause is longer: failing now would fail later requests as quickly.
            remaining_s = deadline - time.monotonic()
            await asyncio.sleep(min(_backoff_s(num_backoffs, result.retry_after_s), remaining_s))
            num_backoffs += 1
            if time.monotonic() >= deadline:
                limit = self._settings.item_timeout
                return self._failed(request, result, f"no answer within --item-timeout ({limit:g} s), at last: ")

    async def _attempt(self, body: bytes, left_s: float) -> Completion | ApiFailure:
        limit = self._settings.request_timeout
        try:
            async with asyncio.timeout(max(0.0, min(limit, left_s))):
                return await self._client.chat_completion(body)
        except TimeoutError:
            return ApiFailure("busy", f"no answer within --request-timeout ({limit:g} s)")

    def _count_error(self, failure: ApiFailure, *, is_final: bool) -> None:
        """Raise `ServerError` after too many equal error responses in a row: later files would fail too.

        Before the first answer of the session, each response counts. After it, only the last of a request's attempts
        counts: a server that fails for a moment, or restarts, has many requests in flight. The same holds for replies
        that are no chat completions (status 200), such as the page of a gateway whose server starts.
        """
        counts_last_only = self._has_succeeded or failure.status == 200
        if failure.status == 0 or failure.kind == "too_large" or (counts_last_only and not is_final):
            return
        self._equal_errors = self._equal_errors + 1 if failure.message == self._last_error else 1
        self._last_error = failure.message
        if self._equal_errors == _MAX_EQUAL_ERRORS:
            message = self._client.endpoint.redact_key(failure.message)
            raise ServerError(
                f"{self._client.endpoint.url} answered with the same error {_MAX_EQUAL_ERRORS} times in a row: "
                f"{message}. Its log may say more. Correct the server, then run the same command again"
            )

    def _drop_parameter(self, failure: ApiFailure) -> None:
        if failure.parameter not in self._dropped_parameters:
            self._dropped_parameters.add(failure.parameter)
            message = self._client.endpoint.redact_key(failure.message)
            self._log(f"the server rejects `{failure.parameter}`; later requests omit it: {message}")

    def _failed(self, request: Request, failure: ApiFailure, prefix: str) -> Failed:
        remedy = ": use fewer --frames, or --shrink" if failure.kind == "too_large" else ""
        return Failed(request.item, self._client.endpoint.redact_key(f"{prefix}{failure.message}{remedy}"), request.id)

    async def _wait_until_up(self) -> float:
        """Wait for the server and return the seconds. Only one request polls. Raises `ServerError` on a timeout."""
        since = time.monotonic()
        url, timeout = self._client.endpoint.url, self._settings.wait_for_server or _OUTAGE_TIMEOUT
        async with self._outage_lock:
            if not await asyncio.to_thread(self._client.is_up):
                self._log(f"{url} stopped answering: waiting up to {timeout}")
                while not await asyncio.to_thread(self._client.is_up):
                    self._check()
                    if time.monotonic() - since > parse_duration(timeout):
                        raise ServerError(
                            f"{url} did not answer within {timeout}: restart it, then run the same command again"
                        )
                    await asyncio.sleep(_POLL_INTERVAL_S)
                self._log(f"{url} answers again")
        return time.monotonic() - since


def _backoff_s(num_backoffs: int, retry_after_s: float | None) -> float:
    """Return the delay that the server asks for, else an exponential one. Jitter spreads the retries."""
    if retry_after_s is not None:
        return retry_after_s + random.uniform(0, 0.2)
    return min(_MAX_BACKOFF_S, _INITIAL_BACKOFF_S * 2.0**num_backoffs) * random.uniform(0.5, 1)
