"""Sends all requests to a server through the `openai` client. Errors become an `ApiFailure` or end the run."""

import json
import os
import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

import aiohttp
import httpx2
import openai

from ...config.model import ServerSettings
from ...errors import ModelError, ServerError, StartError, UsageError
from ...redaction import redact_credentials
from ...text import parse_json
from .errors import ApiFailure, classify_response, shorten_to_one_line
from .reply_limits import read_reply, read_reply_async
from .responses import Completion, parse_response

_CONNECT_TIMEOUT_S = 5.0
_METADATA_TIMEOUT_S = 10.0  # for GET requests
_PROBE_DELAYS_S = (0.5, 2.0)  # before another try of a request for a token count
_INVALID_JSON = (ValueError, LookupError, TypeError, OverflowError)  # or not of the expected form
NO_TOKEN_COUNT = "its reply contains no token count"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address, and the headers and query parameters of every request."""

    url: str  # with its /v1, without credentials and query
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    key: str | None = field(repr=False)
    key_env: str  # the environment variable that holds the key

    @classmethod
    def of(cls, settings: ServerSettings) -> "Endpoint":
        """Read the address from the settings. For --serve without --base-url, choose a free local port.

        Raises `UsageError` if both are missing, or if the key is not valid in an HTTP header.
        """
        url = settings.base_url
        if url is None:
            if settings.serve is None:
                raise UsageError("--engine server requires --base-url: give it, for example http://localhost:8000/v1")
            url = f"http://127.0.0.1:{_free_port()}/v1"
        key = os.environ.get(settings.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UsageError(f"the key in {settings.api_key_env} contains an invalid character: copy it again")
        parts = urlsplit(url)
        path = re.sub("/+", "/", parts.path).rstrip("/")
        headers = {}
        credentials, _, host = parts.netloc.rpartition("@")
        if credentials:
            headers["Authorization"] = f"Basic {b64encode(unquote(credentials).encode()).decode()}"
        return cls(
            url=f"{parts.scheme}://{host}{path.removesuffix('/chat/completions') if path else '/v1'}",
            headers=headers,
            query=dict(parse_qsl(parts.query)),
            key=key or None,
            key_env=settings.api_key_env,
        )

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    def redact_key(self, text: str) -> str:
        """Return the text with the key replaced."""
        return text.replace(self.key, "[key]") if self.key else text


@cache
def _tls_context() -> ssl.SSLContext:
    """The certificates of known authorities. To load them takes 50 ms, and a client exists for one request."""
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise StartError(f"SSL_CERT_FILE or SSL_CERT_DIR names no readable certificates: {error}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """A client for one server. `chat_completion` must run in one event loop; the other methods work in any thread."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def _options(self, timeout: httpx2.Timeout) -> dict[str, Any]:
        # `RetryingClient` retries. The openai client requires a key even if the server does not.
        return {
            "base_url": self.endpoint.url,
            "default_headers": self.endpoint.headers,
            "default_query": self.endpoint.query,
            "api_key": self.endpoint.key or "none",
            "max_retries": 0,
            "timeout": timeout,
        }

    @cached_property
    def _async_client(self) -> openai.AsyncOpenAI:
        # The caller sets the timeout and limits the number of requests.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = httpx2.Timeout(None, connect=_CONNECT_TIMEOUT_S)
        http = openai.DefaultAioHttpClient(  # see decisions.md
            limits=limits, timeout=timeout, follow_redirects=False, verify=_tls_context()
        )
        http.event_hooks = {"response": [read_reply_async]}
        return openai.AsyncOpenAI(**self._options(timeout), http_client=http)

    def _sync_client(self, timeout_s: float) -> openai.OpenAI:
        http = openai.DefaultHttpxClient(verify=_tls_context(), event_hooks={"response": [read_reply]})
        return openai.OpenAI(**self._options(httpx2.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S)), http_client=http)

    def _get(self, path: str) -> httpx2.Response:
        with self._sync_client(_METADATA_TIMEOUT_S) as client:
            return client.get(path, cast_to=httpx2.Response)

    async def chat_completion(self, body: bytes) -> Completion | ApiFailure:
        """Request a chat completion. Raises `ServerError` or `ModelError` if every other request would fail too."""
        try:
            reply = await self._async_client.post("/chat/completions", content=body, cast_to=httpx2.Response)
        except openai.APIError as error:
            failure = classify_error(error)
            if (fatal := self._fatal_error(failure)) is not None:
                raise fatal from error
            return failure
        except aiohttp.ClientResponseError as error:  # the openai client does not convert it
            return ApiFailure("transient", f"the reply is not valid HTTP: {shorten_to_one_line(error.message)}")
        answer = parse_response(_text(reply))
        if isinstance(answer, ApiFailure) and (fatal := self._fatal_error(answer)) is not None:
            raise fatal
        return answer

    def _fatal_error(self, failure: ApiFailure) -> StartError | None:
        message, url, key_env = self.endpoint.redact_key(failure.message), self.endpoint.url, self.endpoint.key_env
        match failure.kind:
            case "key" if self.endpoint.key is None:
                return ServerError(f"{url} requires an API key: {message}. Set the environment variable {key_env}")
            case "key":
                return ServerError(f"{url} refused the key in {key_env}: {message}. Check the key and its permissions")
            case "model":
                return ModelError(f"{url} cannot answer: {message}. Check --model, and that --base-url ends in /v1")
            case "setup":
                return ServerError(f"{url} cannot answer: {message}: {failure.remedy}")
            case _:
                return None

    def count_prompt_tokens(
        self, model: str, messages: Sequence[Mapping[str, Any]], timeout_s: float, **parameters: Any
    ) -> int | str:
        """Return the number of prompt tokens of these messages, or the reason why it is unknown.

        Raises `StartError` for a failure that would end a run. parameters: further fields of the request.
        """
        body = json.dumps({"model": model, "max_tokens": 1, "messages": messages, **parameters}).encode()
        for delay_s in (*_PROBE_DELAYS_S, None):
            try:
                with self._sync_client(timeout_s) as client:
                    reply = client.post("/chat/completions", content=body, cast_to=httpx2.Response)
                return int(parse_json(_text(reply))["usage"]["prompt_tokens"])
            except openai.APIError as error:
                failure = classify_error(error)
                if (fatal := self._fatal_error(failure)) is not None:
                    raise fatal from error
                if delay_s is None or failure.kind not in ("down", "busy", "transient"):
                    return self.endpoint.redact_key(failure.message)
                time.sleep(delay_s)
            except _INVALID_JSON:
                break
        return NO_TOKEN_COUNT

    def models(self, hint: str = "") -> list[dict[str, Any]] | str:
        """Return the server's models, or the reason why there are none.

        Raises `ServerError` if it does not answer. hint: another remedy for its message.
        """
        try:
            text = _text(self._get("/models"))
        except openai.APIError as error:
            failure = classify_error(error)
            if failure.kind in ("down", "key"):
                remedy = f"start the server, or check --base-url{hint}"
                unreachable = ServerError(f"{self.endpoint.url} does not answer ({failure.message}): {remedy}")
                raise self._fatal_error(failure) or unreachable from error
            return self.endpoint.redact_key(failure.message)
        except ValueError as error:  # an environment variable that the client reads
            raise ServerError(
                f"no request can be sent to {self.endpoint.url} ({redact_credentials(str(error))}): "
                "correct the environment variables of the proxy (HTTP_PROXY) and of openai (OPENAI_ORG_ID)"
            ) from error
        try:
            payload = parse_json(text)
            models = payload if isinstance(payload, list) else payload["data"]
            valid = [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)]
            return valid or "its list is empty"
        except _INVALID_JSON:
            return f"it replied {shorten_to_one_line(text)!r}"

    def native(self, path: str) -> Any:
        """Return the JSON of an endpoint outside of the OpenAI protocol, such as "/props"; None if there is none."""
        try:
            return parse_json(_text(self._get(self._root + path)))
        except (openai.APIError, *_INVALID_JSON):
            return None

    @property
    def _root(self) -> str:
        return self.endpoint.url.removesuffix("/v1")

    def is_up(self) -> bool:
        """Whether the server answers and is not loading a model. It does not need to support these paths."""
        return all(self._status(path) not in (None, 502, 503, 504) for path in (f"{self._root}/health", "/models"))

    def _status(self, path: str) -> int | None:
        try:
            return self._get(path).status_code
        except openai.APIStatusError as error:
            return error.status_code
        except openai.APIError:
            return None

    async def close(self) -> None:
        await self._async_client.close()


