"""The engine equals transformers, imported as the command imports it, with the oldest and the installed version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

ROOT = Path(__file__).parents[1]
OLDEST = "5.17.0"  # the floor in pyproject.toml
FILES = ("tests/test_fidelity.py", "tests/test_gemma4.py", "tests/test_startup.py", "tests/test_engines.py")


def test_the_oldest_version_is_the_floor_of_the_package():
    assert f'"transformers>={OLDEST.removesuffix(".0")},<6"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="session")
def oldest(tmp_path_factory) -> Path:
    """A folder with the oldest version and the client that it asks for. Skips where they cannot be had."""
    folder = tmp_path_factory.mktemp("transformers")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    done = subprocess.run(
        [*pip, f"transformers=={OLDEST}", "huggingface-hub>=1.5,<2.0"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"NOT RUN: transformers {OLDEST} cannot be had from the package index: {done.stderr[-300:]}")
    return folder


@pytest.mark.prove
@pytest.mark.parametrize(("version", "as_the_command"), [("oldest", False), ("oldest", True), ("installed", True)])
def test_the_engine_equals_transformers(version, as_the_command, request):
    path = [str(request.getfixturevalue("oldest"))] if version == "oldest" else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*path, *filter(None, sys.path)])}
    expected = OLDEST if version == "oldest" else transformers.__version__
    report = "import transformers; print(transformers.__version__)"
    seen = subprocess.run([sys.executable, "-c", report], env=environment, check=True, capture_output=True, text=True)
    assert seen.stdout.strip() == expected
    plugins = ["-p", "tests.support.own_process"] if as_the_command else []
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *plugins, *FILES]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-3000:]
