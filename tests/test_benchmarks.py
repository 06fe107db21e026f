"""The benchmark for a GPU, as far as a CPU runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.long
def test_every_row_of_the_gpu_benchmark_comes_and_is_saved(tmp_path):
    command = [sys.executable, BENCHMARK, "--smoke", "--out", tmp_path / "rows.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row.pop("row"): row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    assert len(rows) >= 21 and not [name for name, row in rows.items() if "error" in row]
    for name in ("versions", "attention, decode", "graph against eager", "tiny, 3 images, ours", "tiny, clips, a"):
        assert name in rows
    assert rows["tiny, 2 clips, ours"]["graphs"] == 0 and rows["tiny, 3 images, ours"]["rate"] > 0


def test_an_error_costs_its_row_and_time_that_is_up_costs_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    from gpu import Report

    report = Report(tmp_path / "rows.jsonl", minutes=1)
    report.run("a", lambda: {"ok": True})
    report.run("b", lambda: {}["missing"])
    assert report.failed
    late = Report(None, minutes=-1)
    assert "not run" in late.run("c", lambda: {"ok": True})
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == ["a", "b"] and "KeyError" in rows[1]["error"]
    assert capsys.readouterr().out.count("|\n") == 3
