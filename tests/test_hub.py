"""Models by hub id, over HTTP: a small hub on this machine, the real client, the real command."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from tests.support.command import Command, CommandResult, ForkServer, run_in_process
from tests.support.files import captions

COMMIT = "a" * 40
SECRET = "hf_" + "S3cret" * 5
FILES = {path.name: path.read_bytes() for path in DEMO_CHECKPOINT.iterdir()}
_HOW = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
STORED = json.dumps(json.loads(FILES["config.json"]) | {"quantization_config": _HOW}).encode()
SIZES = {"owner/huge": 2**60, "owner/stored": 3 << 30}  # bytes of each file, where they are not what they are
# repository -> (status, X-Error-Code, message) of every answer, where it is not simply there
REFUSED = {
    "google/gated": (403, "GatedRepo", "Access to model google/gated is restricted"),
    "nobody/misspelt": (401, "RepoNotFound", "Repository not found"),
    "nobody/private": (404, "RepoNotFound", "Repository not found"),
    "nobody/broken": (500, "", "Internal error"),
    "nobody/limited": (429, "", "Too many requests"),
}


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    huge = False

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0].removeprefix("/api/models").strip("/").split("/")
        repository = "/".join(path[:2])
        if repository in REFUSED:
            status, code, message = REFUSED[repository]
            return self._send(status, json.dumps({"error": message}).encode(), body, {"X-Error-Code": code})
        if self.headers.get("Authorization") == "Bearer hf_invalidinvalid":
            return self._send(401, b'{"error": "Invalid credentials"}', body, {})
        if self.path.startswith("/api/models"):
            siblings = [{"rfilename": n, "size": SIZES.get(repository, len(c))} for n, c in FILES.items()]
            if "tree" in path:
                siblings = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in FILES.items()]
                return self._send(200, json.dumps(siblings).encode(), body, {})
            info = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            return self._send(200, json.dumps(info).encode(), body, {})
        content = FILES.get(path[-1])
        if (repository, path[-1]) == ("owner/stored", "config.json"):
            content = STORED
        if content is None:
            return self._send(404, b"{}", body, {"X-Error-Code": "EntryNotFound"})
        return self._send(200, content, body, {"ETag": f'"{path[-1]}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


class Running:
    """The hub, and how to reach it."""

    def __init__(self) -> None:
        self._address = ("127.0.0.1", 0)
        self._start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _start(self) -> None:
        self._server = ThreadingHTTPServer(self._address, Hub)
        self._address = ("127.0.0.1", self._server.server_port)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Its address refuses connections."""
        self.close()
        try:
            yield
        finally:
            self._start()


@pytest.fixture(scope="module")
def hub() -> Iterator[Running]:
    with closing(Running()) as hub:
        yield hub


@pytest.fixture(scope="module")
def environment(hub) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@pytest.fixture(scope="module")
def fork_server(environment, output_folder) -> Iterator[ForkServer]:
    """Of its own: the hub's client reads these variables when it is imported."""
    with closing(ForkServer(output_folder, "tests.support.warm_model", env=environment)) as fork_server:
        yield fork_server


@pytest.fixture
def command(fork_server, tmp_path) -> Command:
    def run(*args: object, variables: dict[str, str] | None = None) -> CommandResult:
        return fork_server.start(list(map(str, args)), tmp_path, variables).wait()

    return run


@pytest.mark.long
def test_a_model_is_downloaded_once_and_then_works_offline(command, media, output_folder, tmp_path):
    first = command("caption", media, "--model", "owner/tiny", "--json")
    assert (first.code, first.json["captioned"]) == (0, 8), first.err
    written = captions(media)
    words = ["caption", str(media), "--model", "owner/tiny", "--existing", "overwrite", "--json"]
    again = run_in_process(words, output_folder, tmp_path)  # HF_HUB_OFFLINE=1
    assert (again.code, again.json["captioned"]) == (0, 8), again.err
    assert captions(media) == written


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("google/gated", "accept its license"),
        ("nobody/misspelt", "check the spelling"),
        ("nobody/private", "--hf-token"),
        ("nobody/broken", "try again later"),
        ("nobody/limited", "429"),
        ("not//a/model", "owner/name"),
        ("owner/huge", "of disk"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line_with_the_remedy(command, media, model, says):
    done = command("caption", media, "--model", model, "--hf-token", SECRET, "--debug")
    assert done.code == 1
    line = next(line for line in done.err.splitlines() if line.startswith("error: "))
    assert says in line, done.err
    assert SECRET not in done.err + done.out
    assert captions(media) == {}


def test_a_checkpoint_that_is_quantized_already_is_planned_by_the_size_that_the_hub_tells(command, media):
    done = command("caption", media, "--model", "owner/stored", "--dry-run")
    assert done.code == 0 and "in 4-bit (as stored)" in done.out and "weights 3.0" in done.out, done.out + done.err
    refused = command("caption", media, "--model", "owner/stored", "--quantize", "8bit")
    assert refused.code == 2 and "is not possible" in refused.err and refused.err.count("\n") == 1, refused.err


def test_an_invalid_token_is_told(command, media):
    done = command("caption", media, "--model", "owner/other", "--hf-token", "hf_invalidinvalid")
    assert done.code == 1
    assert "token is not valid" in done.err
    assert "hf_invalid" not in done.err


def test_no_network(command, media, hub):
    with hub.away():
        done = command("caption", media, "--model", "owner/elsewhere")
    assert done.code == 1
    assert "hub cannot be reached" in done.err
    assert done.err.count("\n") == 1


def test_a_tokenizer_comes_from_the_hub_and_one_that_cannot_be_had_is_told_in_one_line(command, media, hub):
    for path in media.iterdir():
        path.with_suffix(".txt").write_text("A red circle.")
    done = command("check", media, "--tokenizer", "owner/tiny")
    assert done.code == 0, done.err
    with hub.away():
        since = time.monotonic()
        done = command("check", media, "--tokenizer", "nosuch")
    assert time.monotonic() - since < 5
    assert done.code == 1 and done.err.count("\n") == 1
    assert done.err.startswith("error: nosuch is not on this machine, and the hub cannot be reached")


def test_the_token_reaches_no_file(command, media):
    done = command("caption", media, "--model", "owner/tiny", "--hf-token", SECRET, "--debug")
    assert done.code == 0, done.err
    for path in [p for p in Path(media).rglob("*") if p.is_file()]:
        assert SECRET.encode() not in path.read_bytes()


def test_doctor_says_that_the_hub_answers_and_never_the_token(command):
    done = command("doctor", variables={"HF_TOKEN": SECRET})
    assert done.code == 0, done.err
    assert "hub: answers" in done.out and "token: set" in done.out
    assert "gemma-3-27b-it: bf16 " in done.out and "gemma-4-31B-it: bf16 " in done.out
    assert SECRET not in done.out + done.err
