"""What the container starts, without the container: none can be built where these tests run."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from tests.support.files import captions
from tests.support.review_server import _wait_for, free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[1]
START = [sys.executable, ROOT / "docker" / "start.py"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "HF_HUB_OFFLINE": "1",
}


def test_arguments_go_to_the_command_and_nothing_is_explained():
    done = subprocess.run([*START, "--version"], env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)
    done = subprocess.run(START, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 2 and "CAPTION" in done.stderr and "REVIEW" in done.stderr


@pytest.mark.long
def test_a_run_and_the_page_from_the_environment(media, script, tmp_path):
    port = free_port()
    asked = {
        "CAPTION": f"'{media}' --engine scripted --model '{script()}'",
        "REVIEW": str(media),
        "PORT": str(port),
        "RUNPOD_POD_ID": "abc123",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    log = tmp_path / "log"
    with log.open("wb") as to, subprocess.Popen(START, env=ENVIRONMENT | asked, stderr=to) as pod:
        try:
            wait_until(lambda: "?token=" in log.read_text(encoding="utf-8"))
            token = re.findall(r"\?token=(\S+)", log.read_text(encoding="utf-8"))[0]
            _wait_for(f"http://localhost:{port}/")
            named = {"Host": f"abc123-{port}.proxy.runpod.net"}  # as the pod's proxy asks
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            with pytest.raises(urllib.error.HTTPError, match="403"):
                browser.open(urllib.request.Request(f"http://127.0.0.1:{port}/", headers=named))
            with browser.open(urllib.request.Request(f"http://127.0.0.1:{port}/?token={token}", headers=named)) as page:
                assert b"review" in page.read()
            wait_until(lambda: len(captions(media)) == 8)
            assert pod.poll() is None
        finally:
            pod.terminate()
            pod.wait(30)
    assert pod.returncode in (0, 143)


def test_what_the_dockerfile_copies_is_let_through_and_no_secret_is_in_it():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) for word in line.split()]
    assert {f"!{path.partition('/')[0]}" for path in copied} == {line for line in allowed if line.startswith("!")}
    assert all((ROOT / path).exists() for path in copied)
    code = "\n".join(line for line in dockerfile.splitlines() if not line.startswith("#"))
    assert not re.search("TOKEN|KEY|SECRET|trust_remote_code", code) and re.search(r"^USER [1-9]", code, re.MULTILINE)
