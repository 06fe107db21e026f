"""The first hour of a new user: no message of the command line may mislead."""

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pyte
import pytest
from rich.console import Console

from gemma_captioner import Captioned, Run, Settings, StartError, caption
from gemma_captioner.cli import progress
from gemma_captioner.cli.progress import ProgressReporter, Rate
from gemma_captioner.dataset.journal import journal_path, new_run_id
from gemma_captioner.engines import engine_for
from gemma_captioner.engines.local import auto, hardware
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.memory import GIB
from gemma_captioner.pipeline.failures import describe_failures
from gemma_captioner.text import format_estimate
from gemma_captioner.types import Activity, Failed, MediaItem
from tests.support.command import AS_UNPRIVILEGED_USER
from tests.support.files import captions, journal
from tests.support.servers import HttpResponse, StubServer
from tests.support.waiting import wait_until

SCRIPTED = ("--engine", "scripted", "--model")


def shown(done) -> list[str]:
    return done.err.splitlines()


def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path):
    (tmp_path / "cyclopts.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "gemma_captioner", "caption", "photos"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_a_finished_folder_says_how_to_replace_its_captions(command, media, script):
    words = ("caption", media, *SCRIPTED, script())
    assert "overwrite" not in command(*words).err
    assert "--existing overwrite" in command(*words).err


def test_a_comparison_names_the_model_that_auto_means(command, media):
    done = command("compare", media, "--prompt", "A", "--prompt", "B", "--json")
    assert done.code == 1 and done.err.count("--model auto: unsloth/gemma-3-") == 1
    assert "auto" not in done.err.replace("--model auto: ", "")


def test_an_output_that_is_a_file_is_told(command, media, script):
    done = command("caption", media, *SCRIPTED, script(), "--output", media / "01-red-circle.png")
    assert done.code == 1 and "is a file: give a folder" in done.err


def test_an_export_never_replaces_a_folder(command, media):
    (media / "01-red-circle.txt").write_text("A red circle.")
    done = command("export", media, "--for", "csv", "--output", media)
    assert done.code == 1 and "is a folder: name a file in it" in done.err
    assert (media / "01-red-circle.png").exists()


def test_replies_and_names_that_are_no_unicode_are_captions(command, media, script):
    """JSON may hold half an emoji, and a file name any bytes."""
    name = os.fsdecode(b"lat\xe9n.png")
    (media / "01-red-circle.png").rename(media / name)
    words = ("caption", media, *SCRIPTED, script(default="A dog \ud83d runs\0 \u202eof {name}."), "--prompt", "{stem}")
    done = command(*words, "--json")
    assert (done.code, done.json["captioned"]) == (0, 8), done.err
    assert captions(media)[name.replace(".png", ".txt")] == "A dog? runs of lat?n.png."
    exported = command("export", media, "--for", "csv")
    assert exported.code == 3 and "its name is not valid UTF-8" in exported.err and "7 written" in exported.err


def test_an_existing_caption_is_read_in_its_encoding(command, media, script):
    (media / "01-red-circle.txt").write_bytes(b"caf\xe9 on a table")
    words = (
        "caption",
        media,
        *SCRIPTED,
        script(default="A cup."),
        "--existing",
        "overwrite",
        "--suffix",
        " {existing}",
    )
    assert command(*words).code == 0
    assert captions(media)["01-red-circle.txt"] == "A cup. caf\xe9 on a table"


def test_corrected_metadata_makes_a_caption_stale(command, media, script):
    names = sorted(path.stem for path in media.glob("*.*"))

    def run(place: str, *more: object):
        table = media.parent / "places.csv"
        table.write_text("file_name,place\n" + "".join(f"{n},{place if n == names[0] else 'Rome'}\n" for n in names))
        options = ("--metadata", table, "--prompt", "Describe {place}.", "--json", *more)
        return command("caption", media, *SCRIPTED, script(default="{prompt}"), *options).json

    assert run("Lisbon")["captioned"] == 8
    assert run("Lisbon", "--existing", "stale")["captioned"] == 0
    assert run("Porto", "--existing", "stale")["captioned"] == 1
    assert captions(media)[f"{names[0]}.txt"] == "Describe Porto."


def test_an_export_of_what_the_trainer_does_not_read_says_so(command, media):
    for image in [*media.glob("*.png"), *media.glob("*.jpg")]:
        image.unlink()
    for clip in media.glob("*.mp4"):
        clip.with_suffix(".txt").write_text("A red circle.")
    done = command("export", media, "--for", "sd-scripts")
    assert done.code == 1 and "3 captioned files, all of a kind that sd-scripts does not read" in done.err


def test_a_model_that_cannot_be_had_is_an_error_in_json_and_no_command_follows(command, media):
    done = command("caption", media, "--model", "nosuch/model", "--dry-run", "--json")
    assert done.code == 1 and done.json["error"] == done.json["shortage"]
    done = command("caption", media, "--model", "demo", "--tokenizer", "nosuch", "--target", "wan", "--limit", "1")
    assert done.code == 1 and "Next:" not in done.err


# A prompt never has a hole


def test_a_file_that_would_leave_a_hole_in_the_prompt_fails_before_the_model_sees_it(command, media, script, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("file_name,place,note\n01-red-circle.png,Lisbon,\n02-black-square.jpg,Porto,at night\n")
    words = ("caption", media, *SCRIPTED, script(default="{prompt}"), "--metadata", table)
    dry = command(*words, "-p", "In {place}, {note}.", "--dry-run", "--json")
    done = command(*words, "-p", "In {place}, {note}.", "--json")
    assert done.code == dry.code == 3 and (dry.json["images"], dry.json["clips"]) == (1, 0)
    assert captions(media) == {"02-black-square.txt": "In Porto, at night."}
    errors = {Path(f["path"]).name: f["error"] for f in done.json["failures"]}
    assert errors == {Path(f["path"]).name: f["error"] for f in dry.json["failures"]}
    assert "{note} is empty" in errors["01-red-circle.png"] and "the row" in errors["01-red-circle.png"]
    assert "--metadata has no row for the file" in errors["03-white-circle.png"] and len(errors) == 7


def test_only_the_existing_caption_may_be_empty(command, media, script):
    (media / "01-red-circle.txt").write_text("a, b, c, d")
    words = ("caption", media, *SCRIPTED, script(default="{prompt}"), "--existing", "overwrite", "--include", "0[12]*")
    done = command(*words, "-p", "Use {tags}.", "--json")
    assert (done.json["captioned"], done.json["failed"]) == (1, 1)
    assert "{tags} is empty" in done.json["failures"][0]["error"]
    assert command(*words, "-p", "Improve: {existing}").code == 0


# An interrupted run resumes


def interrupt(media: Path, script: Path, outcomes: int, **settings) -> None:
    """Leave a run undone after so many outcomes."""
    with closing(caption(media, engine="scripted", model=str(script), **settings)) as run:
        for _ in range(outcomes):
            next(run)


def test_an_interrupted_overwrite_goes_on_where_it_ended_and_a_finished_one_starts_anew(command, media, script):
    path = script(batch_size=1)
    words = ("caption", media, *SCRIPTED, path, "--existing", "overwrite", "--json")
    assert command(*words).json["captioned"] == 8
    interrupt(media, path, 3, existing="overwrite")
    other = command(*words, "--dry-run", "-p", "Another prompt.")
    assert other.json["images"] + other.json["clips"] == 8
    resumed = command(*words)
    assert (resumed.json["captioned"], resumed.json["skipped"]) == (5, 3)
    assert "3 skipped (3 captioned by the unfinished run that this one resumes)" in resumed.err
    assert command(*words).json["captioned"] == 8


def test_an_overwrite_with_failures_redoes_only_these(command, media, script):
    words = ("caption", media, *SCRIPTED, script(replies={"01-red-circle.png": {"error": "refused"}}), "--json")
    words += ("--existing", "overwrite")
    assert command(*words).json["failed"] == 1
    script()
    again = command(*words).json
    assert (again["captioned"], again["skipped"]) == (1, 7)
    assert command(*words).json["captioned"] == 8


def test_flagged_files_that_an_interrupted_run_captioned_again_are_not_done_twice(command, media, script):
    path = script(default="Short.", batch_size=1)
    command("caption", media, *SCRIPTED, path)
    interrupt(media, path, 2, only="flagged")
    done = command("caption", media, *SCRIPTED, path, "--only", "flagged", "--json").json
    assert (done["captioned"], done["skipped"]) == (6, 2)


# The summary


def test_the_summary_names_flags_files_places_and_the_commands_that_come_next(command, media, script):
    path = script(
        default="A caption of four words.", replies={"03-white-circle.png": "Short.", "b.png": {"error": "x"}}
    )
    for name in ("b.png", "e.png"):
        (media / name).write_bytes((media / "01-red-circle.png").read_bytes())
    for name in ("c.png", "d.png"):
        (media / name).write_bytes(b"no picture")
    words = ("caption", media, *SCRIPTED, path, "--limit", "11", "--hf-token", "hf_SECRETSECRET")
    done = command(*words)
    assert f"Captions: beside the files in {media}; median length 5 words" in shown(done)
    assert "flagged too_short: 03-white-circle.png" in shown(done)
    redo = f"  gemma-captioner caption {media} {' '.join(map(str, SCRIPTED))} {path} --hf-token TOKEN --only flagged"
    assert f"  {redo}" in shown(done) and "  Caption the flagged files again:" in shown(done)
    assert "  2 files: cannot read this image" in done.err and "  b.png: x" in shown(done)
    assert "SECRET" not in done.err and "without a caption" not in done.err
    assert f"    gemma-captioner check {media}" in shown(done)
    assert "--limit 11: all 12 files would take about" in done.err


def test_limit_0_says_what_it_did(command, media, script):
    done = command("caption", media, *SCRIPTED, script(), "--limit", "0")
    assert done.code == 0 and "--limit 0: nothing was captioned, and 8 files would be without it" in shown(done)


@pytest.mark.parametrize("seconds, text", [(0.2, "1 s"), (42, "40 s"), (1500, "25 min"), (7800, "2 h 10 min")])
def test_an_estimate_is_as_exact_as_it_can_be(seconds, text):
    assert format_estimate(seconds) == text


def test_collisions_come_first_with_the_ways_out(command, media, script):
    shutil.copy(media / "01-red-circle.png", media / "06-blue-triangle.png")
    dry = command("caption", media, *SCRIPTED, script(), "--dry-run")
    done = command("caption", media, *SCRIPTED, script())
    says = "2 files would share a caption with another"
    [line] = [line for line in shown(done) if line.startswith(says)]
    assert says in dry.out.splitlines()[0] and "--name full" in line and "--exclude" in line
    assert shown(done)[shown(done).index(line) - 1].startswith("7 captioned") and "These files failed" not in done.err


def test_failures_that_differ_only_in_the_file_are_grouped():
    """Also if the name of a file is a word of the message."""
    named = "has no source image in x: add one named {0}.*, or several named {0}_0.*"
    failures = [(f"{name}.png", "{title} is empty, because of this") for name in ("empty", "of", "c")]
    failures += [(f"{name}.png", named.format(name)) for name in ("c d", "e")]
    assert list(describe_failures(failures)) == [
        "3 files: {title} is empty, because of this",
        "  empty.png, of.png, c.png",
        f"2 files: {named.format('c d')}",
        "  c d.png, e.png",
    ]


def test_subfolders_that_are_not_searched_are_reported(command, media, script, tmp_path):
    top = tmp_path / "top"
    shutil.copytree(media, top / "inside")
    (top / "notes").mkdir()
    note = "1 subfolder not searched (8 media files): add --recursive"
    nothing = command("caption", top, *SCRIPTED, script())
    assert nothing.code == 1 and note in nothing.err
    shutil.copy(media / "01-red-circle.png", top)
    assert note in command("caption", top, *SCRIPTED, script(), "--dry-run").out
    assert note in shown(command("caption", top, *SCRIPTED, script()))
    for other in (("check",), ("export", "--for", "csv")):
        assert note in command(*other, top).err
        assert "not searched" not in command(*other, top, "--exclude", "inside").err
        assert "not searched" not in command(*other, top, "-r").err
    assert "not searched" not in command("caption", top, *SCRIPTED, script(), "-r").err
    (top / "01-red-circle.txt").unlink()
    assert note in command("export", top, "--for", "csv").err


# Other commands


def test_split_takes_a_folder(command, media, tmp_path):
    words = ("split", media, "--detector", "none", "--min", "0.2")
    assert command(*words, "-o", media).code == 2
    done = command(*words, "-o", tmp_path / "clips")
    assert done.code == 0 and len(list((tmp_path / "clips").glob("*.mp4"))) == 3
    (tmp_path / "empty").mkdir()
    assert "has no videos" in command("split", tmp_path / "empty", "-o", tmp_path / "clips").err


def test_check_names_captions_with_other_extensions(command, media):
    (media / "01-red-circle.txt").write_text("A red circle on a blue background.")
    (media / "01-red-circle.caption").write_text("Another caption.")
    (media / "02-black-square.json").write_text("{}")
    found = command("check", media, "--json").json["findings"]
    said = {Path(f["path"]).name: f["what"] for f in found if f["code"] in ("other_caption", "no_caption")}
    assert said["01-red-circle.png"].endswith("01-red-circle.caption beside 01-red-circle.txt")
    assert "02-black-square.json exists" in said["02-black-square.jpg"]


def test_the_doctor_of_a_dead_server_exits_with_1_and_names_its_own_options(command):
    for words in (("--model", "m"), ("--api-key-env", "KEY"), ("--image-size", 64)):
        done = command("doctor", *words)
        assert done.code == 2 and f"{words[0]} requires --base-url" in done.err
    done = command("doctor", "--base-url", "http://127.0.0.1:9/v1")
    assert done.code == 1 and "--base-url" in done.out and "--wait-for-server" not in done.out
    assert "[Errno" not in done.out


def test_a_key_that_the_server_requires_is_told_by_its_variable(command, media):
    with StubServer(lambda asked: HttpResponse(401, {"error": {"message": "No key"}})) as stub:
        words = ("--engine", "server", "--base-url", stub.url, "--api-key-env", "MY_KEY")
        done = command("caption", media, *words)
    assert done.code == 1 and "Set the environment variable MY_KEY" in done.err


@pytest.mark.parametrize("option", ["--prompt-file", "--format"])
def test_a_home_folder_of_nobody_is_a_file_that_is_not_there(command, media, script, option):
    done = command("caption", media, *SCRIPTED, script(), option, "~nobody-has-this-name/a.json")
    assert done.code == 2 and f"{option} ~nobody-has-this-name/a.json cannot be read" in done.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("check", "~nobody-has-this-name"), 1, "~nobody-has-this-name does not exist"),
        (("check", ".", "--captions", "~nobody-has-this-name"), 2, "~nobody-has-this-name: there is no such folder"),
        (("check", ".", "--tokenizer", "~nobody-has-this-name"), 1, "'~nobody-has-this-name' is not a model name"),
        (("caption", ".", "--model", "~nobody-has-this-name", "--dry-run"), 1, "~nobody-has-this-name"),
    ],
)
def test_a_home_folder_of_nobody_is_a_folder_that_is_not_there(command, media, monkeypatch, words, code, says):
    monkeypatch.chdir(media)
    done = command(*words)
    message = (done.out + done.err).replace("\n", " ")
    assert done.code == code and says in message and "unexpected error" not in message


