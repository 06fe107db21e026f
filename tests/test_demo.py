"""The demo checkpoint, graded, and the `demo` command."""

import re

import pytest

from tools.grade_demo_model import grade


@pytest.mark.parametrize(
    ("order", "files"),
    [
        ("media-first", 200),
        pytest.param("text-first", 100, marks=pytest.mark.long),
        pytest.param("media-first", 500, marks=pytest.mark.prove),  # docs/decisions.md
        pytest.param("text-first", 500, marks=pytest.mark.prove),
    ],
)
def test_the_demo_is_right(order, files):
    graded = grade(files, order)
    assert graded.share(".png") >= 0.97, graded.wrong
    assert graded.share(".mp4") >= 0.95, graded.wrong


def test_the_demo_command(command, tmp_path):
    done = command("demo", tmp_path / "new")
    assert done.code == 0, done.err
    files = sorted(p.name for p in (tmp_path / "new").iterdir() if p.suffix in (".png", ".jpg", ".mp4"))
    assert len(files) == 12
    rows = [line for line in done.out.splitlines() if re.match(r"\d\d-", line)]
    assert len(rows) == 12 and str(tmp_path / "new") in done.out.replace("\n", "")
    assert done.out.count(" yes") >= 11, done.out
    temporary = command("demo")
    assert temporary.code == 0 and "gemma-captioner-demo-" in temporary.out
