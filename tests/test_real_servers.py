"""Real servers with the demo and tiny Gemma 4s, compared with the local engine. See tests/support/real_servers.py."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from gemma_captioner import Captioned, Failed, caption
from gemma_captioner.config.settings import Settings
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.doctor.server import diagnose_server
from gemma_captioner.engines import engine_for
from gemma_captioner.errors import ModelError, ServerError
from gemma_captioner.pipeline.dry_run import dry_run
from gemma_captioner.text import format_timestamp
from gemma_captioner.types import ContextPart, Frames, Reply, Request
from tests.support import gemma4
from tests.support.engines import answers, request, requests
from tests.support.files import captions
from tests.support.real_servers import (
    CHECKPOINT,
    CONTEXT,
    REAL_SERVERS,
    VLLM_VARIABLES,
    LlamaServer,
    RealServer,
    free_port,
    less_sure,
    serving,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.prove, pytest.mark.timeout(3600)]
BEGIN = "A"


def settings_for(server: RealServer, url: str | None, checkpoint: Path = CHECKPOINT, **more) -> dict:
    here = {"engine": "server", "base_url": url, "model": server.model(checkpoint), "image_size": 64}
    return {**here, "image_format": "png", "workers": 1, **more}


def session(server: RealServer, url: str, checkpoint: Path = CHECKPOINT, **more):
    return engine_for(Settings.from_dict(settings_for(server, url, checkpoint, **more))).open()


@cache
def fifty_items(order: str) -> tuple[list, dict[int, str]]:
    """Images and clips, each fifth after two examples, and the local engine's answers."""
    asked = requests(50, seed=11 if order == "media-first" else 12)
    shown = (ContextPart(asked[0].prompt, "A red circle.", asked[0].frames), ContextPart("What is it?", "A star."))
    asked = [replace(a, context=shown) if n % 5 == 0 else a for n, a in enumerate(asked)]
    with engine_for(Settings.from_dict({"model": str(CHECKPOINT), "order": order})).open() as opened:
        return asked, texts(answers(opened, asked, timeout_s=1200))


def texts(got: dict) -> dict[int, str]:
    return {number: getattr(answer, "text", answer) for number, answer in got.items()}


@pytest.fixture(scope="module", params=REAL_SERVERS)
def server(request) -> RealServer:
    return REAL_SERVERS[request.param]