def test_an_invalid_folder_is_told_when_caption_is_called():
    with pytest.raises(StartError):
        caption("/no/such/folder", model="demo")


@pytest.mark.parametrize("words", [("caption", "--model", "demo"), ("check",)])
def test_a_folder_that_may_not_be_read_is_told_in_words(tmp_path, words):
    (locked := tmp_path / "locked").mkdir(0)
    command = [*AS_UNPRIVILEGED_USER, sys.executable, "-m", "gemma_captioner", words[0], str(locked), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (1, 3) and "permission denied" in (done.stdout + done.stderr).lower()
    assert not any(foreign in done.stderr for foreign in ("Traceback", "[Errno", "unexpected error"))


@pytest.mark.skipif(os.name == "nt", reason="chmod takes no writing away there")
def test_the_dry_run_tells_where_no_caption_can_be_written(media, script):
    command = [*AS_UNPRIVILEGED_USER, sys.executable, "-m", "gemma_captioner", "caption", str(media), "--dry-run"]
    command += ["--engine", "scripted", "--model", str(script())]
    media.chmod(0o555)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and f"{media}: no caption can be written there" in done.stdout.replace("\n", " ")


# First contact


def test_without_a_command_or_a_path_five_lines_say_what_to_do(command):
    bare, pathless = command(), command("caption")
    assert bare.code == 0 and len(bare.out.splitlines()) == 5 and "gemma-captioner demo" in bare.out
    assert pathless.code == 2 and len(shown(pathless)) == 5 and "caption photos/ --limit 5 --show" in pathless.err


def test_what_a_cpu_means_is_said_before_anything_is_downloaded():
    lines: list[str] = []
    engine_for(Settings.from_dict({"model": "unsloth/gemma-3-12b-it", "device": "cpu"}), lines.append)
    [line] = lines
    assert "minutes per file" in line and "24 GB" in line
    assert all(way in line for way in ("--model demo", "--engine server", "--model unsloth/gemma-3-4b-it"))
    engine_for(Settings.from_dict({"model": "demo", "device": "cpu"}), lines.append)
    assert len(lines) == 1


@pytest.mark.parametrize(
    "gib, has_bitsandbytes, model, says",
    [
        (80, True, "12b", "in 16 bits"),
        (20, True, "12b", "in 8 bits"),
        (14, True, "12b", "in 4 bits"),
        (11.5, True, "4b", "in 16 bits"),
        (20, False, "4b", "unsloth/gemma-3-12b-it would fit in 8 bits with pip install"),
        (2, True, "4b", "may not fit"),
    ],
)
def test_auto_is_the_first_model_that_fits(monkeypatch, gib, has_bitsandbytes, model, says):
    for name, value in (("choose_device", "cuda"), ("free_memory", int(gib * GIB)), ("free_memory_of_other_gpus", 0)):
        monkeypatch.setattr(hardware, name, lambda *_, value=value: value)
    monkeypatch.setattr(auto, "find_spec", lambda name: has_bitsandbytes or None)
    name, report = auto.choose_auto_model(Settings())
    assert name == f"unsloth/gemma-3-{model}-it" and says in report and name in report


def test_auto_is_what_an_absent_model_means_and_hashes_as_the_model_that_it_prefers():
    absent, named = Settings(), Settings.from_dict({"model": "unsloth/gemma-3-12b-it"})
    assert absent == Settings.from_dict({"model": "auto"}) and not absent.has_explicit_model
    for kind in ("image", "clip"):
        hashes = {s.settings_hash(kind) for s in (absent, absent.with_model("unsloth/gemma-3-12b-it"), named)}
        assert len(hashes) == 1 and absent.with_model("unsloth/gemma-3-4b-it").settings_hash(kind) not in hashes


def test_an_unfinished_run_keeps_its_model_unless_another_is_given(media, tmp_path):
    own = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "own")
    with closing(caption(media, model=str(own), batch_size=1)) as run:
        assert isinstance(next(run), Captioned)
    lines: list[str] = []
    resumed = Run([media], Settings(), log=lines.append)
    assert resumed.settings.model.model == str(own) and f"with its model, {own}" in lines[0]
    assert Run([media], Settings.from_dict({"model": "demo"})).settings.model.model == "demo"
    with closing(resumed):
        assert all(isinstance(outcome, Captioned) or outcome.reason for outcome in resumed)
    assert {line["model"] for line in journal(media) if line["kind"] == "caption"} == {str(own)}
    assert not Run([media], Settings()).settings.has_explicit_model  # nothing to caption: no memory is measured


