"""The engine for servers over real connections: what it asks, what it bears, what it never tells."""

import asyncio
import gzip
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from gemma_captioner import Captioned, Skipped, caption
from gemma_captioner.config.model import ServerSettings
from gemma_captioner.config.settings import Settings
from gemma_captioner.doctor.server import diagnose_server
from gemma_captioner.engines import engine_for
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.openai.client import NO_TOKEN_COUNT, Client, Endpoint
from gemma_captioner.engines.openai.errors import ApiFailure
from gemma_captioner.errors import ModelError, ServerError, StartError, UsageError
from gemma_captioner.types import ContextPart, Failed, PatchBudget, Reply
from tests.support.engines import answers, demo_server_settings, request, requests
from tests.support.files import captions, journal
from tests.support.servers import (
    FaultProxy,
    HttpRequest,
    HttpResponse,
    StubServer,
    ThreadedServer,
    colors_in,
    completion,
    echo_prompt,
    images_in,
)

SECRET = "sk-S3cret" * 4


def session(url: str, log=lambda line: None, **settings):
    here = {"engine": "server", "base_url": url, "image_size": 64, "concurrency": 4}
    return engine_for(Settings.from_dict(here, settings), log).open()


def once(url: str, asked=None, **settings) -> Reply | Failed:
    with session(url, **settings) as opened:
        asked = asked or request(1, 2)
        return answers(opened, [asked])[asked.id]


# What is sent


@pytest.mark.parametrize(("image_format", "error"), [("png", 0), ("jpeg", 12)])
def test_frames_arrive_as_they_are(image_format, error):
    with StubServer() as stub:
        asked = request(1, 3)
        once(stub.url, asked, image_format=image_format)
        [arrived] = stub.asked
    pictures = images_in(arrived)
    assert {p.format for p in pictures} == {image_format.upper()}
    for picture, frame in zip(pictures, asked.frames.pixels, strict=True):
        assert np.abs(np.asarray(picture, np.int32) - frame).mean() <= error
    assert f"data:image/{image_format};base64,".encode() in arrived.body


def test_the_quality_of_jpegs_is_a_setting():
    with StubServer() as stub:
        for quality in (30, 95):
            once(stub.url, jpeg_quality=quality)
        low, high = (len(asked.body) for asked in stub.asked)
    assert low < high


def spec(name: str, **settings):
    return engine_for(
        Settings.from_dict({"engine": "server", "base_url": "http://nowhere", "model": name}, settings)
    ).spec


def test_frames_are_as_large_as_the_model_uses():
    with pytest.raises(ServerError):  # it is asked for its context
        spec("google/gemma-3-12b-it", base_url="http://127.0.0.1:9")
    with StubServer(models=("gemma-4-12b", "m")) as stub:
        here = {"base_url": stub.url}
        assert spec("gemma3:12b", **here).size == (896, 896)
        assert spec("gemma-3n-E4B", **here).size == (768, 768)
        assert spec("google/gemma-4-31B-it", **here).size == PatchBudget(280, 48, resized_again=True)
        assert spec("gemma4:31b", image_tokens=70, **here).size == PatchBudget(70, 48, resized_again=True)
        assert spec("m", image_size=336, **here).size == (336, 336)
        assert spec("m", **here).context_length == 8192


def test_gemma_4_s_server_resizes_a_frame_to_the_size_that_the_local_engine_uses():
    moved = 0
    for tokens in (70, 140, 280, 560, 1120):
        model, sent = PatchBudget(tokens, 48), PatchBudget(tokens, 48, resized_again=True)
        for width in range(420, 2400, 36):  # up to 2.4 : 1, both ways
            size = model.of(width, 1000)
            moved += model.of(*size) != size
            assert model.of(*sent.of(width, 1000)) == size, (tokens, width)
    assert moved > 20  # if they were sent in the size itself


# Which model


def captioned(media, url: str, **settings) -> int:
    """How many of a folder's files: a whole run, in this process."""
    outcomes = list(caption(media, engine="server", base_url=url, image_size=64, workers=1, **settings))
    assert {type(outcome) for outcome in outcomes} <= {Captioned, Skipped}
    return sum(isinstance(outcome, Captioned) for outcome in outcomes)


