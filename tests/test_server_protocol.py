"""What is sent to a server, what its replies mean, how many requests are under way: pure."""

import json
import time
from email.utils import formatdate
from heapq import heappop, heappush
from pathlib import Path
from random import Random

import numpy as np
import openai
import pytest

from gemma_captioner.engines.openai import client
from gemma_captioner.engines.openai.concurrency import MAX_LIMIT, AdaptiveConcurrency
from gemma_captioner.engines.openai.errors import ApiFailure, classify_response, retry_after
from gemma_captioner.engines.openai.payload import EncodedMedia, RequestTemplate, request_body
from gemma_captioner.engines.openai.responses import Completion, parse_response
from gemma_captioner.redaction import known_secrets, redact_credentials
from gemma_captioner.types import ContextPart, Frames, MediaItem, Request

DUMMY_ITEM = MediaItem(Path("a.png"), "image", "a.png", Path("a.txt"), Path())


def sent(prompt="Say.", num_frames=1, form=None, left_out=(), places=None, shown=(), sound=None, **options):
    """The JSON of a request, its content as text with <n> for the frames."""
    frames = Frames(np.zeros((num_frames, 8, 8, 3), np.uint8), tuple(0.4 + 61.0 * n for n in range(num_frames)))
    request = Request(0, DUMMY_ITEM, frames, prompt, 8, **options)
    form = {"model": "m", "mime": "image/jpeg", "order": "media-first", "system": "", "time": None} | (form or {})
    media = [*shown, EncodedMedia([f"<{n}>".encode() for n in range(num_frames)], sound)]
    asked = json.loads(request_body(RequestTemplate(**form), request, media, places or range(num_frames), left_out))
    parts = asked.pop("messages")
    said = "|".join(
        part["text"]
        if part["type"] == "text"
        else part["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
        if part["type"] == "image_url"
        else json.dumps(part[part["type"]])
        for part in parts[-1]["content"]
    )
    return asked, said, parts[:-1]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "<0>|Say."),
        ({"num_frames": 3}, "<0>|<1>|<2>|Say."),
        ({"num_frames": 3, "places": [0, 2]}, "<0>|<2>|Say."),
        ({"num_frames": 2, "form": {"order": "text-first"}}, "Say.|<0>|<1>"),
        ({"num_frames": 2, "form": {"time": "[{}]"}}, "[00:00]|<0>|[01:01]|<1>|Say."),
        ({"num_frames": 2, "form": {"time": "{}"}, "places": [1]}, "<1>|Say."),
        ({"form": {"time": "{}"}}, "<0>|Say."),
        ({"prompt": "Look: <start_of_image> what?", "form": {"order": "text-first"}}, "Look: |<0>| what?"),
        (
            {"num_frames": 2, "form": {"sound": "input_audio"}, "sound": b"~"},
            '<0>|<1>|{"format": "wav", "data": "~"}|Say.',
        ),
        (
            {"form": {"sound": "audio_url", "order": "text-first"}, "sound": b"~"},
            'Say.|<0>|{"url": "data:audio/wav;base64,~"}',
        ),
        ({"sound": b"~"}, "<0>|Say."),
        ({"form": {"sound": "input_audio"}}, "<0>|Say."),
        ({"prompt": 'A "quoted"\nünïcode 🙂'}, '<0>|A "quoted"\nünïcode 🙂'),
    ],
)
def test_frames_and_text_are_in_their_order(asked, said):
    assert sent(**asked)[1] == said


def test_examples_are_turns():
    frames = Frames(np.zeros((1, 8, 8, 3), np.uint8), (0.0,))
    examples = (ContextPart("What?", "A cat.", frames), ContextPart("What?", "A dog."))
    _, said, before = sent("What?", context=examples, shown=[EncodedMedia([b"<cat>"]), EncodedMedia()])
    assert said == "<0>|What?"
    assert [message["role"] for message in before] == ["user", "assistant", "user", "assistant"]
    assert [len(message["content"]) for message in before[::2]] == [2, 1]
    assert before[0]["content"][0]["image_url"]["url"].endswith("<cat>")
    assert [message["content"] for message in before[1::2]] == ["A cat.", "A dog."]