def test_a_trial_of_the_demo_does_not_decide_the_model(media, monkeypatch):
    settings = {"model": {"engine": "local", "model": "demo"}}
    path = journal_path(media, new_run_id())
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"kind": "run", "run": path.stem, "completes": True, "settings": settings}))
    monkeypatch.setattr(auto, "choose_auto_model", lambda settings: ("unsloth/gemma-3-12b-it", "chosen"))
    assert Run([media], Settings()).settings.model.model == "unsloth/gemma-3-12b-it"


# The progress display


def test_the_rate_is_that_of_the_last_minute_and_without_the_loading():
    rate = Rate()
    rate.add(10.0, 1)  # failed before the model was loaded
    rate.add(110.0, 2, loaded_at=100.0)
    assert rate.per_second(110.0) == pytest.approx(0.1)
    for second in range(111, 300):
        rate.add(float(second), 2 + 2 * (second - 110), loaded_at=100.0)
    assert rate.per_second(299.0) == pytest.approx(2.0, rel=0.05)
    slow = Rate()
    slow.add(600.0, 1, loaded_at=0.0)
    slow.add(1200.0, 2, loaded_at=0.0)
    assert slow.per_second(1200.0) == pytest.approx(1 / 600)


class WatchedRun:
    loaded_at, total = None, 3000
    activity = Activity("the model", tuple(f"a-long-name-{n:04d}.png" for n in range(30)))