def says_a_caption(asked: HttpRequest) -> HttpResponse:
    return HttpResponse(body=completion(f"A red circle on a white background, {len(images_in(asked))} times."))


def test_the_only_model_needs_no_naming(media):
    with StubServer(says_a_caption, models=("org/only",)) as stub:
        assert captioned(media, stub.url) == 8
        assert {asked.json["model"] for asked in stub.asked} == {"org/only"}
        lines = [line for line in journal(media) if line["kind"] == "caption"]
        assert {(line["model"], line["revision"]) for line in lines} == {("org/only", stub.url)}
        # Where it is said is no part of what a caption says; which model says it is.
        elsewhere = stub.url.replace("127.0.0.1", "localhost")
        assert captioned(media, elsewhere, existing="stale") == 0
        assert captioned(media, stub.url, existing="stale", model="org/other") == 8


@pytest.mark.parametrize(
    ("models", "says"), [(("a", "b"), "several models. Choose one with --model: a, b"), ((), "does not list")]
)
def test_several_models_want_one_named(models, says):
    with StubServer(models=models) as stub, pytest.raises(ModelError, match=says):
        session(stub.url).close()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (502, b"<html><body>no upstream</body></html>", r"\(no upstream \(502 Bad Gateway\)\)"),
        (404, {"error": "no such path"}, r"\(no such path \(404 Not Found\)\)"),
        (200, b"<html>Welcome</html>", r"\(it replied 'Welcome'\)"),
        (200, {"data": []}, r"\(its list is empty\)"),
    ],
)
def test_why_no_models_are_listed_is_said(status, body, why):
    with StubServer() as stub:
        stub.list = HttpResponse(status, body)
        with pytest.raises(ModelError, match=f"does not list its models {why}: pass --model"):
            session(stub.url).close()
        assert isinstance(once(stub.url, model="stub"), Reply)


@pytest.mark.parametrize("length", [4096, "4096"])
def test_a_bare_list_of_models_is_read(length):
    with StubServer() as stub:
        stub.list = HttpResponse(body=[{"id": "org/m", "max_model_len": length}])
        engine = engine_for(Settings.from_dict({"engine": "server", "base_url": stub.url}))
        assert (engine.model, engine.spec.context_length) == ("org/m", 4096)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("", "/v1"), ("/", "/v1"), ("/v1/", "/v1"), ("/v1/chat/completions", "/v1"), ("//ok//v1//", "/ok/v1"),
        ("/chat/completions/", ""),
    ],
)  # fmt: skip
def test_a_url_is_brought_to_its_path(given, asked):
    with StubServer() as stub:
        assert isinstance(once(stub.url.removesuffix("/v1") + given), Reply)
        assert stub.asked[0].path == f"{asked}/chat/completions"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_server_that_sends_us_elsewhere_is_told(code):
    def rule(asked: HttpRequest) -> HttpResponse:
        return HttpResponse(code, headers={"Location": "/elsewhere/v1/chat/completions?key=k"})

    with StubServer(rule) as stub, session(stub.url) as opened, pytest.raises(ModelError) as told:
        answers(opened, [request(1)])
    assert f"redirects to {stub.url.replace('/v1', '/elsewhere/v1')}/chat/completions ({code})" in str(told.value)


@pytest.mark.parametrize("key", ["sk-S\u00e9cret", "sk-S\necret", "\x07sk-S"])
def test_a_key_that_no_header_can_hold_is_told_by_its_variable(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UsageError, match="the key in MY_KEY") as told:
        engine_for(Settings.from_dict({"engine": "server", "base_url": "http://here", "api_key_env": "MY_KEY"}))
    assert "sk-S" not in str(told.value)


