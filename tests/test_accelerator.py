"""How the local engine treats a GPU: shapes, lack of memory, shares of a card, frames ahead. Seen on the CPU."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.base import EngineSpec
from gemma_captioner.engines.local import hardware
from gemma_captioner.engines.local.batching import column_bucket, row_bucket
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.vision import VisionEncoder
from gemma_captioner.engines.scripted import ScriptedEngine, ScriptedSession
from gemma_captioner.executors.local import Run
from gemma_captioner.executors.ray.worker import InstrumentedEngine
from gemma_captioner.pipeline import scheduler
from gemma_captioner.types import Captioned, Failed, Reply, Request
from tests.support.engines import answers, request, requests


def engine(**settings: Any) -> LocalEngine:
    return LocalEngine(Settings.from_dict({"model": "demo", "dtype": "fp32", "device": "cpu", **settings}))


@dataclass
class Call:
    rows: int
    columns: int
    mask: tuple[int, ...]  # columns of the keys, by kind of layer
    cudnn: bool


def watch(session: Any) -> tuple[list[Call], list[bool]]:
    """Return lists that fill up: calls of the language model, and whether cuDNN's attention is on for vision."""
    calls, vision = [], []

    def language(module, args, kwargs):
        rows, columns = kwargs["inputs_embeds"].shape[:2]
        masks = tuple(sorted(mask.shape[-1] for mask in kwargs["attention_mask"].values()))
        calls.append(Call(rows, columns, masks, torch.backends.cuda.cudnn_sdp_enabled()))

    session.model.model.language_model.register_forward_pre_hook(language, with_kwargs=True)
    tower = session.model.model.vision_tower
    tower.register_forward_pre_hook(lambda *args: vision.append(torch.backends.cuda.cudnn_sdp_enabled()))
    return calls, vision


def as_on_a_gpu(session: Any) -> Any:
    session._limits = session._planned = replace(session._planned, constant_shapes=True)
    return session


@pytest.mark.parametrize("batch_size", [5, "auto"])
def test_constant_shapes_say_what_exact_shapes_say(batch_size):
    asked = requests(16, seed=9, most_frames=6)
    with engine(batch_size=batch_size).open() as session:
        expected = answers(session, asked)
    with engine(batch_size=batch_size).open() as session:
        calls, vision = watch(as_on_a_gpu(session))
        got = answers(session, asked)
    assert {n: a.text for n, a in got.items()} == {n: a.text for n, a in expected.items()}
    prompts = [call for call in calls if call.columns > 1]
    assert all(call.columns == column_bucket(call.columns) for call in prompts)
    assert all(call.rows in (row_bucket(call.rows), batch_size) for call in prompts)
    assert any(call.rows > 1 for call in prompts)
    steps = {(call.rows, call.mask) for call in calls if call.columns == 1}
    assert all(rows in (row_bucket(rows), batch_size) for rows, _ in steps)
    assert all(columns % 8 == 0 for _, mask in steps for columns in mask)
    assert len(steps) < len(calls) / 8  # few graphs are captured
    # cuDNN plans per shape: not for the language model, whose batches differ.
    assert not any(call.cudnn for call in calls)
    assert all(vision) and torch.backends.cuda.cudnn_sdp_enabled()


class Shortage:
    """Raises out-of-memory errors in a module while `is_short` says so."""

    def __init__(self, module: Any, is_short: Any) -> None:
        self.seen: list[int] = []

        def hook(module, args, kwargs):
            rows = len(next(iter([*args, *(v for v in kwargs.values() if isinstance(v, torch.Tensor))])))
            self.seen.append(rows)
            if is_short(rows):
                raise torch.OutOfMemoryError("CUDA out of memory")

        module.register_forward_pre_hook(hook, with_kwargs=True)


def answered_at_once(session: Any, asked: list[Request]) -> bool:
    """Submit all requests before the first batch forms. Return whether all have replies."""
    with session._request_added:
        for request in asked:
            session.submit(request)
    return all(isinstance(answer, Reply) for answer in collect(session, len(asked)))


def collect(session: Any, count: int) -> list[Reply | Failed]:
    got: list[Reply | Failed] = []
    while len(got) < count:
        got += session.poll(1)
    return got


def test_memory_that_another_program_took_for_a_moment_costs_one_retry():
    with engine(batch_size=8).open() as session:
        left = [1]
        language = Shortage(session.model.model.language_model, lambda rows: left and left.pop())
        assert answered_at_once(session, [request(n) for n in range(8)])
        assert language.seen[:2] == [8, 8]
        assert session._limits == session._planned