@pytest.fixture(scope="module")
def url(server: RealServer) -> Iterator[str]:
    with serving(server.command(CHECKPOINT)) as url:
        yield url


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A folder of 24 images and 6 clips."""
    folder = tmp_path_factory.mktemp("many") / "media"
    draw_samples(folder, images=24, clips=6, seed=3)
    return folder


# What it says


@pytest.mark.parametrize("order", ["media-first", "text-first"])
def test_it_says_what_the_local_engine_says(server, url, order):
    asked, expected = fifty_items(order)  # 100 with both orders
    with session(server, url, order=order) as served:
        got = texts(answers(served, asked, timeout_s=1200))
    compared = [n for n in got if server.looks_both_ways or not asked[n].context]
    differing = {n: (got[n], expected[n]) for n in compared if got[n] != expected[n]}
    assert not differing
    assert sum(text.startswith("A ") for text in got.values()) > 25  # captions, whatever the prompt was


FEATURES = {
    "as it is": {},
    "timestamps": {"timestamps": True},
    "system": {"system": "Be brief."},
    "two prompts": {"prompt": ("Describe this.", "What is it?")},
    "examples": {"examples": True},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_run_writes_what_a_local_run_writes(server, url, media, tmp_path, feature):
    more = dict(FEATURES[feature])
    if "examples" in more:
        draw_samples(shown := tmp_path / "shown", images=2, clips=1, seed=21)
        for file in list(shown.iterdir()):
            file.with_suffix(".txt").write_text("A red star on a white background.")
        more["examples"] = shown
    written = []
    for name, here in (("local", {"model": str(CHECKPOINT)}), ("served", settings_for(server, url))):
        outcomes = list(caption(media, output=tmp_path / name, **(here | more)))
        assert all(isinstance(outcome, Captioned) for outcome in outcomes), outcomes
        written.append({outcome.item.name: outcome.captions for outcome in outcomes})
    assert len(written[0]) == len(written[1]) == 8
    assert written[0] == written[1] or (feature == "examples" and not server.looks_both_ways)


def test_an_answer_is_begun(server, url, media, tmp_path):
    if not server.continues:
        with pytest.raises(ModelError, match="remove --begin"):
            session(server, url, begin=BEGIN)
        return
    written = []
    for name, here in (("local", {"model": str(CHECKPOINT)}), ("served", settings_for(server, url))):
        list(caption(media, output=tmp_path / name, begin=BEGIN, **here))
        written.append(captions(tmp_path / name))
    assert written[0] == written[1] and all(text.startswith(BEGIN) for text in written[0].values())


def test_its_doctor_knows_it(server, url):
    found = {f.what: f for f in diagnose_server(settings_for(server, url))}
    print(found["server"].meaning, found["context"].meaning, found["speed"].meaning)
    assert found["server"].meaning.startswith(server.name)
    assert found["images"].state == found["several images"].state == found["speed"].state == "good", found
    if server.refuses_overflow:
        assert found["context"].meaning == f"{CONTEXT:,} tokens"


# Gemma 4


@pytest.fixture(scope="module", params=["E4B", "31B"])
def gemma4_checkpoint(request, tmp_path_factory) -> Path:
    return gemma4.write_served(tmp_path_factory.mktemp("gemma4"), request.param)


@pytest.fixture(scope="module")
def gemma4_url(server: RealServer, gemma4_checkpoint: Path) -> Iterator[str]:
    if not server.says_any_text:
        pytest.skip(f"{server.name} answers with an error where random weights say broken characters")
    with serving(server.command(gemma4_checkpoint, context=4096)) as url:
        yield url


def ten_items() -> list[Request]:
    """Images and clips of 1 to 3 frames, as large as Gemma 4 reads them."""
    made = []
    for number, asked in enumerate(requests(10, seed=5, most_frames=3, new_tokens=8)):
        size = [(1056, 576), (768, 768), (672, 912)][number % 3]
        frames = [Image.fromarray(frame).resize(size, Image.Resampling.NEAREST) for frame in asked.frames.pixels]
        made.append(replace(asked, frames=replace(asked.frames, pixels=np.stack(list(map(np.asarray, frames))))))
    return made


def as_images(asked: Request) -> Request:
    """A clip as a server sees it: images, each after its time. The local engine writes a space between the two."""
    *earlier, last = [Frames(pixels[None], (0.0,)) for pixels in asked.frames.pixels]
    if not earlier:
        return asked
    *times, last_time = map(format_timestamp, asked.frames.times_s)
    context = tuple(ContextPart(time, frames=shown) for time, shown in zip(times, earlier, strict=True))
    return replace(asked, context=context, label=last_time, frames=last)


def words(got: dict) -> dict[int, str]:
    """The texts, without what each server treats in its own way: special tokens; spaces, torn bytes at the ends."""
    return {
        number: re.sub(r"<\|?\w*\|?>", "", text).strip().strip("\ufffd").strip() for number, text in texts(got).items()
    }


@pytest.mark.parametrize("feature", ["as it is", "timestamps", "system"])
def test_gemma_4_says_what_the_local_engine_says(server, gemma4_checkpoint, gemma4_url, feature, tmp_path):
    options, asked = FEATURES[feature], ten_items()
    here = settings_for(server, gemma4_url, gemma4_checkpoint, image_size=None, **options)
    with engine_for(Settings.from_dict(here)).open() as served:
        got = words(answers(served, asked, timeout_s=1200))
    checkpoint = gemma4_checkpoint if server.looks_both_ways else gemma4.causal(gemma4_checkpoint, tmp_path / "causal")
    there = {"model": str(checkpoint), "image_tokens": 280, "dtype": "fp32"}
    if "system" in options:  # these servers break it, so it opens the prompt
        asked = [replace(one, prompt=f"{options['system']}\n\n{one.prompt}") for one in asked]
    else:
        there |= options
    with engine_for(Settings.from_dict(there)).open() as local:
        expected = words(answers(local, [as_images(one) for one in asked], timeout_s=1200))
    assert len(set(expected.values())) == 10
    differing = {n: (got[n], expected[n]) for n in expected if got[n] != expected[n]}
    assert len(differing) <= (0 if server.looks_both_ways else 1), differing  # vLLM's own attention on a CPU


# What it refuses


def test_a_context_that_is_too_small(server, media):
    if not server.refuses_overflow:
        pytest.skip(f"{server.name} computes any prompt")
    with serving(server.command(CHECKPOINT, context=256)) as url:
        here = settings_for(server, url, max_new_tokens=32)
        warnings = dry_run([media], Settings.from_dict(here)).notes
        assert any(w.startswith("3 clips") and "the context has 256" in w for w in warnings)
        outcomes = {o.item.kind: [] for o in ()} | {"image": [], "clip": []}
        for outcome in caption(media, **here):
            outcomes[outcome.item.kind].append(outcome)
        assert all(isinstance(o, Captioned) for o in outcomes["image"])
        assert all(isinstance(o, Failed) and "--shrink" in o.error for o in outcomes["clip"])
        shrunk = list(caption(media, shrink=True, **here))
        clips = [o for o in shrunk if o.item.kind == "clip"]
        assert len(clips) == 3 and all(isinstance(o, Captioned) and "fewer_frames" in o.flags for o in clips)


def test_a_limit_of_images(server, media):
    if not server.has_image_limit:
        pytest.skip(f"{server.name} has none")
    with serving(server.command(CHECKPOINT, images=4)) as url:
        failed = [o for o in caption(media, **settings_for(server, url)) if isinstance(o, Failed)]
        assert len(failed) == 3 and all("--shrink" in o.error for o in failed)
        assert all(isinstance(o, Captioned) for o in caption(media, shrink=True, **settings_for(server, url))
                   if o.item.kind == "clip")  # fmt: skip


def test_keys(server, monkeypatch):
    if not server.has_keys:
        pytest.skip(f"{server.name} has none")
    with serving(server.command(CHECKPOINT, key="s3cret")) as url:
        for key, says in (("", "requires an API key"), ("wrong", "refused the key in MY_KEY")):
            monkeypatch.setenv("MY_KEY", key)
            with pytest.raises(ServerError, match=says):
                answers(session(server, url, api_key_env="MY_KEY"), [request(1)])
        monkeypatch.setenv("MY_KEY", "s3cret")
        with session(server, url, api_key_env="MY_KEY") as opened:
            assert isinstance(answers(opened, [request(1)])[1], Reply)


def test_llama_cpp_without_its_projector_ends_the_run(media):
    server = REAL_SERVERS["llama.cpp"]
    assert isinstance(server, LlamaServer)
    with serving(server.command(CHECKPOINT, projector=False)) as url, pytest.raises(ServerError, match="--mmproj"):
        list(caption(media, **settings_for(server, url)))


def test_seeds(server, tmp_path):
    """A model that is less sure of itself: the same seed says the same, another seed something else."""
    if not server.seeds:
        pytest.skip(f"{server.name} does not promise it")
    checkpoint = less_sure(CHECKPOINT, tmp_path / "less-sure")
    asked = [request(n, temperature=1.0, seed=5, max_new_tokens=16) for n in range(8)]
    with (
        serving(server.command(checkpoint)) as url,
        session(server, url, checkpoint, concurrency=1) as opened,
    ):
        turns = []
        for turn, seed in enumerate((5, 5, 6)):
            got = texts(answers(opened, [replace(a, id=a.id + 100 * turn, seed=seed) for a in asked], timeout_s=600))
            turns.append([got[number] for number in sorted(got)])  # the answers come in any order
    same, again, other = turns
    assert same == again
    assert sum(a != b for a, b in zip(same, other, strict=True)) >= 6


# How it ends


def processes_of(port: int) -> list[psutil.Process]:
    """The processes of a server; a port is in their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(port) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["Ctrl-C", "SIGTERM", "kill -9"],
)
def test_it_ends_with_the_run_that_started_it(server, fork_server, many, tmp_path, number, code):
    port = free_port()
    words = ["caption", str(many), "--output", str(tmp_path / "out"), "--engine", "server", "--image-size", "64"]
    words += ["--serve", server.command(CHECKPOINT).replace("{port}", str(port)), "--concurrency", "1"]
    words += ["--base-url", f"http://127.0.0.1:{port}/v1", "--model", server.model(CHECKPOINT)]
    with fork_server.start(words, tmp_path) as running:
        wait_until(lambda: running.poll() is not None or ((tmp_path / "out").exists() and captions(tmp_path / "out")))
        assert running.poll() is None, running.err
        assert processes_of(port)
        running.send_signal(number)
        assert running.wait(60).code == code
    wait_until(lambda: not processes_of(port), 60)
    assert 0 < len(captions(tmp_path / "out")) < 30