def failed(name: str) -> Failed:
    return Failed(MediaItem(Path(name), "image", name, Path("x.txt"), Path()), "cannot be read: replace or remove it")


def test_a_terminal_shows_the_run_and_no_library_garbles_it():
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    reader = threading.Thread(target=lambda: [stream.feed(data) for data in iter(lambda: _read(ours), b"")])
    reader.start()
    kept = os.dup(2)
    os.dup2(theirs, 2)
    os.close(theirs)
    try:
        with open(os.dup(2), "w") as terminal:
            report = ProgressReporter(Console(file=terminal, width=80, force_terminal=True), show=False)
            with report:
                report.watch(WatchedRun())
                report.log("the model is loaded")
                for number in range(40):
                    os.write(2, b"[libx] a C library warns %d\n" % number if number % 20 == 0 else b"\r%d%%|#" % number)
                report.update(failed("b.png"), 3000)
                wait_until(lambda: any("1/3,000 files" in line for line in screen.display))
                wait_until(lambda: any("warns 20" in line for line in screen.display))
                lines = [line.rstrip() for line in screen.display if line.strip()]
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        reader.join(timeout=30)
    warnings = [line for line in lines if "libx" in line]
    assert len(warnings) == 2 and all(line.endswith(f"warns {n}") for line, n in zip(warnings, (0, 20), strict=True))
    assert "the model is loaded" in lines and "failed: b.png: cannot be read: replace or remove it" in lines
    assert lines[-2].endswith("1/3,000 files")
    assert lines[-1].startswith("1 failed, waiting for the model: a-long-name-0000.png, ") and lines[-1].endswith("…")
    assert len(lines) == 6
    after = [line.rstrip() for line in screen.display if line.strip()]
    assert after == lines[:4]  # nothing of the display is left


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


def test_without_a_terminal_a_line_comes_every_half_minute(tmp_path, monkeypatch):
    assert progress._PLAIN_INTERVAL_S == 30
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL_S", 0.05)
    with (tmp_path / "log").open("w") as file:
        report = ProgressReporter(Console(file=file), show=False)
        with report:
            report.watch(WatchedRun())
            wait_until(lambda: "3,000" in (tmp_path / "log").read_text())
    line = (tmp_path / "log").read_text().splitlines()[0]
    assert line == "0/3,000 files, waiting for the model"


def test_a_run_says_what_it_waits_for(media, script):
    path = script(batch_size=1, delay_s=0.1)  # for each of 8 files
    run = Run([media], Settings.from_dict({"engine": "scripted", "model": str(path), "workers": 1}))
    seen, ended = set(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            activity = run.activity
            seen.add((activity.waiting_for, bool(activity.files)))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    with closing(run):
        assert len(list(run)) == 8
        ended.set()
        watching.join()
        assert ("the model", True) in seen
        assert (run.activity.waiting_for, run.activity.files) == ("", ())