def test_a_key_ends_where_its_line_does(monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {SECRET}\r\n")
    with StubServer() as stub:
        assert isinstance(once(stub.url, api_key_env="MY_KEY"), Reply)
        assert stub.asked[0].headers["authorization"] == f"Bearer {SECRET}"


# What ends a run


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, {"error": {"message": "Incorrect API key provided"}}, "requires an API key.*OPENAI_API_KEY"),
        (403, {"error": "not for you"}, "not for you.*OPENAI_API_KEY"),
        (404, {"error": {"message": "The model `m` does not exist."}}, "`m` does not exist.*--model"),
    ],
)
def test_a_refused_key_or_model_ends_the_run_at_once(status, error, says):
    with StubServer(lambda asked: HttpResponse(status, error)) as stub, session(stub.url, concurrency=1) as opened:
        for n in range(3):
            opened.submit(request(n))
        with pytest.raises(StartError, match=says):
            for _ in range(100):
                opened.poll(0.1)
        opened.submit(request(3))  # as one whose frames took longer to encode
        time.sleep(0.2)
        assert len(stub.asked) == 1


def test_no_server_is_told_at_once(media):
    with pytest.raises(ServerError, match=r"^http://127\.0\.0\.1:9/v1 does not answer \(.*\): start the server"):
        captioned(media, "http://me:pw@127.0.0.1:9/v1")


def test_no_url_is_a_usage_error():
    with pytest.raises(UsageError, match="--base-url"):
        engine_for(Settings.from_dict({"engine": "server"}))
    with pytest.raises(UsageError, match="with http:// or https:// in front") as told:
        Settings.from_dict({"base_url": f"me:{SECRET}@host"})
    assert SECRET not in str(told.value)
    with pytest.raises(UsageError, match="the port in this address is not a number") as told:
        Settings.from_dict({"base_url": f"http://me:{SECRET}"})
    assert SECRET not in str(told.value)


def test_a_missing_extra_is_named(media):
    code = (
        "import sys; sys.modules['openai'] = None\n"
        "from gemma_captioner.cli import main\n"
        "main(['caption', '.', '--engine', 'server', '--base-url', 'http://here'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=media)
    assert done.returncode == 1 and "pip install 'gemma-captioner[server]'" in done.stderr


# What is learnt, shrunk, refused


def accepts_only(*known: str):
    def rule(asked: HttpRequest) -> HttpResponse:
        unknown = [name for name in asked.json if name not in ("model", "messages", *known)]
        if unknown:
            return HttpResponse(400, {"error": {"message": f"Unsupported parameter: '{unknown[0]}' is not supported"}})
        return echo_prompt(asked)

    return rule


def test_parameters_that_a_server_does_not_know_are_left_out_and_told_once():
    told: list[str] = []
    with StubServer(accepts_only("temperature", "max_completion_tokens")) as stub:
        with session(stub.url, told.append, concurrency=2) as opened:
            got = answers(opened, [request(n, temperature=0.7, seed=n) for n in range(12)])
        assert all(isinstance(answer, Reply) for answer in got.values())
        assert len(stub.asked) <= 12 + 2 * 2  # two parameters, two requests under way
        assert stub.asked[-1].json["max_completion_tokens"] == 8
    assert [re.findall("`(.*?)`", line) for line in told] == [["max_tokens"], ["seed"]]


def goes_on(*, knows: bool = True, told: bool = False, counts: bool = True):
    """A server that goes on from a last message of the assistant's: told to by parameters, or whenever there is one.

    knows: the parameters. counts: the tokens that it read.
    """

    def rule(asked: HttpRequest) -> HttpResponse:
        request, turns = asked.json, asked.json["messages"]
        if not knows and "continue_final_message" in request:
            return HttpResponse(
                400, {"error": {"message": "Unrecognized request argument supplied: continue_final_message"}}
            )
        continued = turns[-1]["role"] == "assistant" and (not told or "continue_final_message" in request)
        tokens = sum(5 + len(str(turn["content"]).split()) for turn in turns) + 5 - 5 * continued
        said = completion(" stands here." if continued else "A cat.")
        return HttpResponse(body=said | {"usage": {"prompt_tokens": tokens} if counts else None})

    return rule


@pytest.mark.parametrize(
    ("rule", "sent"), [(goes_on(told=True), True), (goes_on(), True), (goes_on(knows=False), False)]
)
def test_an_answer_is_begun_as_the_server_can_be_made_to_go_on_from_it(rule, sent):
    with StubServer(rule) as stub:
        with session(stub.url, begin=" A dog ") as opened:
            asked = [replace(request(n), begin="A dog") for n in range(3)]
            got = answers(opened, asked)
        assert {reply.text for reply in got.values()} == {"A dog stands here."}
        assert all(("continue_final_message" in a.json) == sent for a in stub.asked[-3:])
        assert all(a.json["messages"][-1] == {"role": "assistant", "content": "A dog"} for a in stub.asked[-3:])
        assert len(stub.asked) == 3 + (2 if sent else 3)  # learnt once


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (goes_on(told=True, knows=False), "starts a new answer"),
        (goes_on(counts=False), "contains no token count"),
        (lambda asked: HttpResponse(400, {"error": "the last message must be the user's"}), "must be the user's"),
    ],
)
def test_a_server_that_does_not_go_on_from_an_answer_refuses_the_run_with_the_reason(rule, why):
    with StubServer(rule) as stub, pytest.raises(ModelError, match=rf"{why}.*remove --begin"):
        session(stub.url, begin="A dog")