def test_a_server_that_is_killed_is_waited_for(server, many, tmp_path):
    port, command = free_port(), server.command(CHECKPOINT)
    with serving(command, port) as url:
        here = settings_for(server, url, wait_for_server="10m", concurrency=2)
        outcomes = []

        def run() -> None:
            outcomes.extend(caption(many, output=tmp_path / "served", **here))

        running = threading.Thread(target=run)
        running.start()
        wait_until(lambda: (tmp_path / "served").exists() and len(captions(tmp_path / "served")) >= 5)
        for process in processes_of(port):
            for child in [*process.children(recursive=True), process]:
                child.kill()
        wait_until(lambda: not processes_of(port))
        assert len(captions(tmp_path / "served")) < 30
        with serving(command, port):
            running.join(1200)
    list(caption(many, output=tmp_path / "local", model=str(CHECKPOINT)))
    assert len(outcomes) == 30 and all(isinstance(outcome, Captioned) for outcome in outcomes)
    assert captions(tmp_path / "served") == captions(tmp_path / "local")


def test_engine_vllm_starts_it(media, tmp_path, monkeypatch):
    REAL_SERVERS["vLLM"].command(CHECKPOINT)  # skips without vLLM
    script = tmp_path / "bin" / "vllm"
    script.parent.mkdir()
    command = f'{os.environ["GEMMA_CAPTIONER_VLLM"]} "$@" --dtype float32 --enforce-eager'
    script.write_text(f"#!/bin/sh\n{VLLM_VARIABLES} exec {command}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    here = {"engine": "vllm", "model": str(CHECKPOINT), "image_size": 64, "image_format": "png"}
    served = list(caption(media, output=tmp_path / "served", **here))
    local = list(caption(media, output=tmp_path / "local", model=str(CHECKPOINT)))
    assert [o.captions for o in served if isinstance(o, Captioned)] and len(served) == len(local) == 8
    assert captions(tmp_path / "served") == captions(tmp_path / "local")
