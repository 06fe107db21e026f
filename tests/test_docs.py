"""Every command and every Python example that the README and docs/cluster.md show runs, on the demo model."""

import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bucket import Bucket
from conftest import captions
from gemma_captioner.demo.samples import draw_samples
from servers import Said, Stub, completion

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CLUSTER = re.findall(r"^```bash\n(?!# not run here)(.*?)^```$", (ROOT / "docs/cluster.md").read_text(), re.M | re.S)
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in [block for language, block in BLOCKS if language == "bash"] + CLUSTER
    for line in block.splitlines()
    if line.startswith(("gemma-captioner ", "python "))
]


@pytest.fixture
def place(tmp_path) -> Path:
    """What the README's examples find around them."""
    for folder in ("dataset", "images", "clips"):
        draw_samples(tmp_path / folder, images=2, clips=1, seed=3)
    [film] = draw_samples(tmp_path, images=0, clips=1, seed=3)
    (tmp_path / film).rename(tmp_path / "film.mp4")
    draw_samples(tmp_path / "examples", images=1, clips=1, seed=5)
    for shown in (tmp_path / "examples").iterdir():
        shown.with_suffix(".txt").write_text("A red circle on a blue background.")
    (tmp_path / "script.json").write_text("{}")
    with tarfile.open(tmp_path / "shard-000.tar", "w") as tar:
        tar.add(tmp_path / "images", "sub")
    (tmp_path / "prompt.txt").write_text("Describe this.")
    (tmp_path / "facts.csv").write_text("file_name,place\n01.png,Lisbon\n")
    [config] = [block for language, block in BLOCKS if language == "toml"]
    (tmp_path / "captions.toml").write_text(config)
    for script in ROOT.glob("gemma3-*.py"):
        (tmp_path / script.name).write_text(f"import runpy\nrunpy.run_path({str(script)!r}, run_name='__main__')\n")
    return tmp_path


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as bucket:
        yield bucket


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(lambda asked: Said(body=completion("A red circle on a blue background."))) as stub:
        yield stub


def test_there_are_commands_to_run():
    assert len(COMMANDS) >= 14


def is_costly(shown: str) -> bool:
    return shown.startswith("python ") or "--cluster" in shown or "s3://" in shown


@pytest.mark.parametrize(
    "shown", [pytest.param(c, marks=pytest.mark.long) if is_costly(c) else c for c in dict.fromkeys(COMMANDS)]
)
def test_a_shown_command_runs(request, command, place, shown):
    program, *words = shlex.split(shown)
    if program == "python":
        done = subprocess.run(
            [sys.executable, *words, "--model_id", "demo"], cwd=place, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert captions(place)
        return
    if "--base-url" in words:
        words[words.index("--base-url") + 1] = request.getfixturevalue("stub").url
    elif words[0] in ("caption", "compare"):
        # The default model cannot be had here; the rest is as shown.
        tells_of_the_model = "--dry-run" in words or "--show" in words
        words += ["--model", "demo"] if tells_of_the_model else ["--engine", "scripted", "--model", "script.json"]
    if {"RUN", "export", "check"} & set(words):  # something has been captioned before
        assert command("caption", "dataset", "--model", "demo", cwd=place).code == 0
    if "RUN" in words:
        [run] = (place / "dataset" / ".gemma-captioner" / "runs").glob("*.jsonl")
        words[words.index("RUN")] = run.stem
    bucket = request.getfixturevalue("bucket") if "s3://" in shown else None
    if bucket:
        bucket.put(place / "dataset", "dataset")
    done = command(*words, cwd=place, variables=bucket.variables if bucket else {})
    assert done.code == 0, done.err
    if words[0] == "caption" and "--dry-run" not in words:
        made = bucket.captions() if bucket else captions(place) or list(place.glob("rows/*.parquet"))
        assert made or "--shard" in words  # which may be of none of the three


def test_the_python_example_runs(place):
    [example] = [block for language, block in BLOCKS if language == "python"]
    done = subprocess.run([sys.executable, "-c", example], cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
