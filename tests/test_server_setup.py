"""A server that is set up wrongly: a run ends soon and says what to do; what a server tells about itself is read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gemma_captioner import Failed, caption
from gemma_captioner.config.settings import Settings
from gemma_captioner.engines import engine_for
from gemma_captioner.engines.openai.server_process import summarize_log
from gemma_captioner.errors import ServerError, UsageError
from tests.support.engines import answers, request
from tests.support.files import captions
from tests.support.servers import HttpRequest, HttpResponse, StubServer, completion

DATA = Path(__file__).parent / "data"
REFUSALS = [json.loads(line) for line in (DATA / "refusals.jsonl").read_text().splitlines()]
INFO = json.loads((DATA / "server_info.json").read_text())
LOGS = json.loads((DATA / "server_logs.json").read_text())


def run(stub: StubServer, media: Path, **settings) -> list:
    here = {"engine": "server", "base_url": stub.url, "image_size": 64, "workers": 1, "retries": 0}
    return list(caption(media, **(here | settings)))


def failing(error: HttpResponse, *, succeed: Callable[[int], bool] = lambda n: False):
    """Fails requests, except those whose number (from 0) `succeed` names."""
    numbers = iter(range(10**6))

    def rule(asked: HttpRequest) -> HttpResponse:
        return HttpResponse(body=completion("A cat.")) if succeed(next(numbers)) else error

    return rule


def test_a_reply_is_utf8_whatever_its_headers_say(media):
    """Some proxies name Latin-1, or write a byte order mark. A reply that is Latin-1 indeed is read as such."""
    said = "Un caf\u00e9 pr\u00e8s de la for\u00eat."
    body = json.dumps(completion(said), ensure_ascii=False)
    headers = {"Content-Type": "application/json; charset=ISO-8859-1"}
    for encoding in ("utf-8", "utf-8-sig", "latin-1"):
        with StubServer(failing(HttpResponse(200, body.encode(encoding), headers))) as stub:
            made = run(stub, media, language="french", existing="overwrite")
            assert {outcome.caption for outcome in made} == {said}, encoding


# Errors that no retry cures


@pytest.mark.parametrize("known", [known for known in REFUSALS if known["kind"] == "setup"], ids=lambda k: k["who"])
def test_an_error_of_the_setup_ends_the_run_at_once_with_its_remedy(media, known):
    with StubServer(failing(HttpResponse(known["status"], known["body"]))) as stub:
        with pytest.raises(ServerError, match=f"cannot answer.*{known['remedy']}"):
            run(stub, media, concurrency=1)
        assert len(stub.asked) == 1


BOOM = HttpResponse(500, {"error": {"message": "boom"}})


def test_eight_equal_errors_before_the_first_answer_end_the_run(command, media):
    words = ("--engine", "server", "--image-size", 64, "--concurrency", 4, "--workers", 1)
    with StubServer(failing(BOOM)) as stub:
        done = command("caption", media, *words, "--base-url", stub.url)
    assert done.code == 1 and "the same error 8 times in a row: boom (500" in done.err
    assert 8 <= len(stub.asked) < 8 + 4 and not captions(media)


def test_a_server_that_answers_with_pages_ends_the_run(command, media, monkeypatch):
    """Not at once: a gateway may show a page while its server starts."""
    monkeypatch.setattr("gemma_captioner.engines.openai.requests._INITIAL_BACKOFF_S", 0.01)
    words = ("--model", "m", "--image-size", 64, "--concurrency", 4, "--workers", 1)
    with StubServer(failing(HttpResponse(200, b"<html>Welcome</html>"))) as stub:
        done = command("caption", media, *words, "--base-url", stub.url)
    assert done.code == 1 and "8 times in a row: the reply is not a chat completion: Welcome" in done.err
    assert 6 * 8 <= len(stub.asked) < 6 * 8 + 6 * 4


def test_errors_after_an_answer_count_once_for_each_request(monkeypatch):
    """A server that restarts fails all requests in flight, more than once: none of these is lost."""
    monkeypatch.setattr("gemma_captioner.engines.openai.requests._INITIAL_BACKOFF_S", 0.01)
    settings = {"engine": "server", "image_size": 64, "concurrency": 16}

    def ask(rule, count: int) -> list:
        with StubServer(rule) as stub:
            engine = engine_for(Settings.from_dict({**settings, "base_url": stub.url}))
            with engine.open() as opened:
                return list(answers(opened, [request(n) for n in range(count)]).values())

    momentary = failing(BOOM, succeed=lambda n: n < 4 or n >= 40)
    assert not any(isinstance(answer, Failed) for answer in ask(momentary, 30))
    with pytest.raises(ServerError, match="8 times in a row"):
        ask(failing(BOOM, succeed=lambda n: n < 4), 100)


def test_answers_in_between_and_other_errors_start_the_count_anew(media, monkeypatch):
    monkeypatch.setattr("gemma_captioner.engines.openai.requests._INITIAL_BACKOFF_S", 0.01)
    other = iter(range(10**6))
    rules = [
        failing(HttpResponse(400, {"error": "no"}), succeed=lambda n: n % 3 == 2),
        lambda asked: HttpResponse(400, {"error": f"no {next(other)}"}),
        lambda asked: HttpResponse(400, {"error": "This model's maximum context length is 1024 tokens."}),
    ]
    for rule in rules:  # 5 images and 3 clips, each with 2 prompts
        with StubServer(rule) as stub:
            outcomes = run(stub, media, concurrency=1, prompt=("What is it?", "Where?"))
            assert len(outcomes) == 8 and any(isinstance(outcome, Failed) for outcome in outcomes)


def test_files_that_cannot_be_decoded_never_count(media):
    for n in range(12):
        (media / f"broken{n}.png").write_bytes(b"no image")
    with StubServer(failing(BOOM, succeed=lambda n: True)) as stub:
        outcomes = run(stub, media)
    assert sum(isinstance(outcome, Failed) for outcome in outcomes) == 12
    assert len(captions(media)) == 8


# Values that servers refuse


def test_a_temperature_that_servers_refuse_is_refused_before_the_run(command, media):
    words = ("caption", media, "--engine", "server", "--base-url", "http://127.0.0.1:9", "--temperature")
    done = command(*words, 2.5)
    assert done.code == 2 and "--temperature 2.5: servers accept up to 2" in done.err
    with pytest.raises(UsageError, match="servers accept up to 2"):
        engine_for(Settings.from_dict({"engine": "vllm", "model": "m", "temperature": 3}))
    engine_for(Settings.from_dict({"engine": "vllm", "model": "m", "temperature": 2}))


# What a server tells about itself


class KnownServer(StubServer):
    """Answers GET as one of the servers in tests/data/server_info.json does."""

    def __init__(self, name: str) -> None:
        self.replies = INFO[name]["replies"]
        super().__init__(lambda asked: HttpResponse(body=completion("A cat.")))

    async def answer(self, asked: HttpRequest) -> HttpResponse:
        if asked.method == "GET":
            return HttpResponse(body=self.replies[asked.path]) if asked.path in self.replies else HttpResponse(404)
        return await super().answer(asked)


@pytest.mark.parametrize("name", INFO)
def test_each_server_is_known_by_its_own_endpoints(name):
    with KnownServer(name) as stub:
        here = {"engine": "server", "base_url": stub.url, "model": INFO[name]["model"]}
        engine = engine_for(Settings.from_dict(here))
        assert engine.server() == INFO[name]["name"]
        assert engine.context == INFO[name]["context"]


def test_the_dry_run_warns_for_the_kind_that_does_not_fit(command, media):
    words = ("caption", media, "--engine", "server", "--model", "m", "--image-size", 64, "--dry-run")
    with StubServer(models=("m",)) as stub:  # 8,192 tokens
        done = command(*words, "--base-url", stub.url, "--frames", 40)
        [warning] = [line for line in done.out.splitlines() if line.startswith("note")]
        assert "3 clips: up to 10," in warning and "the context has 8,192: use fewer --frames" in warning
        assert done.code == 0
        chain = ("--prompt", "Describe it.", "--prompt", "Shorten this: {previous}", "--max-new-tokens", 5000)
        notes = command(*words, "--base-url", stub.url, "--frames", 4, *chain, "--json").json["notes"]
        assert [note.split(":")[0] for note in notes] == ["3 clips", "5 images"]  # with the answer that is repeated
        (media / "shown").mkdir()  # also a subfolder that is not searched
        for file in media.glob("*.*"):
            (media / "shown" / file.name).write_bytes(file.read_bytes())
            (media / "shown" / file.name).with_suffix(".txt").write_text("A cat.")
        examples = ("--examples", media / "shown", "--frames", 12)
        notes = command(*words, "--base-url", stub.url, *examples, "--json").json["notes"]
        assert [note.partition(":")[0] for note in notes if "context" in note] == [
            "3 clips"
        ]  # with three clips as examples
        assert command(*words, "--base-url", stub.url, "--json").json["notes"] == [
            "1 subfolder not searched (8 media files): add --recursive"
        ]
        said = ("--max-new-tokens", 8000)
        notes = command(*words, "--base-url", stub.url, *said, "--json").json["notes"]
        assert [note.partition(":")[0] for note in notes if "context" in note] == ["3 clips", "5 images"]


# Logs


@pytest.mark.parametrize("name", LOGS)
def test_the_summary_of_a_log_has_its_error(name):
    lines = LOGS[name]["log"]
    summary = summarize_log(lines)
    assert len(summary) <= 30 and summary[-1] == lines[-1]
    for cause in LOGS[name]["causes"]:
        assert sum(cause in line for line in summary) >= 1, summary


def test_a_log_without_an_error_is_cut_to_its_end():
    assert summarize_log([f"loading {n}" for n in range(30)]) == ["...", *(f"loading {n}" for n in range(25, 30))]
    assert summarize_log(["one"]) == ["one"] and summarize_log([]) == []