def test_transformers_serve_answers_anew_and_is_found_out(transformers_serve):
    with pytest.raises(ModelError, match="starts a new answer"):
        session(transformers_serve, model=str(DEMO_CHECKPOINT), begin="A red")


@pytest.mark.parametrize("template", ["string", "list"])
@pytest.mark.parametrize("model", ["gemma-4-31B-it", "gemma-3-4b-it"])
def test_a_system_message_is_sent_so_that_gemma_4_can_read_it(template, model):
    """list: transformers serve and vLLM pass a list of parts, which Gemma 4's template prints."""

    def rule(asked: HttpRequest) -> HttpResponse:
        turns = asked.json["messages"]
        printed = [[{"type": "text", "text": t["content"]}] if t["role"] == "system" else t["content"] for t in turns]
        tokens = sum(5 + len(str(text if template == "list" else t["content"]))
                     for t, text in zip(turns, printed, strict=True))  # fmt: skip
        return HttpResponse(body=completion("A cat.") | {"usage": {"prompt_tokens": tokens}})

    with StubServer(rule, models=(model,)) as stub:
        with session(stub.url, model=model, system="Be brief.") as opened:
            assert answers(opened, [request(1)])[1].text == "A cat."
        turns, moved = stub.asked[-1].json["messages"], (template, model) == ("list", "gemma-4-31B-it")
        assert [turn["role"] for turn in turns] == (["user"] if moved else ["system", "user"])
        assert turns[-1]["content"][-1]["text"] == ("Be brief.\n\nDescribe this." if moved else "Describe this.")


def few(asked: HttpRequest, most: int = 4) -> HttpResponse:
    if len(images_in(asked)) > most:
        return HttpResponse(400, {"error": {"message": "This model's maximum context length is 1024 tokens."}})
    return says_a_caption(asked)


def test_too_much_fails_alone_or_is_shrunk():
    with StubServer(few) as stub:
        refused = once(stub.url, request(1, 12))
        assert isinstance(refused, Failed)
        assert "maximum context length is 1024" in refused.error and "--shrink" in refused.error
        shrunk = once(stub.url, request(1, 12), shrink=True)
        assert isinstance(shrunk, Reply) and "3 times" in shrunk.text and shrunk.flags == ("fewer_frames",)
        whole = once(stub.url, request(1, 4), shrink=True)
        assert isinstance(whole, Reply) and whole.flags == ()


def test_a_shrunk_clip_is_flagged_in_the_journal(media):
    with StubServer(few) as stub:
        assert captioned(media, stub.url, shrink=True) == 8
    flagged = Counter("fewer_frames" in line["flags"] for line in journal(media) if line["kind"] == "caption")
    assert flagged == {True: 3, False: 5}


# What is borne


def test_the_time_of_an_item_ends():
    with StubServer(answer_s=60) as stub:
        failed = once(stub.url, request_timeout=0.2, item_timeout=1.0)
    assert isinstance(failed, Failed) and "--item-timeout (1 s)" in failed.error


