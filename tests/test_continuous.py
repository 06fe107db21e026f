"""Continuous batching: who runs beside whom, what is wasted, and that no answer depends on it."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local import attention
from gemma_captioner.engines.local.continuous import ContinuousBatch, PendingRequest
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.sampler import Answer, Sampler, StopTokens
from gemma_captioner.types import Reply, Request
from tests.support.engines import answers, request, requests


def open_session(**settings: Any) -> Any:
    return LocalEngine(Settings.from_dict({"model": "demo", "dtype": "fp32", **settings})).open()


def of_many_lengths(session: Any, monkeypatch: Any, *, longest: int) -> list[Request]:
    """32 requests of 8 to `longest` tokens. Nothing but the limit ends them, and nobody knows the limit before."""
    session._stops = StopTokens(frozenset())
    monkeypatch.setattr(PendingRequest, "max_total_tokens", property(lambda self: len(self.tokens) + longest))
    rng = Random(5)
    return [request(n, max_new_tokens=round(8 * (longest / 8) ** rng.random())) for n in range(32)]


def watch(session: Any) -> list[ContinuousBatch]:
    """Return the batches that the session will make."""
    batches: list[ContinuousBatch] = []
    make = session._batch_for

    def batch_for(*args: Any) -> ContinuousBatch:
        batch = make(*args)
        if batch not in batches:
            batches.append(batch)
        return batch

    session._batch_for = batch_for
    return batches


@pytest.mark.parametrize("constant_shapes", [False, True])
def test_answers_of_many_lengths_waste_few_steps_and_say_what_they_say_alone(monkeypatch, constant_shapes):
    row_steps: list[int] = []
    read = ContinuousBatch._read

    def read_and_count(batch: ContinuousBatch) -> None:
        row_steps.append(len(batch._unread) * batch._active)
        read(batch)

    monkeypatch.setattr(ContinuousBatch, "_read", read_and_count)
    with open_session(batch_size=8) as session:
        session._limits = session._planned = replace(session._planned, constant_shapes=constant_shapes)
        asked, batches = of_many_lengths(session, monkeypatch, longest=48), watch(session)
        got = answers(session, asked)
        assert len(batches) == 1  # one KV cache holds them all
        assert [got[n].new_tokens for n in range(32)] == [r.max_new_tokens for r in asked]
        wasted = sum(row_steps) - sum(r.max_new_tokens - 1 for r in asked)  # of rows that are free or have ended
        assert 0 <= wasted < 0.1 * sum(row_steps)
    with open_session(batch_size=1) as session:
        alone = answers(session, of_many_lengths(session, monkeypatch, longest=48)[:8])
    assert {n: got[n].text for n in alone} == {n: reply.text for n, reply in alone.items()}


def test_a_request_that_suits_no_row_waits_for_two_full_batches_at_most(monkeypatch):
    with open_session(batch_size=4) as session:
        session._limits = session._planned = replace(session._planned, constant_shapes=True)
        images = [request(n, max_new_tokens=8) for n in range(40)]
        clip = request(99, num_frames=12, max_new_tokens=8)
        with session._request_added:
            for one in (images[0], clip, *images[1:]):
                session.submit(one)
        order = []
        while len(order) < 41:
            order += [reply.request_id for reply in session.poll(1)]
        assert order.index(99) <= 2 * 4 + 4  # two full batches, and what ran beside them


def test_out_of_memory_in_a_step_evicts_the_youngest_and_asks_them_again():
    asked = requests(12, seed=4, most_frames=2)
    with open_session(batch_size=8) as session:
        expected = answers(session, asked)
    with open_session(batch_size=8) as session:
        steps = []

        def shortage(module, args, inputs):
            rows, columns = inputs["inputs_embeds"].shape[:2]
            steps.append(rows if columns == 1 else 0)
            if columns == 1 and rows > 3 and len(steps) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")

        session.model.model.language_model.register_forward_pre_hook(shortage, with_kwargs=True)
        got = answers(session, asked)
        assert max(steps) > 3
    assert {n: reply.text for n, reply in got.items()} == {n: reply.text for n, reply in expected.items()}


def test_eviction_makes_steps_smaller_where_shapes_are_constant():
    with open_session(batch_size=8) as session:
        session._limits = session._planned = replace(session._planned, constant_shapes=True)
        asked, steps = [request(n, max_new_tokens=12) for n in range(12)], []

        def shortage(module, args, inputs):
            rows, columns = inputs["inputs_embeds"].shape[:2]
            if columns == 1:
                steps.append(rows)
                if rows > 4:
                    raise torch.OutOfMemoryError("CUDA out of memory")

        session.model.model.language_model.register_forward_pre_hook(shortage, with_kwargs=True)
        with session._request_added:
            for one in asked:
                session.submit(one)
        got = {}
        while len(got) < 12:
            got |= {reply.request_id: reply for reply in session.poll(1)}
        assert all(isinstance(reply, Reply) for reply in got.values())
        assert sum(rows > 4 for rows in steps) <= 3 and session._limits.rows >= 4


def test_out_of_memory_in_the_sampler_changes_no_answer(monkeypatch):
    """The step runs again, and a prompt is read again: neither counts twice."""
    asked = [request(n, max_new_tokens=12) for n in range(6)]
    with open_session(batch_size=4) as session:
        expected = answers(session, asked)
    sample, calls = Sampler.__call__, []

    def short(self, logits, rows):
        calls.append(len(rows))
        if len(calls) in (1, 5, 9):  # the first is of a prefill
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, logits, rows)

    monkeypatch.setattr(Sampler, "__call__", short)
    with open_session(batch_size=4) as session:
        got = answers(session, asked)
    assert {n: reply.text for n, reply in got.items()} == {n: reply.text for n, reply in expected.items()}


def test_attention_in_chunks_says_what_dense_attention_says(monkeypatch):
    asked = requests(16, seed=6)
    with open_session(batch_size=5) as session:
        session.model.set_attn_implementation({"text_config": "sdpa"})
        expected = answers(session, asked)
    monkeypatch.setattr(attention, "QUERY_CHUNK", 16)
    with open_session(batch_size=5) as session:
        got = answers(session, asked)
    assert all(isinstance(reply, Reply) for reply in got.values())
    assert {n: reply.text for n, reply in got.items()} == {n: reply.text for n, reply in expected.items()}


@pytest.mark.parametrize(
    ("tokens", "limit", "kept", "reason"),
    [
        ([5, 6, 1, 0], 9, [5, 6, 1], "stop"),
        ([5, 6, 7], 3, [5, 6, 7], "length"),
        ([5, 6, 1], 3, [5, 6, 1], "stop"),
        ([2, 3, 2, 5, 2, 5], 9, [2, 3, 2, 5, 2], "stop"),  # line breaks before the text do not end it
        ([5, 6], 9, [5, 6], None),
    ],
)
def test_where_an_answer_ends(tokens, limit, kept, reason):
    answer = Answer(StopTokens(eos=frozenset({1}), newlines=frozenset({2}), blanks=frozenset({2, 3})), limit)
    for token in tokens:
        answer.add(token)
    assert (answer.tokens, answer.finish_reason) == (kept, reason)


def test_frames_encoded_ahead_give_the_same_answers(monkeypatch):
    """As on CUDA, where this runs beside the decode steps. Each frame is encoded once, most of them ahead."""
    ahead, encoded = [], []
    for encodes_ahead in (False, True):
        with open_session(batch_size=8) as session:
            session.media.encodes_ahead = encodes_ahead
            encode = session.vision.encode

            def count(clips: Any, *, beside: bool = False, encode: Any = encode) -> Any:
                encoded.append(len(clips))
                ahead.append(len(clips) * beside)
                return encode(clips, beside=beside)

            monkeypatch.setattr(session.vision, "encode", count)
            got = answers(session, of_many_lengths(session, monkeypatch, longest=48))
        if not encodes_ahead:
            assert (sum(encoded), sum(ahead)) == (32, 0)
            expected = {n: reply.text for n, reply in got.items()}
            encoded.clear(), ahead.clear()
    assert {n: reply.text for n, reply in got.items()} == expected
    assert sum(encoded) == 32 and sum(ahead) >= 16


@pytest.mark.parametrize("rows", [1, 4])
def test_without_memory_to_encode_ahead_all_is_answered(monkeypatch, rows):
    with open_session(batch_size=rows) as session:
        session.media.encodes_ahead = True
        encode, planned, chunk, failures = session.vision.encode, session._limits, session.vision.chunk, []

        def run_out(clips: Any, *, beside: bool = False) -> Any:
            if beside:
                failures.append(True)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return encode(clips)

        monkeypatch.setattr(session.vision, "encode", run_out)
        got = answers(session, [request(n, max_new_tokens=8) for n in range(6)])
        assert len(got) == 6 and all(isinstance(reply, Reply) for reply in got.values())
        assert (session._limits, session.vision.chunk, len(failures)) == (planned, chunk, 1)


def test_several_prompts_of_a_file_share_what_is_encoded_ahead():
    with open_session(batch_size=8) as session:
        clip = request(0, num_frames=3)
        asked = [replace(clip, id=number, prompt=f"Prompt {number}.") for number in range(3)]
        pending = [session.prepare(one) for one in asked]
        session.media.encode_ahead(pending)
        first, *others = (each.images for each in pending)
        assert len(first) == 3
        assert all(a is b for other in others for a, b in zip(first, other, strict=True))
