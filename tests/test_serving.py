"""`--serve` and `--engine vllm`: a server that lives as long as the run, and no longer, however the run ends."""

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines import engine_for
from gemma_captioner.engines.openai.server_process import ServerProcess
from gemma_captioner.errors import ServerError, UsageError
from tests.support.engines import answers, request
from tests.support.files import captions

STUB = Path(__file__).parent / "support" / "servers.py"


@pytest.fixture
def mark(tmp_path) -> str:
    """Stands in the command line of every process of a server: it and its child can be found by it."""
    return f"{tmp_path.name}-{os.getpid()}"


def stub(mark: str, answer_s: float = 0.0) -> str:
    """A command for --serve: a server with a child of its own, which would outlive it."""
    child = f'{sys.executable} -c "import time; time.sleep(600)" {mark}'
    return f"{child} & exec {sys.executable} {STUB} {{port}} {answer_s} {mark}"


def living(mark: str) -> list[list[str]]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if mark in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


def gone(mark: str) -> bool:
    for _ in range(300):
        if not living(mark):
            return True
        time.sleep(0.05)
    return False


def test_a_server_is_started_asked_and_ended_with_its_child(mark):
    told: list[str] = []
    engine = engine_for(
        Settings.from_dict({"engine": "server", "serve": stub(mark), "model": "m", "image_size": 64}), told.append
    )
    with engine.open() as session:
        assert len(living(mark)) == 2
        assert answers(session, [request(1)])[1].text.startswith("You asked")
    assert not living(mark)
    assert told[0].startswith("waiting until this server answers: ")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGKILL, -signal.SIGKILL),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long),  # leaves by the same doors as Ctrl-C
    ],
)
def test_it_ends_with_a_run_that_is_interrupted_or_killed(fork_server, media, mark, number, code):
    words = [
        "caption", str(media), "--engine", "server", "--serve", stub(mark, 0.4), "--model", "m", "--concurrency", "1",
        "--image-size", "64", "--retries", "0", "--prompt", "Three words here.",
    ]  # fmt: skip
    with fork_server.start(words, media) as running:
        while not captions(media):
            assert running.poll() is None, running.err
            time.sleep(0.05)
        assert len(living(mark)) == 2
        running.send_signal(number)
        assert running.wait().code == code
    assert gone(mark)
    assert 0 < len(captions(media)) < 8


def engine_served(command: str, log=lambda line: None, **settings):
    here = {"engine": "server", "serve": command, "model": "a model", "image_size": 64}
    return engine_for(Settings.from_dict(here, settings), log)


def test_it_ends_where_the_wait_for_it_is_interrupted(mark):
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_served(f'{sys.executable} -c "import time; time.sleep(600)" {{port}} {mark}', interrupt).open()
    assert not living(mark)


def test_its_log_is_shown_where_it_fails():
    fails = "echo loading {model}; echo no memory for --api-key s3cret; exit 3 # {port}"
    with pytest.raises(ServerError, match=r"(?s)exited with code 3.*loading a model.*no memory") as told:
        engine_served(fails).open()
    assert "s3cret" not in str(told.value)


def test_one_that_never_answers_is_given_up(mark):
    with_log = f'echo still loading; exec {sys.executable} -c "import time; time.sleep(600)" {{port}} {mark}'
    with pytest.raises(ServerError, match=r"(?s)does not answer after 1 s.*still loading"):
        engine_served(with_log, wait_for_server="1s").open()
    assert not living(mark)


def test_one_that_dies_in_the_middle_ends_the_run_at_once(mark):
    with engine_served(stub(mark)).open() as session:
        answers(session, [request(1)])
        for process in psutil.process_iter(["cmdline"]):
            if mark in (process.info["cmdline"] or []):
                process.kill()
        session.submit(request(2))
        with pytest.raises(ServerError, match="exited with code"):
            for _ in range(200):
                session.poll(0.1)


def test_vllm_is_served_by_its_own_command(tmp_path, mark, monkeypatch):
    fake = tmp_path / "vllm"
    fake.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nshift 5\nexec {sys.executable} {STUB} "$1" 0 {mark}\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    engine = engine_for(Settings.from_dict({"engine": "vllm", "model": "org/it's one", "image_size": 64}))
    with engine.open() as session:
        assert answers(session, [request(1)])[1].text.startswith("You asked")
    said = (tmp_path / "arguments").read_text().split()
    assert said == ["serve", "org/it's", "one", "--host", "127.0.0.1", "--port", str(engine.endpoint.port)]
    assert engine.spec.model == "org/it's one" and not living(mark)


def test_what_a_command_lacks_is_told():
    with pytest.raises(UsageError, match="requires --model"):
        engine_for(Settings.from_dict({"engine": "server", "serve": "serve --port {port}"}))
    with pytest.raises(UsageError, match=r"requires \{port\}"):
        engine_for(Settings.from_dict({"engine": "server", "serve": "serve {model}"}))
    engine_for(Settings.from_dict({"engine": "server", "serve": "serve {model}", "base_url": "http://localhost:8000"}))


def test_closing_twice_and_a_server_that_will_not_end(mark, monkeypatch):
    monkeypatch.setattr("gemma_captioner.engines.openai.server_process._GRACE_PERIOD_S", 0.5)  # ten seconds else
    served = ServerProcess(
        f'trap "" TERM; while true; do {sys.executable} -c "import time; time.sleep(600)" {mark}; done'
    )
    while not living(mark):
        time.sleep(0.05)
    served.close()
    served.close()
    assert not living(mark)


def test_the_log_of_a_server_shows_no_secret(monkeypatch):
    monkeypatch.setenv("UPSTREAM_TOKEN", "s3cret-inherited")
    command = 'echo "fatal: s3cret-given $UPSTREAM_TOKEN s3cret-key" # --api-key s3cret-key'
    with closing(ServerProcess(command, secrets=["s3cret-given"])) as served, pytest.raises(ServerError) as error:
        served.wait_until_ready(lambda: False, 60)
    assert "fatal: [hidden] [hidden] [hidden]" in str(error.value) and "s3cret-key" not in str(error.value)


@pytest.mark.timeout(30)
def test_a_server_that_no_signal_ends_is_reported(mark, monkeypatch):
    """As one that waits for a network drive."""
    messages: list[str] = []
    monkeypatch.setattr("gemma_captioner.engines.openai.server_process._GRACE_PERIOD_S", 0.2)
    served = ServerProcess(f'exec {sys.executable} -c "import time; time.sleep(600)" {mark}', log=messages.append)
    with monkeypatch.context() as patched:
        patched.setattr(psutil.Process, "terminate", lambda process: None)
        patched.setattr(psutil.Process, "kill", lambda process: None)
        served.close()
        served.close()
    assert living(mark)
    assert messages == [f"the server does not end, even by SIGKILL: check its processes ({served._process.pid})"]
    served._process.kill()
    served._process.wait()