def run_storm(count: int, *, seed: int, concurrency: int) -> None:
    """Requests through a proxy that breaks 30% of them; every one has one outcome, its own."""
    with StubServer(answer_s=0.01) as stub, FaultProxy(stub, 0.3, seed) as proxy:
        restart = threading.Timer(0.5, lambda: (proxy.stop(), time.sleep(0.7), proxy.start()))
        told: list[str] = []
        asked = [request(n, 1 + n % 2, prompt=f"Number {n}.") for n in range(count)]
        with session(proxy.url, told.append, concurrency=concurrency, request_timeout=1.0) as opened:
            restart.start()
            got = answers(opened, asked, timeout_s=200)  # fails on a second answer
        restart.join()
        assert got.keys() == {a.id for a in asked}
        for number, answer in got.items():
            if isinstance(answer, Reply):
                assert answer.text == f"You asked: Number {number}."
            else:
                assert "failed after 6 attempts" in answer.error
        replies = sum(isinstance(answer, Reply) for answer in got.values())
        print(f"{count} requests: {replies} answered, {count - replies} failed; met {dict(proxy.met)}; told {told}")
        assert replies >= 0.98 * count
        assert proxy.met.keys() - {"none"} == set(proxy.faults)
        assert len(told) == 2 and "stopped answering" in told[0] and "answers again" in told[1]


def test_faults_of_every_kind_cost_nothing():
    run_storm(60, seed=1, concurrency=16)


@pytest.mark.long
def test_300_requests_with_faults_on_30_percent():
    run_storm(300, seed=2, concurrency=32)


@pytest.mark.prove
def test_2000_requests_with_faults_on_30_percent():  # docs/servers.md
    run_storm(2000, seed=2, concurrency=32)


def test_what_is_too_much_makes_it_ask_for_less_at_once():
    def rule(asked: HttpRequest) -> HttpResponse:
        return (
            HttpResponse(429, {"error": "busy"}, {"Retry-After": "0.01"}) if stub.in_flight > 3 else echo_prompt(asked)
        )

    with StubServer(rule, answer_s=0.02) as stub:
        with session(stub.url, concurrency="auto") as opened:
            got = answers(opened, [request(n) for n in range(300)])
            assert all(isinstance(answer, Reply) for answer in got.values())
        refused = len(stub.asked) - 300
        assert stub.max_in_flight <= 8 and refused < 60


def test_a_server_that_does_not_come_back_ends_the_run_and_progress_is_kept(media):
    def rule(asked: HttpRequest) -> HttpResponse:
        if len(stub.asked) == 4:
            stub.loop.call_soon(lambda: stub.loop.create_task(stub.shut()))
        return says_a_caption(asked)

    with StubServer(rule) as stub:
        with pytest.raises(ServerError, match="did not answer within 1s"):
            captioned(media, stub.url, concurrency=1, wait_for_server="1s")
        kept = captions(media)
        assert 3 <= len(kept) < 8
        stub.start()
        assert captioned(media, stub.url) == 8 - len(kept)
        assert captions(media).items() >= kept.items()


def test_a_server_that_is_late_is_waited_for():
    with StubServer() as stub:
        stub.stop()
        later = threading.Timer(1.0, stub.start)
        later.start()
        assert isinstance(once(stub.url, wait_for_server="30s"), Reply)
        later.join()


@pytest.mark.parametrize(
    ("fault", "kind"), [("drop", "transient"), ("reset", "transient"), ("garbage", "transient"), ("gone", "down")]
)
def test_a_broken_connection_is_told_from_a_server_that_is_gone(fault, kind):
    with StubServer() as stub, FaultProxy(stub, 1.0, 1, (fault,)) as proxy:
        if fault == "gone":
            proxy.stop()
        trouble = asyncio.run(ask(proxy.url))
    assert isinstance(trouble, ApiFailure) and trouble.kind == kind


async def ask(url: str):
    client = Client(Endpoint.of(ServerSettings(base_url=url)))
    try:
        return await client.chat_completion(b"{}")
    finally:
        await client.close()


