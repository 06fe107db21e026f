"""Wrong command lines and config files: the exit code, what the message says, and whose words it never uses."""

import itertools
import json
import shlex

import pytest
from PIL import Image

from gemma_captioner import Settings, UsageError
from gemma_captioner.cli import main
from gemma_captioner.text import counted
from tests.support.servers import HttpResponse, StubServer, completion

FOREIGN = (
    *(
        "value error",
        "must be",
        "Input should",
        "input should",
        "[Errno",
        "[errno",
        "invalid literal",
        "unsupported operand",
    ),
    *(
        "Traceback",
        "validation error",
        "pydantic",
        "codec can't",
        "constrained",
        "NoneType",
        "Expecting",
        "Unused Tokens",
    ),
    *("unable to convert", "format string", "object of type", "has no attribute", "None is "),
)

# Command line -> exit code, what the message says. The files are made by `place`.
WRONG: list[tuple[str, int, str]] = [
    ("captoin media", 2, "Did you mean caption?"),
    ("media", 2, "media is not a command: caption it with `gemma-captioner caption media`"),
    ("caption", 2, "give the folder to caption, for example:"),
    ("caption media --framse 3", 2, "Did you mean --frames?"),
    ("caption media --frames", 2, "--frames requires a value. Show the model this many frames"),
    ("caption media --frames 0", 2, "--frames 0: give 1 or more"),
    ("caption media --frames 3.5", 2, "--frames 3.5: give a whole number"),
    ("caption media --frames eight", 2, "--frames eight: give a whole number"),
    ("caption media --frames 3 --frames 4", 2, "--frames is given more than once: give it once"),
    ("caption media --fps 0", 2, "--fps 0: give more than 0"),
    ("caption media --span 5", 2, "--span 5: write it as whole, head:4.5"),
    ("caption media --span 5-2", 2, "--span 5-2: it ends before it begins: write it as START-END, for example 2-5"),
    ("caption media --span head:0", 2, "--span head:0: give more than 0 seconds"),
    ("caption media --background notacolour", 2, "--background notacolour: give the name of a color"),
    ("caption media --include jpg", 2, "--include jpg: no file matches jpg: give *.jpg for the type"),
    ("caption media --sampling random", 2, "--sampling random: give one of index, midpoints, ends"),
    ("caption media --max-new-tokens -1", 2, "--max-new-tokens -1: give 1 or more"),
    ("caption media --temperature 9", 2, "--temperature 9: give 5 or less"),
    ("caption media --temperature warm", 2, "--temperature warm: give a number"),
    ("caption media --seed -3", 2, "--seed -3: give 0 or more"),
    ("caption media --prompt ''", 2, "--prompt '': give some text"),
    ("caption media --prompt a --prompt-file void.txt", 2, "cannot be combined: give one of them"),
    ("caption media --prompt-file nowhere.txt", 2, "--prompt-file nowhere.txt cannot be read: no such file"),
    ("caption media --prompt-file latin.txt", 2, "not UTF-8 text: save it as UTF-8"),
    ("caption media --prompt-file void.txt", 2, "is empty: write a prompt into it"),
    ("caption media --prompt-file empty", 2, "--prompt-file empty cannot be read: it is a folder"),
    ("caption media --prompt '{nosuch}'", 2, "unknown variable {nosuch}. Available: {stem}"),
    ("caption media --prompt '{'", 2, "To write a brace itself, double it"),
    ("caption media --prompt '{stem:d}'", 2, "invalid variable format"),
    ("caption media --prompt '{stem:{folder}}'", 2, "invalid variable format"),
    ("caption media --preset nosuch", 2, "unknown preset 'nosuch'. Available: anima, character"),
    ("caption media --for nosuch", 2, "unknown trainer. Available: musubi"),
    ("caption media --for musubi:nosuch", 2, "For others, give --for musubi"),
    ("caption media --for diffusion-pipe --train-frames 81", 2, "requires a model: give diffusion-pipe:wan"),
    ("caption media --language klingon", 2, "--language klingon: give one of english"),
    ("caption media --target nosuch", 2, "--target nosuch: give one of wan"),
    ("caption media --engine magic", 2, "give one of local, server, vllm, scripted"),
    ("caption media --batch-size many", 2, "--batch-size many: write it as a whole number, 1 or more, or auto"),
    ("caption media --image-tokens 100", 2, "--image-tokens 100: give 70, 140, 280, 560 or 1120"),
    ("caption media --base-url localhost:8000", 2, "--base-url: write the address with http://"),
    ("caption media --base-url http://localhost:port", 2, "the port in this address is not a number"),
    ("caption media --base-url http://localhost:99999", 2, "the port in this address is not a number up to 65535"),
    ("caption media --engine local --base-url http://here", 2, "--engine local ignores --base-url: leave out --engine"),
    ("caption media --wait-for-server soon", 2, "write it as 30s, 10m or 1h30m"),
    ("caption media --captions-to parquet", 2, "requires --output: give the folder for its files"),
    ("caption media --captions-to parquet --output x --existing overwrite", 2, "cannot replace captions: leave out"),
    ("caption media --existing maybe", 2, "give one of skip, overwrite, stale"),
    ("caption media --only broken", 2, "write it as failed, flagged or flagged:NAME"),
    ("caption media --shard 9/8", 2, "--shard 9/8: give 1/8 to 8/8"),
    ("caption media --shard 1", 2, "--shard 1: write it as I/N"),
    ("caption media --cluster nowhere", 2, "write it as local, auto or ray://HOST:PORT"),
    ("caption media --gpus-per-actor 1.5", 2, "give a fraction below 1, or a whole number"),
    ("caption media --stop-after tomorrow", 2, "write it as 90s, 45m, 2h or 1h30m"),
    ("caption media --recursive=maybe", 2, "--recursive maybe: give no value, or true or false"),
    ("caption media --dry-run 3", 2, "unexpected argument 3"),
    ("caption media --metadata nowhere.csv", 2, "--metadata nowhere.csv cannot be read: no such file"),
    ("caption media --facts bad.jsonl", 2, "line 1 is not valid JSON: write one object per line"),
    ("caption media --metadata bad.csv", 2, "call that column 'file_name'"),
    ("caption media --metadata latin.txt", 2, "not UTF-8 text: save it as UTF-8"),
    ("caption media --examples nowhere", 2, "--examples nowhere cannot be read: no such file"),
    ("caption media --config nowhere.toml", 1, "--config nowhere.toml cannot be read: no such file"),
    ("caption media --config bad.toml", 1, "--config bad.toml is not valid TOML"),
    ("caption media --config nested.toml", 1, "--config nested.toml is not valid TOML: it is nested too deeply"),
    ("caption media --format nested.json", 2, "--format nested.json cannot be read: it is nested too deeply"),
    ("caption media --metadata nested.jsonl", 2, "line 1 is not valid JSON: write one object per line"),
    ("caption media --engine scripted -m nested.json", 1, "the script nested.json is not valid JSON: correct it"),
    ("caption media --config latin.txt", 1, "not UTF-8 text: save it as UTF-8"),
    ("caption media --config wrong.toml", 1, "--config wrong.toml: --frames x: give a whole number"),
    ("caption media --config switch.toml", 1, "--frames true: give a number, not true or false"),
    ("caption media --config audio.toml", 1, "--audio true: give one of"),
    ("caption media --config counts.toml", 1, "--train-frames [True, 33]: write it as a number, or several"),
    ("caption media --config misspelt.toml", 1, "unknown setting 'frame'. Did you mean frames?"),
    ("caption media --config table.toml", 1, "[image]: unknown setting 'promt'. Did you mean prompt?"),
    ("caption media --config both.toml", 1, "[clip]: unknown setting 'frames'. It is one setting for images and clips"),
    ("caption media --config command.toml", 1, "dry-run is for the command line only: give --dry-run"),
    ("caption media --config empty", 1, "--config empty cannot be read: it is a folder"),
    ("caption media --examples shown", 2, "--examples: shown/a.txt cannot be read: it is not UTF-8 text"),
    ("caption media --config kind.toml", 1, "[image] max_new_tokens 0: give 1 or more"),
    ("caption media --config image.toml", 1, "[image] 3: write it as a table of settings"),
    ("caption empty --model demo", 1, "(0 other files): check the folder, add --recursive"),
    ("check", 2, "FOLDER is required. The dataset to check"),
    ("check wrong.toml", 2, "is a file: give its folder"),
    ("check empty", 1, "no images or clips in"),
    ("check media --extension a/b", 2, "--extension a/b: write it as txt or caption"),
    ("caption ''", 2, "the path is empty: give a folder or a file"),
    ("export media --for csv --output ''", 2, "the path is empty: give a folder or a file"),
    ("compare media --model demo --html empty", 1, "empty cannot be written (it is a folder): give another path"),
    ("compare media --model demo --html bad.csv", 1, "bad.csv cannot be written (it exists, and is not an HTML page)"),
    ("compare media --limit 0", 2, "--limit 0: give 1 or more"),
    (
        "compare media --model demo --html /dev/null/x.html",
        1,
        "x.html cannot be written (a part of its path is a file",
    ),
    ("caption media --train-frames 33", 2, "--train-frames requires --for"),
    ("caption media --only flagged:truncatd", 2, "unknown flag. Did you mean truncated?"),
    ("caption media --begin {stem}", 2, "{stem} in --begin: it has no variables"),
    ("caption media --format fibo --begin A", 2, "--format fibo begins with a brace"),
    ("caption media --span head:-1", 2, "--span head:-1"),
    ("split", 2, "VIDEOS is required. The videos to cut"),
    ("split a.mp4", 2, "--output is required. Write the clips into this folder"),
    ("split a.mp4 --output out --min 2x", 2, "--min 2x: write it as 2s or 1.5s"),
    ("split a.mp4 --output out --min 9s --max 2s", 2, "--min 9s --max 2s allows no clip"),
    ("split a.mp4 sub/a.mp4 --output out", 2, "several videos are named 'a'"),
    ("export media", 2, "--for is required. The trainer or format"),
    ("export media --for nosuch", 2, "unknown trainer or format. Available: diffusion-pipe"),
    ("export media --for csv:wan", 2, "csv is a format without models: use --for csv"),
    ("export empty --for csv", 1, "has no captions for csv: caption it first"),
    ("export media --for csv --include png", 2, "--include png: no file matches png: give *.png for the type"),
    ("restore", 2, "RUN is required. The run's name"),
    ("review nowhere", 1, "nowhere is not a folder"),
    ("review media --port 0", 2, "--port 0: give 1 or more"),
    ("review media --port abc", 2, "--port abc: give a whole number"),
    ("presets show nosuch", 2, "unknown preset 'nosuch'. Available: anima, character"),
    ("doctor --base-url nowhere", 2, "--base-url: write the address with http://"),
    ("--install-completion tcsh", 2, "give one of bash, zsh, fish"),
]
JSON = [
    (words, code)
    for words, code, _ in WRONG
    if words.startswith(("caption", "check", "compare")) and "captoin" not in words
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("media", "empty"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "media" / "a.png")
    for name, text in {
        "bad.toml": "frames = \n",
        "wrong.toml": "frames = 'x'\n",
        "switch.toml": "frames = true\n",
        "audio.toml": "audio = true\n",
        "counts.toml": 'for = "musubi:wan"\ntrain_frames = [true, 33]\n',
        "misspelt.toml": "frame = 3\n",
        "kind.toml": "[image]\nmax_new_tokens = 0\n",
        "image.toml": "image = 3\n",
        "table.toml": "[image]\npromt = 'x'\n",
        "both.toml": "[clip]\nframes = 3\n",
        "command.toml": "dry-run = true\n",
        "void.txt": "",
        "bad.csv": "a,b\n1,2\n",
        "bad.jsonl": "{oops\n",
        "nested.toml": f"prompt = {'[' * 5000}{']' * 5000}\n",
        "nested.json": "[" * 100_000,
        "nested.jsonl": "[" * 100_000,
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes(b"prompt = '\xff'")
    (tmp_path / "shown").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "shown" / "a.png")
    (tmp_path / "shown" / "a.txt").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "code", "says"), WRONG, ids=[words for words, _, _ in WRONG])