def test_a_system_message_is_a_message_or_opens_the_first_prompt():
    shown = {"context": (ContextPart("What?", "A dog."),), "shown": [EncodedMedia()]}
    form = {"system": "Be brief."}
    _, said, before = sent(form=form, **shown)
    assert said == "<0>|Say." and before[0] == {"role": "system", "content": "Be brief."} and len(before) == 3
    _, said, before = sent(form=form | {"system_turn": False}, **shown)
    assert said == "<0>|Say." and [message["role"] for message in before] == ["user", "assistant"]
    assert before[0]["content"] == [{"type": "text", "text": "Be brief.\n\nWhat?"}]
    assert sent(form=form | {"system_turn": False})[1] == "<0>|Be brief.\n\nSay."


def test_labeled_media_is_in_the_last_message():
    frames = Frames(np.zeros((2, 8, 8, 3), np.uint8), (0.0, 1.0))
    context = (ContextPart("What?", "A cat."), ContextPart("Source clip:", frames=frames))
    asked = {
        "context": context,
        "label": "Edited clip:",
        "shown": [EncodedMedia(), EncodedMedia([b"<a>", b"<b>"])],
        "num_frames": 2,
    }
    for form, expected in (
        ({"time": "{}"}, "Source clip:|00:00|<a>|00:01|<b>|Edited clip:|00:00|<0>|01:01|<1>|What?"),
        ({"order": "text-first"}, "What?|Source clip:|<a>|<b>|Edited clip:|<0>|<1>"),
    ):
        _, said, before = sent("What?", form=form, **asked)
        assert said == expected and [message["role"] for message in before] == ["user", "assistant"]
    assert sent("See <start_of_image> now.", **asked)[1] == "See |Source clip:|<a>|<b>|Edited clip:|<0>|<1>| now."


def test_parameters():
    assert sent()[0] == {"model": "m", "max_tokens": 8, "temperature": 0.0}
    warm = sent(temperature=0.7, seed=2**32 - 1)[0]
    assert (warm["temperature"], warm["seed"]) == (0.7, 2**31 - 1)
    assert sent(left_out=["temperature"])[0] == {"model": "m", "max_tokens": 8}
    assert sent(left_out=["max_tokens"])[0] == {"model": "m", "temperature": 0.0, "max_completion_tokens": 8}
    assert sent(form={"system": "Be brief."})[2] == [{"role": "system", "content": "Be brief."}]


def reply(content="A cat.", finish_reason="stop", usage=True, **message):
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 5, "completion_tokens": 3} if usage is True else usage
    return json.dumps({"choices": [choice]} | ({"usage": usage} if usage else {}))


HARMONY = "<|channel|>analysis<|message|>"


