"""Limits the size and the duration of a reply: a server could send without end. Response hooks of the HTTP client."""

import time

import httpx2

_MAX_REPLY_BYTES = 16 * 2**20  # decompressed; a caption has a few KB, a long list of models 1 MB


class _Body:
    def __init__(self, response: httpx2.Response) -> None:
        self._timeout_s: float | None = response.request.extensions["timeout"]["read"]
        self._start_s = time.monotonic()
        self._content = bytearray()

    def add(self, part: bytes) -> None:
        self._content += part
        if len(self._content) > _MAX_REPLY_BYTES:
            raise httpx2.ReadError(f"the reply is larger than {_MAX_REPLY_BYTES // 2**20} MB")
        if self._timeout_s is not None and time.monotonic() - self._start_s > self._timeout_s:
            raise httpx2.ReadTimeout("the reply does not end")

    def finish(self, response: httpx2.Response) -> None:
        response._content = bytes(self._content)  # where read() looks first; the client has no public way


def read_reply(response: httpx2.Response) -> None:
    """Read the body. Raises `httpx2.ReadError` if it is too large, and `httpx2.ReadTimeout` if it does not end."""
    body = _Body(response)
    for part in response.iter_bytes():
        body.add(part)
    body.finish(response)


async def read_reply_async(response: httpx2.Response) -> None:
    """`read_reply` for the client that sends the completions."""
    body = _Body(response)
    async for part in response.aiter_bytes():
        body.add(part)
    body.finish(response)
