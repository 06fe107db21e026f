"""`--help` of every command: what comes first, what is left to `--help-all`, how wide it is; shell completion."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gemma_captioner import Settings
from gemma_captioner.cli.help import EXAMPLES, examples, help_all
from gemma_captioner.cli.shell import app
from gemma_captioner.config.option_layout import ADVANCED, COMMON, PANELS
from gemma_captioner.config.precedence import option_name
from tests.support.command import run_in_process
from tools.site_pages import commands

ROOT = Path(__file__).parents[1]
COMMANDS = list(commands())


def shown(words: tuple[str, ...], width: int = 80, everything: bool = False) -> str:
    output = io.StringIO()
    before = help_all.set(everything)
    try:
        app.help_print(list(words), console=Console(width=width, file=output))
    finally:
        help_all.reset(before)
    return output.getvalue()


def panels(text: str) -> dict[str, list[str]]:
    """Each panel's title and the options it shows, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if title := re.match(r"╭─ (.+?) ─+╮", line):
            found[title[1]] = []
        elif option := re.match(r"│ [* ]{0,3}(--(?!no-)[\w-]+)", line):
            found[list(found)[-1]].append(option[1])
    return found


def options_of(command: str) -> set[str]:
    arguments = app[command].assemble_argument_collection()
    return {argument.name for argument in arguments if argument.name.startswith("--")}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_80_and_120_columns_and_ends_with_three_examples(words):
    for width in (80, 120):
        text = shown(words, width)
        assert len(text.splitlines()) > 5 and max(map(len, text.splitlines())) <= width
    text = shown(words)
    description = text.split("\n\n")[1]
    assert description.strip().endswith(".") and "  " not in description.strip()
    shown_examples = EXAMPLES[" ".join(words)]
    assert len(shown_examples) == 3
    assert [line.strip() for line in text.rstrip().splitlines()[-6:]] == [
        line for example, why in shown_examples for line in (why, example)
    ]


@pytest.mark.parametrize("command", COMMON)
def test_common_options_come_first_and_advanced_ones_only_under_help_all(command):
    short, long = panels(shown((command,))), panels(shown((command,), everything=True))
    [first, *_] = [title for title in short if title != "Arguments"]
    assert first == "Common" and "Parameters" not in short
    assert short["Common"] == [*map(option_name, COMMON[command]), "--help-all"] and len(short["Common"]) <= 14
    order = [title for title in short if title in PANELS]
    assert order == [title for title in PANELS if title in order]
    everyday, everything = ({o for names in p.values() for o in names} for p in (short, long))
    assert everything == options_of(command)
    assert everything - everyday == everything & set(map(option_name, ADVANCED - set(COMMON[command])))


def test_every_option_of_the_tables_exists():
    of_commands = {option for command in COMMON for option in options_of(command)}
    laid_out = [name for names in PANELS.values() for name in names]
    assert len(laid_out) == len(set(laid_out))
    assert set(map(option_name, laid_out)) | {"--help-all"} >= of_commands
    assert set(map(option_name, [*laid_out, *ADVANCED])) <= of_commands


@pytest.mark.parametrize("example", [shown for of in EXAMPLES.values() for shown, _ in of])
def test_an_example_is_understood(example):
    command, _, redirected = example.partition(" > ")
    app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    assert not redirected or redirected.endswith(".toml")


@pytest.mark.parametrize("example", [shown for shown, _ in EXAMPLES["caption"]])
def test_an_example_of_caption_runs(example, media, output_folder, tmp_path):
    for name in ("photos", "clips", "dataset"):
        shutil.copytree(media, tmp_path / name)
    words = [*shlex.split(example)[1:], "--model", "demo", "--dry-run"]
    done = run_in_process(list(dict.fromkeys(words)), output_folder, tmp_path)
    assert done.code == 0 and "5 images" in done.out, done.err


def test_examples_are_written_for_the_terminal_and_the_site():
    assert examples("demo").count("`gemma-captioner ") == 3


def test_short_forms_and_the_old_name_of_an_option_are_read_as_the_long_ones(command, media, tmp_path):
    rows = [f"{path.name},Lisbon" for path in media.iterdir()]
    (tmp_path / "table.csv").write_text("\n".join(["file_name,place", *rows]))
    words = ("caption", media, "-r", "-m", "demo", "-p", "In {place}.", "-o", tmp_path / "out", "--dry-run", "--json")
    for name in ("--facts", "--metadata"):
        done = command(*words, name, tmp_path / "table.csv")
        assert done.code == 0, done.err
        assert command(*words, f"{name}={tmp_path / 'table.csv'}").json["images"] == done.json["images"] == 5
    assert "--facts" not in shown(("caption",), everything=True)
    assert Settings.from_dict({"facts": "table.csv"}).prompting.metadata == Path("table.csv")


TYPED = [
    ("caption x --preset fl", "flux2"),
    ("caption x --engine ", ["local", "server", "vllm", "scripted"]),
    ("caption x --for sd-", "sd-scripts:sdxl"),
    ("caption x --for musubi : wa", ["wan"]),
    ("caption x --only flagged : too", ["too_short", "too_long", "too_short_for_trainer"]),
    ("caption x --language ger", ["german"]),
    ("caption x --exact", ["--exact-pixels"]),
    ("check x --target moc", ["mochi"]),
    ("export x --for we", ["webdataset"]),
    ("presets show wa", ["wan", "wan2.2"]),
]


@pytest.fixture(scope="module")
def bash_completion(output_folder, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        done = run_in_process(["--install-completion", "bash"], output_folder, home)
    assert done.code == 0, done.err
    program = home / "bin" / "gemma-captioner"  # what the script asks for values
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gemma_captioner "$@"\n')
    program.chmod(0o755)
    return home / done.out.partition(": ")[0]


@pytest.mark.skipif(os.name == "nt", reason="bash")
@pytest.mark.parametrize(("typed", "expected"), TYPED)
def test_bash_completes_options_and_values(bash_completion, typed, expected):
    words = ["gemma-captioner", *typed.split(" ")]
    script = (
        f". {bash_completion}; COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; "
        '_gemma_captioner_with_colons; echo "${COMPREPLY[@]}"'
    )
    home = bash_completion.parents[4]
    environment = os.environ | {"PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    offered = subprocess.check_output(["bash", "-c", script], encoding="utf-8", env=environment).split()
    assert expected in offered if isinstance(expected, str) else offered == expected
