"""Fixtures: drawn media in a folder, and the command line as a user runs it."""

import os
import socket
import tempfile

# Set before torch and huggingface_hub are imported, here and in the commands that tests run. Tests run in parallel, so
# each has one thread. Only the tests of the hub client contact a hub. No test finds this machine's downloads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_HOME"] = (_HOME := tempfile.TemporaryDirectory(prefix="gemma-captioner-hf-")).name


with socket.socket() as _probe:
    _probe.bind(("127.0.0.1", 0))
    BUCKET_PORT = _probe.getsockname()[1]
# Set here because decode workers and file systems keep the environment that they find first.
os.environ |= {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{BUCKET_PORT}",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}

# isort: split

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pebble import CONSTS

from gemma_captioner.config.model import ServerSettings
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.openai.client import Client, Endpoint
from gemma_captioner.engines.openai.server_process import ServerProcess
from tests.support.bucket import Bucket
from tests.support.command import Command, CommandResult, ForkServer, run_in_process, run_in_subprocess

CONSTS.sleep_unit = 0.02  # pebble's poll interval: hundreds of pools end 0.2 s sooner

# Shells ignore SIGINT for background jobs, and child processes inherit that. Tests interrupt commands.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects tests by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as long that use a server which takes each test process 10 seconds to start."""
    for item in items:
        if {"bucket", "transformers_serve"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("long")


def pytest_xdist_auto_num_workers() -> int:
    """Use one more process than cores: tests spend a fifth of their time waiting for servers, clocks and the disk."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def output_folder(tmp_path_factory) -> Path:
    """The folder for the output of commands."""
    return tmp_path_factory.mktemp("printed")


@pytest.fixture(scope="session")
def fork_server(output_folder) -> Iterator[ForkServer]:
    """A fork server for runs of the scripted engine. It imports no model."""
    with closing(
        ForkServer(output_folder, "gemma_captioner.media.pool", "gemma_captioner.engines.scripted")
    ) as fork_server:
        yield fork_server


@pytest.fixture(scope="module")  # while Playwright runs, no other event loop can run in this thread
def browser() -> Iterator[Any]:
    """A browser of Playwright."""
    from tests.support.review_server import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def review_fork_server(output_folder) -> Iterator[ForkServer]:
    """A fork server for review servers."""
    with closing(ForkServer(output_folder, "gemma_captioner.review.page.app")) as fork_server:
        yield fork_server


@pytest.fixture
def opened(browser, review_fork_server, folder, tmp_path) -> Iterator[Callable[..., Any]]:
    """Open the review page of the fixture `folder` in a new tab. The first call starts the server, with these options.

    fork_server: forks the server instead. Other named arguments are options of the browser's context.
    """
    from tests.support.review_server import KeyboardUser, serving

    with ExitStack() as stack:
        address: list[str] = []

        def open(*options: str, fork_server: ForkServer = review_fork_server, **screen: Any) -> KeyboardUser:
            if not address:
                server = serving(folder, *options, cache=tmp_path / "cache", fork_server=fork_server)
                address.append(stack.enter_context(server))
            user = KeyboardUser(browser, address[0], **screen)
            stack.callback(user.close)
            return user

        yield open


@pytest.fixture
def command(request, output_folder, tmp_path) -> Command:
    """Run `gemma-captioner ARGS...`, or `python SCRIPT.py ARGS...`, in this process.

    env: additional environment variables; the command then runs in a new Python process. Runs on Ray use a forked one.
    """

    def run(
        *args: object, cwd: Path = tmp_path, env: dict[str, str] | None = None, timeout: float = 210
    ) -> CommandResult:
        words = list(map(str, args))
        if env is not None:
            return run_in_subprocess(words, cwd, env, timeout)
        if "--cluster" in words:
            fork_server: ForkServer = request.getfixturevalue("fork_server")
            return fork_server.start(words, cwd).wait(timeout)
        return run_in_process(words, output_folder, cwd)

    return run


@pytest.fixture(scope="session")
def session_bucket() -> Iterator[Bucket]:
    with Bucket(BUCKET_PORT) as bucket:
        yield bucket


@pytest.fixture
def bucket(session_bucket) -> Bucket:
    """An empty bucket."""
    session_bucket.clear()
    return session_bucket


@pytest.fixture(scope="session")
def drawn_media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "media"
    draw_samples(folder, images=5, clips=3, seed=7)
    return folder


@pytest.fixture
def media(drawn_media: Path, tmp_path: Path) -> Path:
    """A folder of five drawn images and three drawn clips."""
    return Path(shutil.copytree(drawn_media, tmp_path / "media"))


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Write a script for the scripted engine and return its path."""

    def write(**values: Any) -> Path:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(values))
        return path

    return write


@pytest.fixture(scope="session")
def transformers_serve(tmp_path_factory) -> Iterator[str]:
    """Serve the demo checkpoint with `transformers serve`, once per test process, and return the URL."""
    address = Endpoint.of(ServerSettings(serve="any"))
    transformers = Path(sys.executable).with_name("transformers")
    server_process = ServerProcess(
        f"HF_HUB_OFFLINE=1 {transformers} serve {DEMO_CHECKPOINT} --host 127.0.0.1 --port {address.port} --device cpu"
    )
    try:
        server_process.wait_until_ready(Client(address).is_up, 210)
        yield address.url
    finally:
        server_process.close()