def test_where_vision_runs_out_of_memory_its_chunk_is_halved_and_not_the_batch():
    with engine(batch_size=8).open() as session:
        vision = Shortage(session.model.model.vision_tower, lambda rows: rows > 2)
        calls, _ = watch(session)
        assert answered_at_once(session, [request(n, max_new_tokens=2) for n in range(8)])
        assert vision.seen == [4, 4, 2, 2, 2, 2] and {call.rows for call in calls} == {8}
        assert session._limits == session._planned


def test_batches_grow_back_after_a_lack_of_memory():
    with engine(batch_size=8).open() as session:
        is_short = [True]
        Shortage(session.model.model.language_model, lambda rows: is_short and rows > 2)
        assert answered_at_once(session, [request(n, max_new_tokens=2) for n in range(8)])
        assert session.available_slots == 4
        is_short.clear()
        calls, _ = watch(session)
        answers(session, [request(n, max_new_tokens=2) for n in range(72)])
        assert max(call.rows for call in calls) == 8 and session.available_slots == 16


@pytest.mark.parametrize(("capability", "chunk"), [((7, 5), 1), ((8, 0), 4)])
def test_a_card_without_bf16_encodes_one_frame_at_a_time_and_says_so(monkeypatch, capability, chunk):
    local = engine(dtype="bf16")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setitem(local.__dict__, "device", "cuda")
    monkeypatch.setattr(hardware, "free_memory", lambda device: 24 << 30)
    assert ("emulates it slowly" in local.describe()) == (chunk == 1)
    assert "emulates" not in engine(dtype="bf16").describe()

    class Model:
        device = torch.device("cuda")

    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **kwargs: self)
    assert VisionEncoder(Model(), local.family, local.processor).chunk == chunk


def test_half_a_card_is_planned_as_half_a_card(monkeypatch):
    """As two Ray actors share it: neither sees that the other will need the rest."""
    gib, shares, planned = 1 << 30, [1.0], []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (79 * gib, 80 * gib))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share: shares.append(share))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device=None: shares[-1])

    class Planning(ScriptedEngine):
        def open(self) -> ScriptedSession:
            planned.append(hardware.free_memory("cuda"))
            return super().open()

    InstrumentedEngine(Planning(), 1.0)
    InstrumentedEngine(Planning(), 0.5)
    assert planned == [79 * gib, 40 * gib]


def test_the_engine_asks_for_twice_its_planned_batch_of_clips():
    local = engine(frames=12)
    assert local.spec.preferred_batch_size == 0  # known without weights or memory
    plan = local.memory_plan
    rows = min(plan.max_batch_size, plan.max_batch_tokens // local._longest_request)
    assert local.spec.preferred_batch_size == 2 * rows > 0
    few = engine(frames=12)
    few.__dict__["memory_plan"] = replace(plan, max_batch_tokens=3 * local._longest_request + 1)
    assert few.spec.preferred_batch_size == 6
    fixed = engine(frames=12, batch_size=5)
    _ = fixed.memory_plan
    assert fixed.spec.preferred_batch_size == 10


def test_frames_are_held_for_the_batch_that_the_engine_plans_when_it_is_opened(tmp_path, monkeypatch):
    for n in range(24):
        Image.fromarray(np.full((64, 64, 3), 10 * n, np.uint8)).save(tmp_path / f"{n}.png")
    monkeypatch.setattr(scheduler, "PIXEL_BYTES", 12 * 64 * 64 * 3)  # 12 frames

    class Patient(ScriptedSession):
        """Answers once 20 requests wait."""

        available_slots = 100
        polls = 0

        def poll(self, timeout_s: float) -> list[Reply | Failed]:
            if len(self._pending) >= 20 or self.answered:
                return super().poll(timeout_s)
            self.polls += 1
            assert self.polls < 5000, f"only {len(self._pending)} requests came"
            time.sleep(0.02)
            return []

        answered = False

        def _reply_to(self, *args: Any) -> Reply | Failed:
            self.answered = True
            return super()._reply_to(*args)

    class Planning(ScriptedEngine):
        def open(self) -> ScriptedSession:
            self.spec: EngineSpec = replace(self.spec, preferred_batch_size=20)
            return Patient(self.script)

    settings = Settings.from_dict({"engine": "scripted", "frames": 1, "workers": 1})
    outcomes = list(Run([tmp_path], settings, Planning()))
    assert len(outcomes) == 24 and all(isinstance(outcome, Captioned) for outcome in outcomes)
