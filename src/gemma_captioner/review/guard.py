"""Who may speak to the server, and which files it touches.

A page of another site can make a browser send requests here, and after DNS rebinding even read the answers, so what
counts is what the browser says of itself: Host, Origin, Sec-Fetch-Site. Beyond this machine there is a token as well.
"""

import ipaddress
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..dataset.discover import EXTENSIONS
from ..dataset.sidecar import DOT_FOLDER
from ..errors import ItemError, StartError

CAPTION_SUFFIXES = (".txt",)
MEDIA_SUFFIXES = tuple(f".{extension}" for extension in EXTENSIONS)


def resolve_inside(path: Path, root: Path, suffixes: Collection[str] = ()) -> Path:
    """Where `path` leads, all links followed. It need not exist.

    Raises `ItemError` for what leads out of `root`, has none of `suffixes` in the end, or is no plain file.
    """
    try:
        real = path.resolve()
        if not real.is_relative_to(root.resolve()):
            raise ItemError("it is a link to outside the folder: put the file itself there, or review where it lies")
        if suffixes and real.suffix.lower() not in suffixes:
            raise ItemError(f"it is a link to a file of another kind, {real.suffix or 'without an ending'}")
        if real.exists() and not real.is_file():
            raise ItemError("it is no plain file: remove it")
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name that no file can have
        raise ItemError(f"it cannot be found ({error}): mend or remove it") from error
    return real


def check_store_is_contained(store: Path) -> None:
    """That what the page writes for itself stays in the folder, which may be a stranger's.

    Raises `StartError` where a link leads out: of `reviews.jsonl -> ~/.profile`, file names would be what a shell runs.
    """
    home = store / DOT_FOLDER
    for path in (home, *(home / name for name in ("runs", "tmp", "trash", "proposals", "reviews.jsonl"))):
        if not path.resolve().is_relative_to(store.resolve()):
            raise StartError(f"{path} is a link to outside the folder: remove it")


# Who may speak

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    # NiceGUI's pages have scripts in them and compile templates. Nothing is loaded from, or sent to, anywhere else.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """names: of this server, as a browser may call it. token: None where only this machine can reach it."""

    names: frozenset[str] = LOOPBACK
    token: str | None = None
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def allows_host(self, host: str) -> bool:
        """# localhost:8080 -> yes      evil.example:8080 -> no      192.168.1.7 -> with a token: no name rebinds it"""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in {known.lower() for known in self.names} or (self.token is not None and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI around everything, websockets included."""

    def __init__(self, app: Any, policy: AccessPolicy, cookie: str) -> None:
        """cookie: its name, which differs from that of another server on this machine."""
        self._app, self._terms, self._cookie = app, policy, cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):  # the server's own start and end
            await self._app(scope, receive, send)
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if (reason := self._refusal(scope, headers)) is not None:
            await _refuse(scope, send, reason)
        elif self._terms.token is None or self._has_cookie(headers):
            await self._app(scope, receive, _with_headers(send))
        elif self._has_token(scope):
            await self._set_cookie(scope, send)
        else:
            await _refuse(scope, send, "open the address that `gemma-captioner review` printed, token included")

    def _refusal(self, scope: Any, headers: dict[str, list[str]]) -> str | None:
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._terms.allows_host(hosts[0]):
            return "this server does not go by that name: start it with --allow-host NAME if it should"
        if scope["type"] == "websocket" and not origins:
            return "a websocket must say which page opens it"
        if any(not _is_same_origin(origin, hosts[0]) for origin in origins):
            return "this was sent by a page of another site"
        is_cross_site = any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", []))
        if is_cross_site and not (scope["path"] == "/" and headers.get("sec-fetch-mode") == ["navigate"]):
            return "this was sent by a page of another site"
        return None

    def _has_cookie(self, headers: dict[str, list[str]]) -> bool:
        try:
            morsel = SimpleCookie("; ".join(headers.get("cookie", []))).get(self._cookie)
        except CookieError:
            return False
        return morsel is not None and _equal_constant_time(morsel.value, self._terms.session)

    def _has_token(self, scope: Any) -> bool:
        if scope["type"] != "http" or scope["path"] != "/":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return len(given) == 1 and _equal_constant_time(given[0], self._terms.token or "")

    async def _set_cookie(self, scope: Any, send: Any) -> None:
        """The cookie, and on to the page by an address without the token."""
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{self._cookie}={self._terms.session}; HttpOnly; SameSite=Strict; Path=/{secure}"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        await _with_headers(send)({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body"})


def _equal_constant_time(given: str, expected: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _is_same_origin(origin: str, host: str) -> bool:
    """Whether it is this server's own. A browser leaves out of both the port that is the scheme's own."""
    scheme, _, authority = origin.partition("://")
    return scheme in ("http", "https") and authority.lower() == host.lower()


def _with_headers(send: Any) -> Any:
    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message["headers"], *own]}
        await send(message)

    return send_with_headers


async def _refuse(scope: Any, send: Any, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await _with_headers(send)({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": f"Refused: {reason}.\n".encode()})
