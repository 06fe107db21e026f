"""The engine equals transformers, imported as the command imports it: the oldest, the installed, the newest version."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLDEST = "5.17.0"  # the floor in pyproject.toml
FILES = ("tests/test_fidelity.py", "tests/test_gemma4.py", "tests/test_startup.py", "tests/test_engines.py")


def test_the_oldest_version_is_the_floor_of_the_package():
    assert f'"transformers>={OLDEST.removesuffix(".0")},<6"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="session")
def installed_in(tmp_path_factory) -> Callable[[str], Path]:
    """Install a version, with the client that it asks for, and return its folder. Skips where it cannot be had."""

    def install(version: str) -> Path:
        folder = tmp_path_factory.mktemp("transformers")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        words = [*pip, f"transformers{version}", "huggingface-hub>=1.5,<2.0"]
        done = subprocess.run(words, env=os.environ | {"PIP_CONSTRAINT": ""}, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"NOT RUN: transformers{version} cannot be had from the package index: {done.stderr[-300:]}")
        return folder

    return install


@pytest.mark.prove
@pytest.mark.parametrize(
    ("version", "as_the_command"),
    [(f"=={OLDEST}", False), (f"=={OLDEST}", True), ("", True), (">5,<6", True)],
    ids=["oldest", "oldest, as the command", "installed", "newest"],
)
def test_the_engine_equals_transformers(version, as_the_command, installed_in):
    path = [str(installed_in(version))] if version else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*path, *filter(None, sys.path)])}
    report = "import transformers; print(transformers.__version__)"
    seen = subprocess.run([sys.executable, "-c", report], env=environment, check=True, capture_output=True, text=True)
    print("transformers", seen.stdout)
    assert (seen.stdout.strip() == OLDEST) == (OLDEST in version)
    plugins = ["-p", "tests.support.own_process"] if as_the_command else []
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *plugins, *FILES]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-3000:]
