"""Real media drawn into a folder, and the command line run as a user runs it."""

import os
import socket
import tempfile

# Before they are imported, here and in the commands that are run: it is the tests that run side by side, no test but
# those of the hub's client asks a hub, and none finds what this machine has downloaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_HOME"] = (_HOME := tempfile.TemporaryDirectory(prefix="gemma-captioner-hf-")).name


with socket.socket() as _probe:
    _probe.bind(("127.0.0.1", 0))
    BUCKET_PORT = _probe.getsockname()[1]
# Decode workers and file systems, once they are there, keep what they found.
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
from contextlib import closing
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

CONSTS.sleep_unit = 0.02  # how often pebble looks at its workers: hundreds of pools end 0.2 s sooner

# In the background of a shell it is ignored, by heirs too: no command could be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait, for servers, clocks and the disk, a fifth of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def output_folder(tmp_path_factory) -> Path:
    """Where commands print to."""
    return tmp_path_factory.mktemp("printed")


@pytest.fixture(scope="session")
def fork_server(output_folder) -> Iterator[ForkServer]:
    """For runs of the scripted engine: no model is imported."""
    with closing(
        ForkServer(output_folder, "gemma_captioner.media.pool", "gemma_captioner.engines.scripted")
    ) as fork_server:
        yield fork_server


@pytest.fixture
def command(request, output_folder, tmp_path) -> Command:
    """Run `gemma-captioner ARGS...`, or `python SCRIPT.py ARGS...`, in this process.

    env: of the environment, for a process that Python starts anew. Ray is started in a process of its own, too.
    """

    def run(
        *args: object, cwd: Path = tmp_path, env: dict[str, str] | None = None, timeout: float = 120
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
    """Write a script for the scripted engine: its path."""

    def write(**values: Any) -> Path:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(values))
        return path

    return write


@pytest.fixture(scope="session")
def transformers_serve(tmp_path_factory) -> Iterator[str]:
    """The demo checkpoint behind `transformers serve`: its URL. A server for each of the tests' processes."""
    address = Endpoint.of(ServerSettings(serve="any"))
    transformers = Path(sys.executable).with_name("transformers")
    server_process = ServerProcess(
        f"HF_HUB_OFFLINE=1 {transformers} serve {DEMO_CHECKPOINT} --host 127.0.0.1 --port {address.port} --device cpu"
    )
    try:
        server_process.wait_until_ready(Client(address).is_up, 120)
        yield address.url
    finally:
        server_process.close()
