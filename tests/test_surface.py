"""The public surface, the version and what starting costs, as facts."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gemma_captioner

ROOT = Path(__file__).parents[1]


def test_everything_exported_is_there_and_documented():
    assert sorted(gemma_captioner.__all__) == gemma_captioner.__all__
    for name in gemma_captioner.__all__:
        assert getattr(gemma_captioner, name) is not None


def test_the_changelog_knows_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest and latest[1] == version


@pytest.mark.parametrize("arguments", [[], ["--help"], ["caption", "--help"], ["review", "--help"], ["--version"]])
def test_help_and_import_load_nothing_heavy(arguments):
    code = (
        "import sys, gemma_captioner.cli as cli\n"
        f"try: {'cli.main(' + repr(arguments) + ')' if arguments else 'pass'}\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'ray', 'nicegui') if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


def test_help_names_every_setting():
    done = subprocess.run(
        [sys.executable, "-m", "gemma_captioner", "caption", "--help"],
        capture_output=True, text=True, timeout=60, check=True, env={"COLUMNS": "80", "PATH": ""},
    )  # fmt: skip
    groups = gemma_captioner.Settings.model_fields
    for group in set(groups) - {"image", "clip"}:
        for knob in groups[group].annotation.model_fields:
            assert f"--{knob.rstrip('_').replace('_', '-')}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_python_use(media):
    outcomes = list(gemma_captioner.caption(media, model="demo", limit=3))
    assert [type(o) for o in outcomes] == [gemma_captioner.Captioned] * 3
    for outcome in outcomes:
        assert outcome.item.caption_path.read_text() == outcome.caption
    with pytest.raises(gemma_captioner.UsageError, match=r"Known: .*frames"):
        list(gemma_captioner.caption(media, frame=3))
