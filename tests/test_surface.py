"""The public surface, the version and what starting costs, as facts."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gemma_captioner
from gemma_captioner.config.precedence import option_name

ROOT = Path(__file__).parents[1]


def test_everything_exported_is_there_and_documented():
    assert sorted(gemma_captioner.__all__) == gemma_captioner.__all__
    for name in gemma_captioner.__all__:
        assert getattr(gemma_captioner, name) is not None


def test_the_changelog_knows_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest and latest[1] == version


def _text_without_encoding(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = [ast.unparse(keyword) for keyword in call.keywords]
    mode = [a.value for a in call.args if isinstance(a, ast.Constant) and re.fullmatch("[rwax+]+b?[+]?", str(a.value))]
    as_text = name in ("read_text", "write_text") or "text=True" in given
    as_text |= name in ("open", "fdopen") and bool(mode) and "b" not in mode[0]
    return as_text and not any(word.startswith("encoding=") for word in given) and ast.unparse(call.func) != "av.open"


def test_text_is_utf8_whatever_the_machine_takes_it_for():
    paths = [path for folder in ("src", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    calls = [(p, node) for p in paths for node in ast.walk(ast.parse(p.read_text(encoding="utf-8")))]
    guilty = [f"{p}:{n.lineno}" for p, n in calls if isinstance(n, ast.Call) and _text_without_encoding(n)]
    assert paths and guilty == []
    for wrong in ("p.read_text()", "p.open('w')", "open(p, 'a')", "run(c, text=True)", "p.write_text('a')"):
        assert _text_without_encoding(ast.parse(wrong, mode="eval").body)


STARTS: list[list[str]] = [[], ["--help"], ["caption", "--help"], ["review", "--help"], ["--version"]]
_HEAVY = """
import json, sys
import gemma_captioner.cli as cli
for arguments in json.loads(sys.argv[1]):
    try:
        if arguments: cli.main(arguments)
    except SystemExit: pass
    print([m for m in ("torch", "transformers", "ray", "nicegui") if m in sys.modules], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def heavy() -> list[str]:
    """After each of STARTS, one after the other in a new process: what was imported by then."""
    words = [sys.executable, "-c", _HEAVY, json.dumps(STARTS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return done.stderr.splitlines()


@pytest.mark.parametrize("arguments", STARTS)
def test_help_and_import_load_nothing_heavy(heavy, arguments):
    assert heavy[STARTS.index(arguments)] == "[]"


def test_help_names_every_setting(fork_server, tmp_path):
    done = fork_server.start(["caption", "--help-all"], tmp_path, {"COLUMNS": "80"}).wait()
    groups = gemma_captioner.Settings.model_fields
    for group in set(groups) - {"image", "clip"}:
        for knob in groups[group].annotation.model_fields:
            assert option_name(knob) in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_python_use(media):
    outcomes = list(gemma_captioner.caption(media, model="demo", limit=3))
    assert [type(o) for o in outcomes] == [gemma_captioner.Captioned] * 3
    for outcome in outcomes:
        assert outcome.item.caption_path.read_text() == outcome.caption
    with pytest.raises(gemma_captioner.UsageError, match=r"Available: .*frames"):
        list(gemma_captioner.caption(media, frame=3))


@pytest.mark.long
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(command, tmp_path, shell):
    done = command("--install-completion", shell, env={"HOME": str(tmp_path)})
    assert done.code == 0, done.err
    script = tmp_path / done.out.partition(": ")[0]
    assert script.is_relative_to(tmp_path)
    text = script.read_text(encoding="utf-8")
    assert all(word in text for word in ("caption", "review", "max-new-tokens", "midpoints"))
    if interpreter := shutil.which(shell):  # bash at least is everywhere that these tests run
        subprocess.run([interpreter, "-n", script], check=True)
    if shell == "bash":
        typed = (
            f'. {script}; COMP_WORDS=(gemma-captioner rev); COMP_CWORD=1; _gemma_captioner; echo "${{COMPREPLY[@]}}"'
        )
        assert subprocess.check_output(["bash", "-c", typed], encoding="utf-8").split() == ["review"]
