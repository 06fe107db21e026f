"""Checks which requests the server accepts. `dataset/containment.py` checks which files it opens.

A page of another site can make a browser send requests to this server, and after DNS rebinding it can read the
responses. The guard therefore checks the Host, Origin and Sec-Fetch-Site headers. With --host it also requires a token.
"""

import ipaddress
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

_CROSS_SITE = "the request comes from a page of another site: open this page directly"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    # NiceGUI uses inline scripts and compiles templates. All other origins are blocked.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Which requests are accepted. session: the value of the cookie that replaces the token."""

    names: frozenset[str] = LOOPBACK  # host names under which browsers may reach this server
    token: str | None = None  # None if only this machine can reach the server
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def allows_host(self, host: str) -> bool:
        """# localhost:8080 -> yes; evil.example:8080 -> no; 192.168.1.7 -> yes with a token (DNS cannot rebind it)"""
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
    """ASGI middleware around all requests, websockets included."""

    def __init__(self, app: Any, policy: AccessPolicy, cookie: str) -> None:
        """cookie: its name, unique among the servers on this machine."""
        self._app, self._policy, self._cookie = app, policy, cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):  # startup and shutdown
            await self._app(scope, receive, send)
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if (reason := self._refusal(scope, headers)) is not None:
            await _refuse(scope, send, reason)
        elif self._policy.token is None or self._has_cookie(headers):
            await self._app(scope, receive, _with_headers(send))
        elif self._has_token(scope):
            await self._set_cookie(scope, send)
        else:
            await _refuse(scope, send, "token required: open the full address that `gemma-captioner review` printed")

    def _refusal(self, scope: Any, headers: dict[str, list[str]]) -> str | None:
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._policy.allows_host(hosts[0]):
            return "unknown host name: to allow it, start the server with --allow-host NAME"
        if scope["type"] == "websocket" and not origins:
            return "the websocket request has no Origin header: use a browser"
        if any(not _is_same_origin(origin, hosts[0]) for origin in origins):
            return _CROSS_SITE
        is_cross_site = any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", []))
        if is_cross_site and not (scope["path"] == "/" and headers.get("sec-fetch-mode") == ["navigate"]):
            return _CROSS_SITE
        return None

    def _has_cookie(self, headers: dict[str, list[str]]) -> bool:
        try:
            morsel = SimpleCookie("; ".join(headers.get("cookie", []))).get(self._cookie)
        except CookieError:
            return False
        return morsel is not None and _equal_constant_time(morsel.value, self._policy.session)

    def _has_token(self, scope: Any) -> bool:
        if scope["type"] != "http" or scope["path"] != "/":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return len(given) == 1 and _equal_constant_time(given[0], self._policy.token or "")

    async def _set_cookie(self, scope: Any, send: Any) -> None:
        """Set the cookie and redirect to an address without the token."""
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{self._cookie}={self._policy.session}; HttpOnly; SameSite=Strict; Path=/{secure}"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        await _with_headers(send)({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body"})


def _equal_constant_time(given: str, expected: str) -> bool:
    """Compare in constant time, so that timing reveals nothing about the secret."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _is_same_origin(origin: str, host: str) -> bool:
    """Whether the origin is this server. Browsers omit the scheme's default port in both headers."""
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
