"""Attacks on the review page's server, one for each line of its safety."""

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from gemma_captioner.dataset.containment import MEDIA_SUFFIXES, resolve_inside
from gemma_captioner.errors import ItemError
from gemma_captioner.review import guard
from gemma_captioner.review.guard import AccessPolicy, Guard

HERE = {"host": "localhost:8080"}
TOKEN = "t0ken"


async def _app(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(
    policy: AccessPolicy,
    headers: dict[str, str] | list[tuple[str, str]],
    *,
    path="/",
    query="",
    type="http",
    scheme="http",
):
    """(status or the websocket's close code, headers) of what the guard lets through to `_app`, or answers itself."""
    sent = []

    async def send(message) -> None:
        sent.append(message)

    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": type, "path": path, "query_string": query.encode(), "scheme": scheme,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
    }  # fmt: skip
    asyncio.run(Guard(_app, policy, "captioner-8080")(scope, None, send))
    told = {name.decode(): value.decode() for name, value in sent[0].get("headers", [])}
    return sent[0].get("status", sent[0].get("code")), told


OPEN = AccessPolicy()
CLOSED = AccessPolicy(token=TOKEN)
INSIDE = HERE | {"cookie": f"captioner-8080={CLOSED.session}"}


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost", "LOCALHOST:9000"])
def test_this_machine_is_known_by_its_names(host):
    assert ask(OPEN, {"host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.7:8080", "", "[::1", "0.0.0.0",
     "evil.example#@localhost", "localhost@evil.example"],
)  # fmt: skip
def test_a_name_that_was_bound_to_this_machine_is_refused(host):
    """DNS rebinding: evil.example resolves to 127.0.0.1 by now, and the browser takes the answers for its own."""
    assert ask(OPEN, {"host": host})[0] == 403
    assert ask(OPEN, {"host": host, "origin": f"http://{host}"}, type="websocket")[0] == 1008


def test_a_request_needs_one_host():
    assert ask(OPEN, {})[0] == 403
    assert ask(OPEN, [("host", "localhost"), ("host", "evil.example")])[0] == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:9999", "null", "https://localhost:8080.evil.example", "file://",
     "chrome-extension://abc", "http://localhost:8080/x"],
)  # fmt: skip
@pytest.mark.parametrize("type", ["http", "websocket"])
def test_another_sites_page_is_refused(origin, type):
    refused = 403 if type == "http" else 1008
    assert ask(OPEN, HERE | {"origin": origin}, type=type)[0] == refused
    assert ask(CLOSED, INSIDE | {"origin": origin}, type=type)[0] == refused


