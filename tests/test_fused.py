"""The compiled parts of a model, without CUDA."""

import re

import pytest
import torch

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.local import session as sessions
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.local.fused import compile_region
from gemma_captioner.types import Reply
from tests.support.engines import answers, request


def said(monkeypatch, compile, *, dtype="fp32", batches=2) -> tuple[list[str], list[str], LocalEngine]:
    """Return the texts, the lines for the user and the session, compiled from the first batch on if asked."""
    lines: list[str] = []
    monkeypatch.setattr(sessions, "_BATCHES_BEFORE_COMPILING", 0)
    monkeypatch.setattr(sessions, "compile_region", compile)
    with LocalEngine(Settings.from_dict({"model": "demo", "dtype": dtype}), log=lines.append).open() as session:
        session.can_fuse = compile is not None
        texts = []
        for batch in range(batches):
            got = answers(session, [request(8 * batch + n, 1 + n % 2 * 3, max_new_tokens=20) for n in range(4)])
            assert all(isinstance(answer, Reply) for answer in got.values())
            texts += [got[n].text for n in sorted(got)]
    return texts, lines, session


def test_the_parts_run_compiled_and_say_the_same(monkeypatch):
    calls = []

    def compile(function):
        return lambda *args, **kwargs: calls.append(function.__name__) or function(*args, **kwargs)

    expected, _, _ = said(monkeypatch, None)
    texts, lines, session = said(monkeypatch, compile)
    assert texts == expected and lines == []
    assert {"forward", "apply_rotary_pos_emb", "_gated_product"} == set(calls)
    assert not session._fused.is_checking
    from transformers.models.gemma3 import modeling_gemma3

    assert modeling_gemma3.apply_rotary_pos_emb.__module__ == modeling_gemma3.__name__  # other models keep theirs


def no_compiler(function):
    raise RuntimeError("Failed to find C compiler.\nSet CC.")


def wrong(function):
    if function.__name__ != "_gated_product":
        return function
    return lambda *args: function(*args) * 1.05


def fails_later(function):
    calls = []

    def run(*args, **kwargs):
        calls.append(1)
        if len(calls) > 300:
            raise ValueError("no such shape")
        return function(*args, **kwargs)

    return run


@pytest.mark.parametrize(
    ("compile", "reason"),
    [(no_compiler, "Failed to find C compiler"), (wrong, "their results differ"), (fails_later, "no such shape")],
)
def test_what_fails_or_differs_becomes_eager_and_is_reported_once(monkeypatch, compile, reason):
    expected, _, _ = said(monkeypatch, None)
    texts, lines, session = said(monkeypatch, compile)
    assert texts == expected and not session._fused.enabled
    assert len(lines) == 1 and re.fullmatch(rf"the model runs without compiled kernels.*\({reason}.*\)", lines[0])


def test_a_lack_of_memory_is_not_a_failure_of_the_compiler(monkeypatch):
    failed = []

    def compile(function):
        def run(*args, **kwargs):
            if not failed:
                failed.append(1)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return function(*args, **kwargs)

        return run

    _, lines, session = said(monkeypatch, compile)
    assert session._fused.enabled and lines == [] and failed


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # Inductor's own
@pytest.mark.prove
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_inductor_says_what_eager_kernels_say(monkeypatch, dtype):
    expected, _, _ = said(monkeypatch, None, dtype=dtype)
    texts, lines, session = said(monkeypatch, compile_region, dtype=dtype)
    assert lines == [] and session._fused.enabled
    assert texts == expected


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # Inductor's own
@pytest.mark.prove
def test_batches_of_other_shapes_run_what_is_compiled_already():
    from torch._dynamo.utils import counters
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

    torch._dynamo.reset()
    counters.clear()
    compiled = compile_region(Gemma3RMSNorm.forward)
    with torch.inference_mode():
        for rows in (21, 45, 5, 9, 1, 16):
            for width in (64, 32, 64):
                norm, x = Gemma3RMSNorm(width), torch.randn(rows, width)
                assert torch.allclose(compiled(norm, x), norm(x))
    assert counters["stats"]["unique_graphs"] <= 4  # two widths, one row or several
