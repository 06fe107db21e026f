"""Sound through a server: in which form it is sent, what a server that takes none does to a run."""

import base64
import io
import json
import wave
from dataclasses import replace

import numpy as np
import pytest

from gemma_captioner.config.settings import Settings
from gemma_captioner.doctor.server import diagnose_server
from gemma_captioner.engines import engine_for
from gemma_captioner.errors import ModelError
from gemma_captioner.types import Audio, ContextPart, Reply
from tests.support.engines import answers, request
from tests.support.servers import HttpRequest, HttpResponse, StubServer, completion
from tests.support.sound import bursts, write_clip

SOUND = Audio(bursts(0.5, [0.1], 16_000))
FORMS = ("input_audio", "audio_url")


def parts_of(asked: HttpRequest) -> list[dict]:
    messages = [m["content"] for m in asked.json["messages"] if m["role"] == "user"]
    return [part for content in messages for part in content]


def hears(*forms: str, tokens: int = 14, refusal: HttpResponse | None = None):
    """A server that takes these forms of sound, and refuses or ignores the others."""

    def rule(asked: HttpRequest) -> HttpResponse:
        kinds = [part["type"] for part in parts_of(asked)]
        if refusal is not None and any(kind in FORMS and kind not in forms for kind in kinds):
            return refusal
        heard = sum(kind in forms for kind in kinds)
        return HttpResponse(body=completion(f"Heard {heard}.") | {"usage": {"prompt_tokens": 9 + tokens * heard}})

    return rule


def session(url: str, told: list[str], **settings):
    here = {"engine": "server", "base_url": url, "image_size": 64, "for": "ltx:ltx2"}
    return engine_for(Settings.from_dict(here, settings), told.append).open()


def heard(asked: HttpRequest) -> list[np.ndarray]:
    """The samples of each sound in a request."""
    found = []
    for part in parts_of(asked):
        data = None
        if part["type"] == "input_audio":
            assert part["input_audio"]["format"] == "wav"
            data = part["input_audio"]["data"]
        elif part["type"] == "audio_url":
            kind, _, data = part["audio_url"]["url"].partition(",")
            assert kind == "data:audio/wav;base64"
        if data is not None:
            with wave.open(io.BytesIO(base64.b64decode(data))) as file:
                assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
                found.append(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767)
    return found


REFUSED = HttpResponse(400, {"error": {"message": "Unknown part type"}})


@pytest.mark.parametrize(("rule", "form"), [
    (hears(*FORMS), "input_audio"),
    (hears("audio_url", refusal=REFUSED), "audio_url"),
    (hears("audio_url"), "audio_url"),
    (hears("input_audio", tokens=190), "input_audio"),  # Gemma 3n
])  # fmt: skip
def test_the_form_is_learnt_once_and_the_sound_arrives(rule, form):
    told: list[str] = []
    with StubServer(rule) as stub, session(stub.url, told) as opened:
        probes = len(stub.asked)
        asked = [request(n, 3) for n in range(4)]
        example = ContextPart("What?", "A cat.", replace(asked[0].frames, audio=SOUND))
        asked = [
            replace(one, frames=replace(one.frames, audio=SOUND if n % 2 else None)) for n, one in enumerate(asked)
        ]
        asked[0] = replace(asked[0], context=(example,))
        got = answers(opened, asked)
        arrived = stub.asked[probes:]
    assert [got[n].text for n in range(4)] == [f"Heard {n}." for n in (1, 1, 0, 1)]
    assert all(isinstance(reply, Reply) and reply.flags == () for reply in got.values())
    sounds = [sound for one in arrived for sound in heard(one)]
    assert len(sounds) == 3 and all(np.abs(sound - SOUND.samples).max() < 1e-4 for sound in sounds)
    for one in arrived:
        kinds = [part["type"] for part in one.json["messages"][-1]["content"]]
        assert kinds == ["image_url"] * 3 + [form] * bool(heard(replace_last(one))) + ["text"]
    assert told == [f"the server takes sound as `{form}`"] and probes <= 3


def replace_last(asked: HttpRequest) -> HttpRequest:
    """The request with its last message alone."""
    body = asked.json | {"messages": asked.json["messages"][-1:]}
    return HttpRequest(asked.method, asked.path, asked.headers, json.dumps(body).encode())