def stream(*deltas, finish_reason="stop"):
    chunks = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks += [{"choices": [{"delta": {}, "finish_reason": finish_reason}]}]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (reply(), Completion("A cat.", "stop", 5, 3)),
        (reply(usage=False), Completion("A cat.", "stop", 0, 0)),
        (reply(finish_reason="length"), Completion("A cat.", "length", 5, 3)),
        (reply(finish_reason=None), Completion("A cat.", "stop", 5, 3)),
        (reply(content=""), Completion("", "stop", 5, 3)),
        (reply(content=None), Completion("", "stop", 5, 3)),
        (reply(reasoning_content="Let me see."), Completion("A cat.", "stop", 5, 3)),
        (reply("<think>Let me see.</think>A cat."), Completion("A cat.", "stop", 5, 3)),
        (reply("Let me see.</think>A cat."), Completion("A cat.", "stop", 5, 3)),
        (reply("<|channel>thought\nHm.<channel|>A cat."), Completion("A cat.", "stop", 5, 3)),
        (reply([{"type": "thinking"}, {"type": "text", "text": "A cat."}]), Completion("A cat.", "stop", 5, 3)),
        (reply("A cat.<end_of_turn>\n<start_of_turn>user", "length"), Completion("A cat.", "stop", 5, 3)),
        (reply(usage={"prompt_tokens": 1.5, "completion_tokens": "x"}), Completion("A cat.", "stop", 0, 0)),
        (reply(usage=[3]), Completion("A cat.", "stop", 0, 0)),
        (reply(finish_reason=0), Completion("A cat.", "stop", 5, 3)),
        (reply(finish_reason="MAX_TOKENS"), Completion("A cat.", "length", 5, 3)),
        (reply(["A ", {"text": "cat."}, {"type": "text", "text": None}]), Completion("A cat.", "stop", 5, 3)),
        (reply([{"type": "reasoning_text", "text": "Hm."}, {"type": "output_text", "text": "A cat."}]),
         Completion("A cat.", "stop", 5, 3)),
        (reply("<thinking>Let me see.</thinking>A cat."), Completion("A cat.", "stop", 5, 3)),
        (reply(f"{HARMONY}I look<|end|><|start|>assistant<|channel|>final<|message|>A cat.<|return|>"),
         Completion("A cat.", "stop", 5, 3)),
        (reply(refusal=None), Completion("A cat.", "stop", 5, 3)),
        (reply("A cat. \ud83d"), Completion("A cat. \ufffd", "stop", 5, 3)),  # JavaScript cuts an emoji in half
        (reply("A cat. \U0001f408"), Completion("A cat. \U0001f408", "stop", 5, 3)),
        (": ping\n\n" + stream({"content": "A cat."}), Completion("A cat.", "stop", 0, 0)),
        (stream({"reasoning": "Hm."}, {"content": "A "}, {"content": "cat."}), Completion("A cat.", "stop", 0, 0)),
        (stream({"content": "A "}, finish_reason="length"), Completion("A ", "length", 0, 0)),
    ],
)  # fmt: skip
def test_replies_are_read(text, answer):
    assert parse_response(text) == answer


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "transient"),
        ("<html>502</html>", "transient"),
        (reply()[:-9], "transient"),
        ("[]", "transient"),
        ('{"result": "a caption"}', "transient"),
        ('{"choices": []}', "transient"),
        ('{"choices": [{"text": "of another protocol"}]}', "transient"),
        ('{"choices": "none"}', "transient"),
        ('data: {"choices": [{"delta": {"content": "cut"}}]}\n\n', "transient"),
        ("data: nonsense\n\n", "transient"),
        (reply(finish_reason="error"), "transient"),
        ('{"error": {"message": "Provider returned error", "code": 502}}', "busy"),
        ('{"error": {"message": "No credits", "code": 402}}', "key"),
        (reply(finish_reason="content_filter"), "refused"),
        (reply("", "length", reasoning="Let me think of"), "refused"),
        (reply(f"<|start|>assistant{HARMONY}I look", "length"), "refused"),
        (reply(None, refusal="I will not."), "refused"),
        (reply("<think>Let me think of", "length"), "refused"),
    ],
)
def test_replies_that_are_no_answer(text, kind):
    trouble = parse_response(text)
    assert isinstance(trouble, ApiFailure) and trouble.kind == kind
    assert "\n" not in trouble.message
    assert "I will not." in trouble.message or "I will not." not in text


def test_a_blank_answer_is_not_taken_for_reasoning():
    assert parse_response(reply(" \n ")) == Completion(" \n ", "stop", 5, 3)