class SameBytes(ThreadedServer):
    """Answers every request with a head, and then with `part` again and again: `parts` times, or without end."""

    def __init__(self, head: bytes, part: bytes = b"", parts: int | None = 0, pause_s: float = 0.0) -> None:
        self.head, self.part, self.parts, self.pause_s = head, part, parts, pause_s
        super().__init__()

    async def serve(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(self.head)
        for _ in count() if self.parts is None else range(self.parts):
            writer.write(self.part)
            await writer.drain()
            await asyncio.sleep(self.pause_s)
        writer.close()


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b" " * 2**25)  # 32 MB


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        (ENDLESS, None),
        (ENDLESS.replace(b"200 OK", b"500 Error"), None),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(BOMB), BOMB), 0),
    ],
    ids=["endless", "endless error", "compressed"],
)
def test_a_reply_without_end_fails_alone(head, parts):
    with SameBytes(head, b"10000\r\n" + b" " * 2**16 + b"\r\n", parts) as stub:
        trouble = asyncio.run(ask(stub.url))
        assert isinstance(trouble, ApiFailure) and trouble.kind == "transient"
        assert "larger than 16 MB" in trouble.message
        assert "larger than 16 MB" in Client(Endpoint.of(ServerSettings(base_url=stub.url))).models()


def test_a_list_of_models_that_trickles_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("gemma_captioner.engines.openai.client._METADATA_TIMEOUT_S", 0.3)
    with SameBytes(ENDLESS, b"1\r\n \r\n", None, pause_s=0.05) as stub:
        assert Client(Endpoint.of(ServerSettings(base_url=stub.url))).models() == "the request timed out"


@pytest.mark.parametrize(("name", "value"), [("HTTP_PROXY", "nonsense://me:s3cret@there"), ("OPENAI_ORG_ID", "\u4e2d")])
def test_a_variable_that_the_client_cannot_use_is_told(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with StubServer() as stub, pytest.raises(ServerError, match=f"no request can be sent to .*{name}") as told:
        Client(Endpoint.of(ServerSettings(base_url=stub.url))).models()
    assert "s3cret" not in str(told.value)


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (HttpResponse(400, DEEP), "[["),
        (HttpResponse(body=b"data: " + DEEP), "not a chat completion"),
        (HttpResponse(308), "(308 Permanent Redirect)"),
        (HttpResponse(headers={"Content-Length": "-5"}), "not valid HTTP"),
    ],
    ids=["nested error", "nested stream", "redirect to nowhere", "negative length"],
)
def test_a_reply_that_breaks_the_rules_fails_alone(reply, says):
    with StubServer(lambda asked: reply) as stub:
        trouble = asyncio.run(ask(stub.url))
    assert isinstance(trouble, ApiFailure) and says in trouble.message


def test_a_redirect_to_what_is_no_url_is_told():
    with (
        StubServer(lambda asked: HttpResponse(301, headers={"Location": "http://[::bad"})) as stub,
        pytest.raises(ModelError, match=r"redirects to http://\[::bad \(301\)"),
    ):
        asyncio.run(ask(stub.url))


def test_nested_json_is_no_list_of_models_and_no_count():
    with StubServer(lambda asked: HttpResponse(body=DEEP)) as stub:
        stub.list = HttpResponse(body=DEEP)
        client = Client(Endpoint.of(ServerSettings(base_url=stub.url)))
        assert "it replied '[[" in client.models()
        assert client.native("/v1/models") is None
        assert client.count_prompt_tokens("m", [], 5) == NO_TOKEN_COUNT
        stub.rule = lambda asked: HttpResponse(body=b'{"usage": {"prompt_tokens": 1e999}}')
        assert client.count_prompt_tokens("m", [], 5) == NO_TOKEN_COUNT


# What is never told


def test_keys_and_credentials_reach_the_server_and_nothing_else(command, media, monkeypatch):
    run = ["caption", media, "--engine", "server", "--api-key-env", "MY_KEY", "--debug", "--existing", "overwrite"]
    with StubServer(says_a_caption) as stub:
        url = stub.url.replace("http://", f"http://me:{SECRET}@") + f"?key={SECRET}"
        first = command(*run, "--base-url", url)
        assert first.code == 0, first.err
        assert stub.asked[-1].headers["authorization"].startswith("Basic ")
        assert stub.asked[-1].path == f"/v1/chat/completions?key={SECRET}"
        stub.rule = lambda asked: HttpResponse(401, {"error": f"Incorrect key: {asked.headers['authorization']}"})
        monkeypatch.setenv("MY_KEY", SECRET)
        second = command(*run, "--base-url", stub.url)
    assert second.code == 1 and "refused the key in MY_KEY: Incorrect key: Bearer [key]" in second.err
    assert SECRET not in first.out + first.err + second.out + second.err
    for path in (p for p in media.rglob("*") if p.is_file()):
        assert SECRET.encode() not in path.read_bytes()