@pytest.mark.parametrize(("rule", "why"), [
    (hears(), "counts 0 tokens for 0.5 s"),  # it ignores them
    (hears(refusal=REFUSED), "Unknown part type"),
    (hears(refusal=HttpResponse(400, {"error": "At most 0 audio(s) may be provided in one prompt."})), "At most 0"),
    (hears(refusal=HttpResponse(500, {"error": "image input is not supported - hint: mmproj"})), "mmproj"),
    (hears(*FORMS, tokens=9000), "counts 9000 tokens"),  # it reads base64 as text
])  # fmt: skip
def test_a_server_that_takes_no_sound_gets_none(rule, why):
    told: list[str] = []
    with StubServer(rule) as stub:
        with session(stub.url, told) as opened:
            probes = len(stub.asked)
            asked = replace(request(1, 2), frames=replace(request(1, 2).frames, audio=SOUND))
            reply = answers(opened, [asked])[1]
            assert reply.flags == ("no_audio",) and not any(map(heard, stub.asked[probes:]))
        assert len(told) == 1 and why in told[0] and "captioned without it" in told[0]
        with pytest.raises(ModelError, match=r"takes no sound .*or omit --audio on"):
            session(stub.url, told, audio="on")
        asked_before = len(stub.asked)
        session(stub.url, told, audio="off").close()
        assert len(stub.asked) == asked_before


def test_a_server_that_is_busy_for_a_moment_is_asked_again():
    told: list[str] = []
    replies = iter([HttpResponse(503, {"error": "Loading model"}), HttpResponse(429, {"error": "slow down"})])
    hearing = hears(*FORMS)
    with StubServer(lambda asked: (heard(asked) and next(replies, None)) or hearing(asked)) as stub:
        session(stub.url, told).close()
    assert told == ["the server takes sound as `input_audio`"] and next(replies, None) is None


def test_a_server_that_counts_no_tokens_takes_what_it_does_not_refuse():
    told: list[str] = []
    with StubServer(lambda asked: HttpResponse(body=completion("A cat.") | {"usage": None})) as stub:
        session(stub.url, told).close()
    assert told == ["the server takes sound as `input_audio`"]


@pytest.mark.parametrize(("model", "most"), [
    ("google/gemma-3-27b-it", 0), ("gemma3:12b", 0), ("google/gemma-3n-E4B-it", 30), ("google/gemma-4-E4B-it", 30),
    ("gemma-4-26B-A4B-it", 0), ("gemma-4-31b", 0), ("google/gemma-4-12B-it", 30), ("Qwen3-Omni", 30),
])  # fmt: skip
def test_models_that_are_known_to_take_no_sound(model, most):
    with StubServer(models=(model,)) as stub:
        settings = Settings.from_dict({"engine": "server", "base_url": stub.url})
        assert engine_for(settings).spec.max_audio_s == most


def test_a_run_sends_the_sound_of_its_clips(command, tmp_path):
    write_clip(tmp_path / "clips.mp4", range(48), [("aac", 48_000, bursts(2, [1.5]))])
    with StubServer(hears("input_audio")) as stub:
        done = command("caption", tmp_path / "clips.mp4", "--base-url", stub.url, "--engine", "server", "--frames", 2,
                       "--for", "ltx:ltx2", "--image-size", 64)  # fmt: skip
        [sound] = heard(stub.asked[-1])
    assert done.code == 0 and (tmp_path / "clips.txt").read_text() == "Heard 1.", done.err
    assert "sound: sent with each clip" in done.err and "takes sound as `input_audio`" in done.err
    assert len(sound) == 32_000 and np.argmax(np.abs(sound)) / 16_000 == pytest.approx(1.515, abs=0.02)


def test_the_doctor_tries_a_tone():
    with StubServer(hears("input_audio")) as stub:
        found = {f.what: f for f in diagnose_server({"base_url": stub.url, "image_size": 64})}["sound"]
        assert (
            found.state == "good"
            and "takes sound as `input_audio`; of a tone of 440 Hz, the model says" in found.meaning
        )
        found = {f.what: f for f in diagnose_server({"base_url": stub.url, "image_size": 64, "model": "gemma-3-4b"})}
    assert found["sound"].state == "note" and "gemma-3-4b takes none" in found["sound"].meaning