REFUSALS = [json.loads(line) for line in (Path(__file__).parent / "data" / "refusals.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("known", REFUSALS, ids=lambda known: f"{known['who']} {known['status']} {known['kind']}")
def test_refusals_in_the_servers_own_words(known):
    trouble = classify_response(known["status"], known["body"])
    assert (trouble.kind, trouble.parameter) == (known["kind"], known["parameter"])
    assert str(known["status"]) in trouble.message and "\n" not in trouble.message and "<" not in trouble.message


def test_retry_after_in_seconds_and_as_a_date():
    assert retry_after("2.5") == 2.5
    assert retry_after(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=2)
    assert retry_after("-3") == retry_after(formatdate(0, usegmt=True)) == 0
    assert retry_after("soon") is None and retry_after(None) is None
    assert classify_response(429, "", {"retry-after": "7"}).retry_after_s == 7


def test_every_error_of_the_client_is_known():
    """Those that a request can raise; each is an APIError."""
    import httpx2

    request = httpx2.Request("POST", "http://there/v1")
    record_overload = httpx2.Response(418, request=request, text="teapot")
    made = {
        openai.APIError: lambda c: c("m", request, body=None),
        openai.APIConnectionError: lambda c: c(request=request),
        openai.APITimeoutError: lambda c: c(request=request),
        openai.APIResponseValidationError: lambda c: c(record_overload, None),
        openai.OAuthError: lambda c: c(response=record_overload, body=None),
    }
    kinds = {openai.APIError}
    while (
        more := {sub for kind in kinds for sub in kind.__subclasses__() if sub.__module__.startswith("openai")} - kinds
    ):
        kinds |= more
    assert len(kinds) >= 12
    for kind in kinds:
        error = made.get(kind, lambda c: c("m", response=record_overload, body=None))(kind)
        assert isinstance(client.classify_error(error), ApiFailure)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://me:s3cret@host:8/v1", "https://host:8/v1"),
        ("see https://me:p@ss@host/v1?key=s3cret&x=1 there", "see https://host/v1 there"),
        ("vllm serve m --api-key s3cret --port 8", "vllm serve m --api-key [hidden] --port 8"),
        ("HF_TOKEN=hf_s3cret vllm serve m --max-tokens 5", "HF_TOKEN=[hidden] vllm serve m --max-tokens 5"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        (
            "non-default args: {'api_key': ['sk-1', 'sk-2'], 'port': 8}",
            "non-default args: {'api_key': [hidden], 'port': 8}",
        ),
        ('{"api_key": "sk-s3cret", "port": 8}', '{"api_key": [hidden], "port": 8}'),
        ('{"apiKey":"sk-s3\\"cret","port":8}', '{"apiKey":[hidden],"port":8}'),
        (r'"{\"api_key\": \"sk-s3cret\", \"port\": 8}"', r'"{\"api_key\": [hidden], \"port\": 8}"'),
        ("Args(api_key=('sk-s3cret',), token=s3cret, port=8)", "Args(api_key=[hidden], token=[hidden], port=8)"),
        ("Authorization: Bearer sk-s3cret\nnext", "Authorization: [hidden]\nnext"),
        ("curl -H 'authorization: basic c2VjcmV0' there", "curl -H 'authorization: [hidden]' there"),
        ("b'Bearer sk-s3cret' refused", "b'Bearer [hidden]' refused"),
        ("x-api-key: s3cret", "x-api-key: [hidden]"),
        ("AWS_SECRET_ACCESS_KEY=s3,cret aws", "AWS_SECRET_ACCESS_KEY=[hidden] aws"),
        ("serve --api-key=s3cret --hf-token 's3 cret' m", "serve --api-key=[hidden] --hf-token [hidden] m"),
        ("serve --api-key s3cret", "serve --api-key [hidden]"),
        ("refused hf_abcdefghijk", "refused [token]"),
        ("PGPASSWORD=hunter2 MYTOKEN=abc mytoken=abc a", "PGPASSWORD=[hidden] MYTOKEN=[hidden] mytoken=[hidden] a"),
        (
            "OPENAIKEY=sk-1 openaikey=sk-1 userpassword=abc",
            "OPENAIKEY=[hidden] openaikey=[hidden] userpassword=[hidden]",
        ),
        ("serve --hftoken abc --wandbkey abc m", "serve --hftoken [hidden] --wandbkey [hidden] m"),
        ("serve m --api-key \\\n   sk-verysecret", "serve m --api-key    [hidden]"),
        ("serve m --api-key k1 'k 2' \\\n  k3 --port 8", "serve m --api-key [hidden] --port 8"),
        ("serve m --api-key k1 k2; echo || true", "serve m --api-key [hidden]; echo || true"),
        (
            "serve m --api-key k1 k2 && echo; m --api-key k3 # no",
            "serve m --api-key [hidden] && echo; m --api-key [hidden] # no",
        ),
        ("token=abc, key='a b'", "token=[hidden], key=[hidden]"),
        ('{"token": "abc", "key" : "abc"}', '{"token": [hidden], "key" : [hidden]}'),
        ("api_key: abc password: abc", "api_key: [hidden] password: [hidden]"),
        ("Invalid API key: sk-1, or access token: abc", "Invalid API key: [hidden], or access token: [hidden]"),
        ("'api_key': ['sk-1', 'sk-2", "'api_key': [hidden]"),
        ('{"api_key": [\n  "sk-1",\n  "sk-2"\n]}', '{"api_key": [hidden]}'),
    ],
)
def test_credentials_are_taken_out(text, left):
    assert redact_credentials(text) == left
    assert redact_credentials(left) == left


@pytest.mark.parametrize(
    "text",
    [
        "a token limit of 4096",
        "the monkey ate it; monkey: 5, turkey=3",
        "max_tokens=5 max_model_len: 8, 'num_tokens': 7, pad_token_id=0",
        "serve --max-tokens 5 --api-key-file keys.txt --use-token --port 8",
        "KeyError: 'lm_head'",
        "a Bearer token is required: pass --api-key",
        "HF_TOKEN=\nnext line",
        "missing key: model.layers.0.weight in checkpoint",
        "unexpected key = 'foo bar'",
        "sort key: duration_s, Key : a, token: <pad>",
        "pad_token: <pad>, eosToken=1, image-token = <image>, boi_token='<start_of_image>'",
        '{"pad_token": 0, "stop_token": "<end>"}',
        "serve --pad-token x --stop-token y",
        pytest.param("key: " + ";" * 20_000, id="semicolons"),  # odd input that took seconds
        pytest.param("a_" * 30_000, id="one-long-word"),
        "hotkey=x, max_tokens=5, key=;",
    ],
)
def test_text_without_credentials_is_left(text):
    assert redact_credentials(text) == text


def test_known_secrets_are_taken_out_anywhere():
    command = "TOKEN=s3cret-token serve --api-key 's3cret-key' --key none"
    known = known_secrets(
        command, {"HF_TOKEN": "s3cret-hf", "HF_TOKEN_PATH": "/home/me/token", "KEYBOARD": "qwertzuiop"}
    )
    assert set(known) == {"s3cret-token", "s3cret-key", "s3cret-hf"}
    text = "got s3cret-token, s3cret-key and s3cret-hf; none at /home/me/token"
    assert redact_credentials(text, known) == "got [hidden], [hidden] and [hidden]; none at /home/me/token"

    assert known_secrets("serve m --api-key s3cret-one 's3cret two' \\\n s3cret-three --port 8", {}) == [
        "s3cret-one",
        "s3cret two",
        "s3cret-three",
    ]
    listed = """TOKEN=s3,cret-9 serve --config '{"api_key": ["s3cret-one", "s3cret-two"]}'"""
    assert set(known_secrets(listed, {})) == {"s3,cret-9", "s3cret-one", "s3cret-two"}


def test_known_secrets_of_the_environment():
    hidden = {"PGPASSWORD": "hunter2-pg", "MYTOKEN": "s3cret-my", "OPENAIKEY": "sk-openai"}
    ordinary = {
        "A_KEY": "localhost",
        "X_PASSWORD": "password",
        "SSH_KEY": "/home/me/.ssh",
        "MY_KEY": "~/keys/1",
        "B_TOKEN": "two Words",
        "PAD_TOKEN": "<pad-token>",
    }
    assert set(known_secrets("serve m", hidden | ordinary)) == set(hidden.values())


# How many at once


def simulated(answers: int, *, slots: int, answer_s: float = 1.0, too_many: int | None = None, seed: int = 1):
    """A server with so many slots, others wait; beyond `too_many` it refuses. The limits that were in force."""
    rng, concurrency, now, limits = Random(seed), AdaptiveConcurrency(), 0.0, []
    under_way: list[tuple[float, float, bool]] = []  # (ends, asked, whether it is refused)
    busy_until = [0.0] * slots
    while len(limits) < answers:
        while len(under_way) < concurrency.limit:
            if too_many is not None and len(under_way) >= too_many:
                heappush(under_way, (now + 0.05, now, True))
                continue
            slot = min(range(slots), key=busy_until.__getitem__)
            busy_until[slot] = max(now, busy_until[slot]) + answer_s * rng.uniform(0.7, 1.3)
            heappush(under_way, (busy_until[slot], now, False))
        now, asked, is_refused = heappop(under_way)
        if is_refused:
            concurrency.record_overload(asked, now)
        else:
            limits.append(concurrency.limit)
            concurrency.record_success(now)
    return limits


@pytest.mark.parametrize(
    ("server", "least", "most"),
    [
        ({"slots": 1}, 1, 8),  # Ollama as it is: no more than what keeps it busy, and START is 4
        ({"slots": 8}, 7, 16),
        ({"slots": 64}, 48, 128),
        ({"slots": 1000}, 100, MAX_LIMIT),
        ({"slots": 1000, "too_many": 10}, 5, 13),
        ({"slots": 1000, "too_many": 1}, 1, 3),
    ],
)
def test_the_right_number_is_found(server, least, most):
    limits = simulated(4000, **server)[2000:]
    assert least <= sum(limits) / len(limits) <= most
    assert min(limits) >= 1 and max(limits) <= MAX_LIMIT


def test_a_number_that_was_given_stays():
    concurrency = AdaptiveConcurrency(7)
    for n in range(100):
        concurrency.record_overload(n, n)
        concurrency.record_success(n)
    assert concurrency.limit == 7


def test_refusals_of_what_was_asked_before_count_once():
    concurrency = AdaptiveConcurrency()
    for _ in range(4):
        concurrency.record_overload(sent_s=1.0, now_s=2.0)
    assert concurrency.limit == 2
    concurrency.record_overload(sent_s=3.0, now_s=4.0)
    assert concurrency.limit == 1