# The doctor


def sees(asked: HttpRequest) -> HttpResponse:
    return HttpResponse(body=completion(colors_in(asked).capitalize() + "."))


def run_doctor(command, *args: object) -> dict[str, tuple[str, str]]:
    """Finding -> (mark, meaning)."""
    done = command("doctor", *args)
    assert done.code == 0, done.err
    lines = [line.partition(": ") for line in done.out.splitlines()]
    return {what[3:]: (what[:2], meaning) for what, _, meaning in lines}


def test_the_doctor_says_what_is_there(command):
    with StubServer(sees, models=("org/m", "b"), answer_s=0.05) as stub:
        url = stub.url.replace("http://", "http://me:pw@")
        found = run_doctor(command, "--base-url", url, "--model", "org/m", "--image-size", 64)
        assert found.pop("speed")[0] == "ok" and stub.max_in_flight == 8
    assert found == {
        "models": ("ok", "org/m, b"),
        "tested": ("ok", f"org/m at {stub.url}"),
        "context": ("ok", "8,192 tokens"),
        "images": ("ok", "the model recognizes red"),
        "several images": ("ok", "the server accepts them; the model answered 'Red blue.'"),
        "server": ("--", "unknown: none of its endpoints reports a name"),
        "sound": (
            "--",
            "the server takes no sound (input_audio: it counts 0 tokens for 0.5 s of sound; "
            "audio_url: it counts 0 tokens for 0.5 s of sound): captions cannot describe it",
        ),
    }


@pytest.mark.parametrize(
    ("rule", "images", "several"),
    [
        (lambda asked: HttpResponse(body=completion("A red cat.")), "ok", "ok"),
        (lambda asked: HttpResponse(body=completion("It is blurred.")), "!!", "ok"),
        (lambda asked: few(asked, 1), "ok", "!!"),
        (lambda asked: HttpResponse(400, {"error": "m is not a multimodal model"}), "!!", "!!"),
    ],
)
def test_the_doctor_says_what_is_not(rule, images, several):
    with StubServer(rule) as stub:
        found = {f.what: f for f in diagnose_server({"base_url": stub.url, "image_size": 64})}
    marks = {"good": "ok", "bad": "!!"}
    assert (marks[found["images"].state], marks[found["several images"].state]) == (images, several)


@pytest.mark.long
def test_the_doctor_of_a_real_server(transformers_serve):
    here = {"base_url": transformers_serve, "model": str(DEMO_CHECKPOINT), "image_size": 64}
    found = {f.what: f for f in diagnose_server(here)}
    assert found["images"].state == "good", found["images"]
    assert found["several images"].state == "good", found["several images"]
    assert found["server"].meaning == "transformers serve"
    assert found["speed"].state == "good", found["speed"]


def test_the_doctor_of_no_server():
    [found] = diagnose_server({"base_url": "http://127.0.0.1:9/v1"})
    assert found.state == "bad" and "start the server" in found.meaning


# Against the local engine


def test_five_captions_of_a_real_server_are_those_of_the_local_engine(transformers_serve):  # all: test_real_servers.py
    asked = requests(5, seed=11)
    shown = (ContextPart(asked[0].prompt, "A red circle.", asked[0].frames), ContextPart("What is it?", "A star."))
    asked[0] = replace(asked[0], context=shown)
    with engine_for(Settings.from_dict({"model": "demo"})).open() as local:
        expected = {n: answer.text for n, answer in answers(local, asked).items()}
    with engine_for(demo_server_settings(transformers_serve, concurrency=4)).open() as served:
        got = {n: getattr(answer, "text", answer) for n, answer in answers(served, asked, timeout_s=200).items()}
    assert got == expected
    assert {len(a.frames.times_s) > 1 for a in asked} == {True, False}
    assert sum(text.startswith("A ") for text in got.values()) >= 3