def test_a_websocket_must_say_where_it_comes_from():
    assert ask(OPEN, HERE, type="websocket")[0] == 1008
    assert ask(OPEN, HERE | {"origin": "http://localhost:8080"}, type="websocket")[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_can_embed_nothing(site):
    """`same-site` too: other ports of localhost are that, and cookies do not tell ports apart."""
    assert ask(OPEN, HERE | {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}, path="/media/1")[0] == 403
    assert ask(OPEN, HERE | {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}, path="/media/1")[0] == 403
    assert ask(OPEN, HERE | {"sec-fetch-site": site, "sec-fetch-mode": "navigate"})[0] == 200  # a link to the page


def test_answers_are_not_to_be_framed_sniffed_or_taken_elsewhere():
    _, told = ask(OPEN, HERE)
    assert told["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in told["content-security-policy"]
    assert told["x-content-type-options"] == "nosniff"
    assert told["cross-origin-resource-policy"] == "same-origin"
    assert told["referrer-policy"] == "no-referrer"


# The token


def test_without_the_token_there_is_nothing():
    for path in ("/", "/media/1", "/_nicegui_ws/socket.io"):
        assert ask(CLOSED, HERE, path=path)[0] == 403
    assert ask(CLOSED, HERE | {"origin": "http://localhost:8080"}, type="websocket")[0] == 1008


@pytest.mark.parametrize(
    "query", ["token=", "token=wrong", "token=t0ken&token=t0ken", "token=T0KEN", "t0ken", "token=%ff"]
)
def test_a_wrong_token_is_refused(query):
    assert ask(CLOSED, HERE, query=query)[0] == 403


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_token_becomes_a_cookie_and_leaves_the_address(scheme):
    status, told = ask(CLOSED, HERE, query=f"token={TOKEN}", scheme=scheme)
    assert (status, told["location"]) == (303, "/")
    value, *attributes = told["set-cookie"].split("; ")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"} | ({"Secure"} if scheme == "https" else set())
    assert TOKEN not in told["set-cookie"]
    assert ask(CLOSED, HERE | {"cookie": f"other=1; {value}"})[0] == 200
    assert ask(CLOSED, HERE | {"cookie": value, "origin": "http://localhost:8080"}, type="websocket")[0] == 200


def test_the_token_opens_the_page_alone():
    assert ask(CLOSED, HERE, path="/media/1", query=f"token={TOKEN}")[0] == 403
    query = f"token={TOKEN}"
    assert ask(CLOSED, HERE | {"origin": "http://localhost:8080"}, query=query, type="websocket")[0] == 1008


@pytest.mark.parametrize("cookie", ["", "captioner-8080=", "captioner-8080=wrong", "captioner-8081=x", '"', "=;=;\xff"])
def test_a_wrong_cookie_is_refused(cookie):
    assert ask(CLOSED, HERE | {"cookie": cookie})[0] == 403


def test_another_server_of_ours_has_another_cookie():
    other = AccessPolicy(token=TOKEN)
    assert ask(other, INSIDE)[0] == 403


def test_secrets_are_compared_in_constant_time(monkeypatch):
    """Nothing else compares them: with a comparison that always says no, the right ones do not open either."""
    monkeypatch.setattr(guard.secrets, "compare_digest", lambda a, b: False)
    assert ask(CLOSED, HERE, query=f"token={TOKEN}")[0] == 403
    assert ask(CLOSED, INSIDE)[0] == 403


def test_the_token_is_no_name_for_a_rebound_host():
    """With a token, addresses are known as well, which no name server can rebind; names are not."""
    assert ask(CLOSED, INSIDE | {"host": "192.168.1.7:8080"})[0] == 200
    assert ask(CLOSED, INSIDE | {"host": "evil.example"})[0] == 403
    named = AccessPolicy(names=frozenset({"gpu.example"}), token=TOKEN)
    assert ask(named, {"host": "gpu.example", "cookie": f"captioner-8080={named.session}"})[0] == 200


# Files


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "inside").mkdir()  # begins with the same letters
    for name in ("in/a.png", "in/secret.key", "out.png", "inside/b.png"):
        (tmp_path / name).write_bytes(secrets.token_bytes(8))
    return tmp_path / "in"


def test_what_lies_inside_is_found(folder):
    assert resolve_inside(folder / "a.png", folder, MEDIA_SUFFIXES) == (folder / "a.png").resolve()
    os.symlink(folder / "a.png", folder / "link.png")
    assert resolve_inside(folder / "link.png", folder, MEDIA_SUFFIXES).name == "a.png"
    assert resolve_inside(folder / "none.txt", folder, (".txt",)).name == "none.txt"


@pytest.mark.parametrize(
    "path", ["../out.png", "/etc/passwd", "x/../../out.png", "../inside/b.png", "a.png\0.png", "..", ".", "secret.key"]
)
def test_what_lies_elsewhere_is_refused(folder, path):
    with pytest.raises(ItemError):
        resolve_inside(folder / path, folder, MEDIA_SUFFIXES)


def test_links_that_lead_out_are_refused(folder):
    os.symlink("../out.png", folder / "file.png")
    os.symlink("..", folder / "up")
    os.symlink("secret.key", folder / "key.png")
    os.symlink("loop.png", folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    for path in ("file.png", "up/out.png", "key.png", "loop.png", "pipe.png"):
        with pytest.raises(ItemError):
            resolve_inside(folder / path, folder, MEDIA_SUFFIXES)