def test_a_wrong_command_line_is_told_in_our_words(command, place, words, code, says):
    done = command(*shlex.split(words), cwd=place)
    assert done.code == code
    assert done.out == "" or words == "check empty"  # which prints its summary
    assert done.err.startswith("error: ") and says in done.err
    assert [foreign for foreign in FOREIGN if foreign in done.err] == []


def test_a_command_in_a_folder_that_was_deleted_says_so(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as end:
        main(["check", str(tmp_path)])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("error: the current folder was deleted: change to another")


def test_an_error_that_nobody_foresaw_is_told_without_a_traceback_and_without_a_token(command, monkeypatch):
    def fail(*words: object, **options: object) -> None:
        raise RuntimeError("no idea, hf_SECRETSECRET")

    monkeypatch.setattr("gemma_captioner.cli.shell.app", fail)
    done = command("targets")
    assert done.code == 1
    assert done.err == "error: unexpected error (RuntimeError: no idea, [token]): please report it\n"


@pytest.mark.parametrize("answers", [True, False])
def test_the_terminal_obeys_no_name_that_a_server_sends(command, place, answers):
    name = "\x1b]0;owned\x07\x1b[2Jm"
    reply = HttpResponse(body=completion("A black square."))
    with StubServer(lambda asked: reply, models=(name,) if answers else (name, "other")) as stub:
        done = command("caption", "media", "--base-url", stub.url, cwd=place)
    assert done.code == (0 if answers else 1) and "\\x1b[2Jm" in done.err
    assert not {"\x1b", "\x07"} & set(done.err + done.out)


@pytest.mark.parametrize(("words", "code"), JSON, ids=[words for words, _ in JSON])
def test_with_json_the_error_is_in_the_object(command, place, words, code):
    done = command(*shlex.split(words), "--json", cwd=place)
    assert done.code == code and done.json["error"] in done.err
    assert [foreign for foreign in FOREIGN if foreign in json.dumps(done.json)] == []


NAMES = [n for g, f in Settings.model_fields.items() if g not in ("image", "clip") for n in f.annotation.model_fields]
ODD = (None, "", "\x00", -1, 0, 3, 1.5, float("nan"), float("inf"), 10**400, True, b"x", "hf_SECRETSECRET")
ODD_GROUPS = ([], [None], {}, {"a": 1}, object(), ["a", 1])


@pytest.mark.parametrize("name", [*NAMES, "image", "clip", "prompts"])
def test_no_value_of_any_setting_is_refused_in_words_of_pydantic(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value, kind in itertools.product((*ODD, *ODD_GROUPS), (None, "image", "clip")):
        try:
            Settings.from_dict({name: value} if kind is None else {kind: {name: value}})
        except UsageError as error:
            assert [foreign for foreign in FOREIGN if foreign in str(error)] == []
            assert "cannot be used" not in str(error)
            assert name != "hf_token" or "SECRET" not in str(error)


def test_counts_agree_with_their_noun():
    assert [counted(n, "clip") for n in (0, 1, 1200)] == ["0 clips", "1 clip", "1,200 clips"]