def _text(response: httpx2.Response) -> str:
    """Decode a reply. JSON is UTF-8, but some proxies name another encoding, or write a byte order mark."""
    try:
        return response.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return response.text


def classify_error(error: openai.APIError) -> ApiFailure:
    """Convert an error of the client."""
    if isinstance(error, openai.APIStatusError):
        if (redirect := _redirect_failure(error.response)) is not None:
            return redirect
        text, headers = _text(error.response), error.response.headers
        try:
            return classify_response(error.status_code, parse_json(text), headers)
        except _INVALID_JSON:
            return classify_response(error.status_code, text, headers)
    cause = error.__cause__ or error
    message = re.sub(r"\[Errno -?\d+\] ", "", str(cause)) or type(cause).__name__
    if _is_connection_refused(cause):
        return ApiFailure("down", message)
    if isinstance(error, openai.APITimeoutError) and not isinstance(cause, httpx2.ConnectTimeout):
        return ApiFailure("busy", "the request timed out")
    return ApiFailure("transient", f"the connection failed: {message}")


def _redirect_failure(response: httpx2.Response) -> ApiFailure | None:
    """Redirects are not followed: most of them would drop the request's body."""
    if not response.has_redirect_location:
        return None
    location = response.headers["location"]
    with suppress(ValueError):  # not a URL
        location = urljoin(str(response.request.url), location)
    return ApiFailure(
        "model", f"it redirects to {redact_credentials(location)} ({response.status_code}): set --base-url to that"
    )


def _is_connection_refused(error: BaseException) -> bool:
    """Whether no connection was made. A ConnectTimeout that comes from aiohttp can also be a broken connection."""
    if isinstance(error.__cause__, aiohttp.ClientError):
        return isinstance(error.__cause__, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
