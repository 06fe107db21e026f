"""The kernels of a decode step of real size, counted without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launches import KERNELS, count

TRITON = Path(__file__).with_name("data") / "triton.txt"


@pytest.mark.parametrize("size", ["gemma-3-4b", pytest.param("gemma-3-12b", marks=pytest.mark.prove)])
def test_a_step_launches_at_most_22_kernels_per_layer_and_60(monkeypatch, size):
    launches, layers = count(monkeypatch, size, fused=True)
    assert launches.count("attention") == layers
    assert len(launches) <= 22 * layers + 60
    assert not {"convert mask", "pad mask"} & set(launches)


@pytest.mark.prove
def test_inductor_generates_as_many_cuda_kernels_as_are_counted(tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", tmp_path]
    done = subprocess.run([*pip, "-r", TRITON], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT RUN: Triton cannot be had from the package index: {done.stderr.strip()[-300:]}")
    command = [sys.executable, "-m", "tests.support.inductor", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("rope") == KERNELS["apply_rotary_pos_emb"]
    assert found.pop("gated product") == KERNELS["_gated_product"]
    assert set(found.values()) == {KERNELS["forward"]} and len(found) == 6
