"""CUDA graphs without CUDA: see support/fake_cuda.py."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local import session as sessions
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.types import Reply
from tests.support.cuda import require_cuda
from tests.support.engines import answers, request
from tests.support.fake_cuda import FakeCuda


@pytest.fixture
def cuda(monkeypatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def session(lines, monkeypatch):
    """A session that captures graphs. Composite operations are recorded by their parts, as on CUDA."""
    with LocalEngine(Settings.from_dict({"model": "demo", "batch_size": 4}), log=lines.append).open() as session:
        session._limits = session._planned = replace(session._planned, constant_shapes=True)
        session.graphs.enabled = True
        for name in ("_prefill", "_decode"):
            method = partial(torch.no_grad()(getattr(type(session), name).__wrapped__), session)
            monkeypatch.setattr(session, name, method)
        yield session


def said(session, first: int) -> list[str]:
    got = answers(session, [request(n, 1 + n % 2 * 4, max_new_tokens=20) for n in range(first, first + 4)])
    assert all(isinstance(answer, Reply) for answer in got.values())
    return [got[n].text for n in sorted(got)]


def test_graphs_of_many_batches_say_what_eager_steps_say_in_constant_memory(session, cuda):
    session.graphs.enabled = False
    expected = [said(session, 4 * n) for n in range(4)]
    session.graphs.enabled = True
    reserved = []
    for n in range(4):
        assert said(session, 4 * n) == expected[n]
        reserved.append(cuda.reserved)
    assert cuda.replays > 4 * 8 and session.graphs.enabled
    assert reserved[1:] == reserved[:1] * 3 and len(cuda.pools) == 1


def test_steps_are_captured_again_once_compiled_layers_were_checked(session, cuda, monkeypatch):
    monkeypatch.setattr(sessions, "_BATCHES_BEFORE_COMPILING", 1)
    monkeypatch.setattr(sessions, "compile_region", lambda function: function)
    said(session, 0)
    session.can_fuse = True
    said(session, 4)
    before, captures = cuda.replays, cuda.captures
    said(session, 8)
    assert session._fused is not None and not session._fused.is_checking
    assert cuda.captures > captures and cuda.replays > before


def test_out_of_memory_during_a_capture_frees_the_cache_and_captures_again(session, cuda, lines):
    said(session, 0)
    replays, cuda.limit = cuda.replays, cuda.reserved + 1000
    cuda.cached = 2000
    said(session, 4)
    assert cuda.replays > replays and cuda.cached == 0 and lines == []


def test_a_batch_that_has_no_memory_for_its_graph_runs_without_and_says_so_once(session, cuda, lines):
    cuda.limit = 1000
    said(session, 0)
    said(session, 4)
    assert cuda.replays == 0
    assert len(lines) == 1 and "a batch runs without CUDA graphs" in lines[0] and "out of memory" in lines[0]
    cuda.limit = float("inf")
    said(session, 8)
    assert cuda.replays > 0


def test_a_step_that_no_graph_can_hold_ends_graphs_for_the_session_and_says_so(session, cuda, lines):
    cuda.refused = "index_put_"
    said(session, 0)
    captures = cuda.captures
    said(session, 4)
    assert (cuda.captures, cuda.replays) == (captures, 0)
    assert len(lines) == 1 and "all batches run without CUDA graphs" in lines[0]
    assert [pool.users for pool in cuda.pools.values()] == [1]  # the failed capture is not counted as a user


@pytest.mark.parametrize("compiled", [False, True])
def test_graphs_say_what_eager_steps_say_on_cuda(compiled, lines, monkeypatch):
    require_cuda()
    monkeypatch.setattr(sessions, "_BATCHES_BEFORE_COMPILING", 0 if compiled else 10**6)
    settings = Settings.from_dict({"model": "demo", "batch_size": 4, "device": "cuda", "dtype": "fp32"})
    with LocalEngine(settings, log=lines.append).open() as session:
        session.graphs.enabled = False
        expected = [said(session, 4 * n) for n in range(4)]
        session.graphs.enabled = True
        assert [said(session, 4 * n) for n in range(4)] == expected
        assert session.graphs.enabled and lines == []
        assert (session._fused is not None) == compiled
        reserved = torch.cuda.memory_reserved()
        for n in range(8):
            said(session, 4 * n)
        assert torch.cuda.memory_reserved() <= reserved + (32 << 20)
