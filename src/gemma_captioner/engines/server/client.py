"""The one place that talks to a server, through the `openai` client: its errors become `Trouble`, or end the run."""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import openai

from ...errors import ModelError, ServerError, StartError, UsageError, without_credentials
from ...settings import Server
from .protocol import Answer, Trouble, read_reply, refusal

_CONNECT_S = 10.0
_ASIDE_S = 15.0  # for questions other than for a caption
_DOWN = (httpx2.ConnectError, httpx2.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is. url: with its /v1, and credentials if it was given any: `shown` is for people and files."""

    url: str = field(repr=False)
    query: Mapping[str, str] = field(repr=False)  # that goes with every question: `?api-version=`, at some
    key: str | None = field(repr=False)
    key_env: str

    @classmethod
    def of(cls, settings: Server) -> "Address":
        """Raises `UsageError` where no URL is given and no server is to be started, on a free port of this machine."""
        url = settings.base_url
        if url is None:
            if settings.serve is None:
                raise UsageError("--engine server wants --base-url: http://localhost:8000/v1, or what the server says")
            url = f"http://127.0.0.1:{_free_port()}/v1"
        url, _, query = url.partition("?")
        url = url.rstrip("/")
        if urlsplit(url).path == "":
            url += "/v1"
        key = os.environ.get(settings.api_key_env) or None
        return cls(url, dict(parse_qsl(query)), key, settings.api_key_env)

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def shown(self) -> str:
        return without_credentials(self.url)

    def hushed(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self.key, "[key]") if self.key else text


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Client:
    """Questions to one server. `ask` belongs to one event loop; the others may be asked from any thread."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def _options(self, timeout: httpx2.Timeout) -> dict[str, Any]:
        # Retries are ours; a server without a key is content with any.
        return {
            "base_url": self.address.url,
            "default_query": self.address.query,
            "api_key": self.address.key or "none",
            "max_retries": 0,
            "timeout": timeout,
        }

    @cached_property
    def _asking(self) -> openai.AsyncOpenAI:
        # How long an answer may take is for the caller to say, and how many connections there are follows from that.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = httpx2.Timeout(None, connect=_CONNECT_S)
        http = openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout)
        return openai.AsyncOpenAI(**self._options(timeout), http_client=http)

    def _get(self, path: str) -> httpx2.Response:
        with openai.OpenAI(**self._options(httpx2.Timeout(_ASIDE_S, connect=_CONNECT_S))) as client:
            return client.get(path, cast_to=httpx2.Response)

    async def ask(self, body: bytes) -> Answer | Trouble:
        """A chat completion. Raises `ServerError` and `ModelError` for what no other request would fare better with."""
        try:
            reply = await self._asking.post("/chat/completions", content=body, cast_to=httpx2.Response)
        except openai.APIError as error:
            trouble = trouble_of(error)
            if (fatal := self.fatal(trouble)) is not None:
                raise fatal from error
            return trouble
        answer = read_reply(reply.text)
        if isinstance(answer, Trouble) and (fatal := self.fatal(answer)) is not None:
            raise fatal
        return answer

    def fatal(self, trouble: Trouble) -> StartError | None:
        said, shown, key_env = self.address.hushed(trouble.said), self.address.shown, self.address.key_env
        match trouble.kind:
            case "key" if self.address.key is None:
                return ServerError(f"{shown} wants a key: {said}. Put it into the environment as {key_env}")
            case "key":
                return ServerError(
                    f"{shown} refuses the key in {key_env}: {said}. Check it, and what it may be used for"
                )
            case "model":
                return ModelError(f"{shown} does not have that: {said}. Check --model, and --base-url with its /v1")
            case _:
                return None

    def models(self) -> list[Mapping[str, Any]] | None:
        """What the server lists, None where it lists nothing. Raises `ServerError` where it does not answer."""
        try:
            listed = json.loads(self._get("/models").text)["data"]
            return [model for model in listed if isinstance(model, dict) and isinstance(model.get("id"), str)]
        except openai.APIError as error:
            trouble = trouble_of(error)
            if trouble.kind in ("down", "key"):
                raise self.fatal(trouble) or ServerError(self.not_there()) from error
            return None
        except (ValueError, LookupError, TypeError):
            return None

    def not_there(self) -> str:
        return f"{self.address.shown} does not answer: start the server, or check --base-url; --wait-for-server waits"

    def is_up(self) -> bool:
        """Whether it answers, and does not say that it is loading. A server need not know these paths."""
        root = self.address.url.removesuffix("/v1")
        return all(self._status(path) not in (None, 502, 503, 504) for path in (f"{root}/health", "/models"))

    def _status(self, path: str) -> int | None:
        try:
            return self._get(path).status_code
        except openai.APIStatusError as error:
            return error.status_code
        except openai.APIError:
            return None

    async def close(self) -> None:
        await self._asking.close()


def trouble_of(error: openai.APIError) -> Trouble:
    """Every error that the client raises."""
    if isinstance(error, openai.APIStatusError):
        text = error.response.text
        try:
            said = json.loads(text)
        except ValueError:
            said = text
        return refusal(error.status_code, said, error.response.headers)
    if isinstance(error, openai.APITimeoutError) and not isinstance(error.__cause__, _DOWN):
        return Trouble("busy", "no answer in time")
    cause = error.__cause__
    if isinstance(cause, _DOWN):
        return Trouble("down", str(cause) or type(cause).__name__)
    return Trouble("again", f"the connection broke ({type(cause or error).__name__}: {cause or error})")
