"""Nobody is spoken to but the model hub and what the user names: every try to leave this machine is written down."""

import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.support.command import ForkServer
from tests.support.review_server import serving

WATCHED = """
import os, socket
HERE = {None, "", b"", "localhost", "::1", "::", "0.0.0.0", socket.gethostname()}
def watched(of, method):
    def tried(*args, **kwargs):
        address = args[method] if len(args) > method else None
        if of.__name__ == "sendto":
            address = args[-1]
        host = address[0] if isinstance(address, tuple) else None if method else address
        # Connecting a datagram socket sends nothing: it is how one's own address is found out.
        quiet = method and args[0].type == socket.SOCK_DGRAM and of.__name__ != "sendto"
        if host not in HERE and not str(host).startswith("127.") and not quiet:
            with open(os.environ["TRIED"], "a", encoding="utf-8") as log:
                log.write(f"{of.__name__} {host}\\n")
        return of(*args, **kwargs)
    return tried
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, watched(getattr(socket.socket, name), 1))
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, watched(getattr(socket, name), 0))
"""

pytestmark = pytest.mark.long


@pytest.fixture
def tried(tmp_path, monkeypatch) -> Path:
    """A file that is there once a process, ours or a child's, has tried to speak to another machine."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCHED, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "watch"))
    monkeypatch.setenv("TRIED", str(tmp_path / "tried"))
    return tmp_path / "tried"


ONLINE = {"HF_HUB_OFFLINE": "0"}


def test_the_watch_sees_what_is_said(command, tried):
    """`doctor` is to ask the hub."""
    assert command("doctor", env=ONLINE).code == 0
    assert "huggingface.co" in tried.read_text(encoding="utf-8")


def test_a_dataset_goes_its_way_in_silence(output_folder, media, tried):
    # The imports are watched, too. Each command runs in a process of its own.
    with closing(ForkServer(output_folder, "tests.support.warm_model", env=ONLINE)) as fork_server:
        _go_its_way(fork_server, media)
    assert not tried.exists(), tried.read_text(encoding="utf-8")


def _go_its_way(fork_server: ForkServer, media: Path) -> None:
    for words in (
        ["caption", media, "--model", "demo"],
        ["check", media, "--for", "musubi:wan", "--fix"],
        ["export", media, "--for", "diffusion-pipe"],
        ["compare", media, "--model", "demo", "--limit", "1", "--prompt", "A", "--prompt", "B"],
    ):
        done = fork_server.start(list(map(str, words)), media.parent).wait(200)
        assert done.code in (0, 3), done.err


@pytest.mark.prove
def test_over_a_cluster_ray_asks_the_cloud_that_it_is_in_and_nobody_else(command, media, script, tried):
    asked = ["--engine", "scripted", "--model", script(), "--cluster", "local"]
    assert command("caption", media, *asked, env=ONLINE, timeout=200).code == 0
    hosts = {line.split()[1] for line in tried.read_text(encoding="utf-8").splitlines()}
    own = {address.address for of_one in psutil.net_if_addrs().values() for address in of_one}
    # Where a cloud tells a machine what it is. Ray has no switch for it; without a report, the answer goes nowhere.
    assert hosts - own <= {"169.254.169.254", "metadata.google.internal"}


def test_so_does_the_page(media, tmp_path, tried):
    with serving(media, cache=tmp_path / "cache") as address, urllib.request.urlopen(address, timeout=30) as page:
        assert b"review" in page.read()
    assert not tried.exists(), tried.read_text(encoding="utf-8")
