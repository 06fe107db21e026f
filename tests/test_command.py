"""The command line as a user meets it: flags, exit codes, what is written and what is left alone."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from gemma_captioner import Settings
from gemma_captioner.dataset import sidecar
from gemma_captioner.errors import StorageError
from tests.support.command import ForkServer
from tests.support.files import captions, journal

ALL = ["01", "02", "03", "04", "05", "06", "07", "08"]


def scripted(script, **values):
    return ["--engine", "scripted", "--model", script(**values)]


def test_a_folder_is_captioned_and_a_second_run_does_nothing(command, media, script):
    engine = scripted(script)
    first = command("caption", media, *engine, "--json")
    assert first.code == 0, first.err
    assert first.json | {"seconds": 0, "load_seconds": 0} == {
        "captioned": 8,
        "skipped": 0,
        "failed": 0,
        "flagged": 0,
        "seconds": 0,
        "load_seconds": 0,
        "failures": [],
    }
    written = captions(media)
    assert sorted(name[:2] for name in written) == ALL
    for name, caption in written.items():
        assert caption.startswith(f"A scripted caption of {Path(name).stem}")
        assert "\n" not in caption
    again = command("caption", media, "--model", "no/such-model", "--json")  # the model is not even looked for
    assert again.code == 0, again.err
    assert (again.json["captioned"], again.json["skipped"]) == (0, 8)
    assert captions(media) == written


def test_nothing_else_is_left_in_the_media_folder(command, media, script):
    before = {p.name for p in media.iterdir()}
    command("caption", media, *scripted(script))
    added = {p.name for p in media.iterdir()} - before
    assert {name for name in added if not name.endswith(".txt")} == {".gemma-captioner"}
    assert list((media / ".gemma-captioner" / "tmp").iterdir()) == []


def test_a_caption_by_hand_counts_and_is_kept(command, media, script):
    by_hand = next(media.glob("03*")).with_suffix(".txt")
    by_hand.write_text("mine")
    done = command("caption", media, *scripted(script), "--json")
    assert done.json["skipped"] == 1
    assert by_hand.read_text() == "mine"


def test_an_empty_caption_file_is_no_caption(command, media, script):
    empty = next(media.glob("03*")).with_suffix(".txt")
    empty.touch()
    assert command("caption", media, *scripted(script), "--json").json["captioned"] == 8
    assert empty.read_text()


def test_overwrite_and_restore(command, media, script):
    command("caption", media, *scripted(script, default="Old {name}."))
    old = captions(media)
    done = command("caption", media, *scripted(script, default="New {name}."), "--existing", "overwrite", "--json")
    assert done.json["captioned"] == 8
    edited = next(media.glob("05*.txt"))
    edited.write_text("edited since")
    runs = sorted(p.stem for p in (media / ".gemma-captioner" / "runs").iterdir())
    restored = command("restore", runs[1], media)
    assert restored.code == 3, restored.err
    assert "7 captions restored, 1 not restored" in restored.out
    assert f"{edited.name}: edited since" in restored.err
    assert captions(media) == old | {edited.name: "edited since"}
    edited.write_text(old[edited.name])
    again = command(
        "restore", media / ".gemma-captioner" / "runs" / f"{runs[1]}.jsonl", media
    )  # as the summary shows it
    assert again.code == 0, again.err
    assert "8 captions restored, 0 not restored" in again.out


def test_restore_that_is_cut_short_says_what_it_did(command, media, script, monkeypatch):
    command("caption", media, *scripted(script))
    command("caption", media, *scripted(script, default="New."), "--existing", "overwrite")
    run = sorted(p.stem for p in (media / ".gemma-captioner" / "runs").iterdir())[-1]
    write, written = sidecar.write, count()

    def write_three(*args: object, **named: object) -> None:
        if next(written) == 3:
            raise StorageError("the disk is full")
        write(*args, **named)

    monkeypatch.setattr(sidecar, "write", write_three)
    done = command("restore", run, media)
    assert done.code == 1 and "the disk is full" in done.err and "3 captions restored, 0 not restored" in done.out


def test_restore_of_an_unknown_run_lists_those_there_are(command, media, script):
    command("caption", media, *scripted(script))
    [run] = [p.stem for p in (media / ".gemma-captioner" / "runs").iterdir()]
    done = command("restore", "nonsense", media)
    assert done.code == 1
    assert run in done.err.replace("\n", "")


def test_stale_redoes_what_other_settings_or_other_media_made(command, media, script):
    engine = scripted(script, default="{prompt} of {name}.")
    command("caption", media, *engine, "--prompt", "one")
    edited = next(media.glob("02*.txt"))
    edited.write_text("a person's words")
    by_hand = next(media.glob("03*.txt"))
    for line_free in (media / ".gemma-captioner" / "runs").iterdir():  # one caption the journal knows nothing of
        lines = [line for line in line_free.read_text().splitlines() if by_hand.name not in line]
        line_free.write_text("\n".join(lines) + "\n")
    same = command("caption", media, *engine, "--prompt", "one", "--existing", "stale", "--json")
    assert (same.json["captioned"], same.json["skipped"]) == (0, 8)
    changed = next(media.glob("01*.png"))
    Image.open(changed).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(changed)
    after_change = command("caption", media, *engine, "--prompt", "one", "--existing", "stale", "--json")
    assert after_change.json["captioned"] == 1
    other = command("caption", media, *engine, "--prompt", "two", "--existing", "stale", "--json")
    assert (other.json["captioned"], other.json["skipped"]) == (6, 2)
    assert edited.read_text() == "a person's words"
    assert by_hand.read_text().startswith("one of")
    finished = command("caption", media, *engine, "--prompt", "two", "--existing", "stale", "--json")
    assert finished.json["captioned"] == 0


def test_stale_goes_on_where_it_was_interrupted(command, media, script):
    engine = scripted(script, default="{prompt} of {name}.")
    command("caption", media, *engine, "--prompt", "one")
    stale = [*engine, "--prompt", "two", "--existing", "stale", "--json"]
    assert command("caption", media, *stale, "--limit", "3").json["captioned"] == 3
    assert command("caption", media, *stale).json["captioned"] == 5


def test_the_journal_tells_where_a_caption_came_from(command, media, script):
    engine = scripted(script, replies={"01-red-star.png": {"text": "cut", "finish_reason": "length"}})
    name = next(media.glob("01*")).name
    engine = scripted(script, replies={name: {"text": "It was cut", "finish_reason": "length"}})
    done = command("caption", media, *engine, "--prompt", "What?", "--hf-token", "hf_abcdefghijklmnop", "--json")
    assert done.json["flagged"] == 1
    lines = journal(media)
    assert lines[0]["kind"] == "run" and lines[0]["settings"]["prompting"]["prompt"] == ["What?"]
    settings = lines[0]["settings"]
    groups = "selection sampling reading prompting generation judging model server conduct cluster image clip"
    assert list(settings) == groups.split() and "facts" in settings["prompting"]  # the names of all versions
    assert Settings.model_validate(settings).prompts["image"] == ("What?",)
    made = next(line for line in lines if line.get("path") == name)
    assert made["prompts"] == ["What?"]
    assert made["raw"] == ["It was cut"] and made["finish_reasons"] == ["length"] and made["flags"] == ["truncated"]
    stat = (media / name).stat()
    assert made["media"] == f"{stat.st_size}:{stat.st_mtime_ns}"
    clip = next(line for line in lines if line.get("path", "").endswith(".mp4"))
    assert len(clip["frame_times_s"]) == 12
    assert "hf_" not in json.dumps(lines)


def test_only_what_failed_or_was_flagged_is_captioned_again(command, media, script):
    one, two, three = sorted(p.name for p in media.iterdir())[:3]
    cut = {"text": "A red star. It was", "finish_reason": "length"}
    replies = {one: {"error": "refused"}, two: cut, three: "There is no dog in this picture of a star."}
    first = command("caption", media, *scripted(script, replies=replies), "--json")
    assert first.json["failed"] == 1 and first.json["flagged"] == 2
    (media / two).with_suffix(".txt").write_text("a person's words")
    by_hand = next(p for p in sorted(media.iterdir()) if p.name == one).with_name("new.png")
    Image.new("RGB", (64, 64)).save(by_hand)
    engine = scripted(script, default="Anew, {name}.")
    flagged = command("caption", media, *engine, "--only", "flagged:truncated", "--json")
    assert flagged.json["captioned"] == 0, "edited since: no longer ours"
    flagged = command("caption", media, *engine, "--only", "flagged", "--json")
    assert flagged.json["captioned"] == 1 and (media / three).with_suffix(".txt").read_text() == f"Anew, {three}."
    failed = command("caption", media, *engine, "--only", "failed", "--json")
    assert failed.json["captioned"] == 1 and (media / one).with_suffix(".txt").exists()
    assert not by_hand.with_suffix(".txt").exists()
    assert command("caption", media, *engine, "--only", "failed", "--json").json["captioned"] == 0
    wrong = command("caption", media, *engine, "--only", "bad")
    assert wrong.code == 2 and "flagged:NAME" in wrong.err


def test_captions_that_stand_on_several_files_are_told_of(command, media, script):
    done = command("caption", media, *scripted(script, default="A star of one kind."))
    assert "8 files have the same caption as another file" in done.err and "gemma-captioner check" in done.err
    again = command("caption", media, *scripted(script), "--existing", "overwrite")
    assert "more than one file" not in again.err


def test_a_bad_file_costs_itself_alone(command, media, script):
    (media / "broken.png").write_bytes(b"no picture at all")
    (media / "empty.mp4").touch()
    cut = media / "cut.jpg"
    cut.write_bytes(next(media.glob("02*.jpg")).read_bytes()[:400])
    (media / "cut.txt").write_text("an older caption")
    done = command("caption", media, *scripted(script), "--existing", "overwrite", "--json")
    assert done.code == 3
    assert done.json["captioned"] == 8
    failed = {Path(f["path"]).name: f["error"] for f in done.json["failures"]}
    assert set(failed) == {"broken.png", "empty.mp4", "cut.jpg"}
    assert "cannot read this image" in failed["broken.png"]
    assert "empty" in failed["empty.mp4"]
    assert "truncated" in failed["cut.jpg"]
    assert cut.with_suffix(".txt").read_text() == "an older caption"
    assert not (media / "broken.txt").exists()
    assert {line["path"] for line in journal(media) if line["kind"] == "failure"} == set(failed)


def test_what_the_engine_refuses_or_answers_with_nothing_fails(command, media, script):
    one, two = sorted(p.name for p in media.glob("*.png"))[:2]
    engine = scripted(script, replies={one: {"error": "refused"}, two: " \n "})
    done = command("caption", media, *engine, "--json")
    assert done.code == 3
    errors = {Path(f["path"]).name: f["error"] for f in done.json["failures"]}
    assert errors[one] == "refused"
    assert "returned no text" in errors[two]
    assert not (media / two).with_suffix(".txt").exists()


def test_files_that_would_share_a_caption_fail_while_others_proceed(command, media, script):
    first = next(media.glob("01*.png"))
    Image.open(first).convert("RGB").save(first.with_suffix(".jpg"))
    done = command("caption", media, *scripted(script), "--json")
    assert done.code == 3
    assert (done.json["captioned"], done.json["failed"]) == (7, 2)
    assert all("--name full" in f["error"] for f in done.json["failures"])
    full = command("caption", media, *scripted(script), "--name", "full", "--json")
    assert full.code == 0
    assert full.json["captioned"] == 9
    assert first.with_name(first.name + ".txt").exists()


def test_output_mirrors_folders(command, media, script, tmp_path):
    (media / "deep" / "er").mkdir(parents=True)
    next(media.glob("01*")).rename(media / "deep" / "er" / "a.png")
    out = tmp_path / "out"
    done = command("caption", media, *scripted(script), "--recursive", "--output", out, "--json")
    assert done.code == 0, done.err
    assert "deep/er/a.txt" in captions(out)
    assert not captions(media)
    assert not (media / ".gemma-captioner").exists()
    assert command("caption", media, *scripted(script), "--recursive", "--output", out, "--json").json["skipped"] == 8


def test_several_folders_under_one_output_stay_apart(command, media, script, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in list(media.glob("*.mp4")):
        path.rename(other / path.name)
    next(media.glob("01*")).rename(media / "same.png")
    next(other.glob("06*")).rename(other / "same.mp4")
    out = tmp_path / "out"
    done = command("caption", media, other, *scripted(script), "--output", out, "--json")
    assert (done.code, done.json["captioned"]) == (0, 8), done.err
    assert {"media/same.txt", "other/same.txt"} <= set(captions(out))


def test_single_files_are_captioned_in_their_folder(command, media, script):
    one = next(media.glob("04*"))
    done = command("caption", one, *scripted(script), "--json")
    assert done.json["captioned"] == 1
    assert list(captions(media)) == [one.with_suffix(".txt").name]
    assert (media / ".gemma-captioner" / "runs").is_dir()


def test_a_file_and_its_folder_given_together_are_captioned_once(command, media, script):
    one = next(media.glob("04*"))
    done = command("caption", one, media, *scripted(script), "--json")
    assert done.json["captioned"] == 8


def test_limit_counts_what_needs_a_caption_in_natural_order(command, tmp_path, script):
    for name in ("b10", "b9", "B1", "a"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("done before")
    command("caption", tmp_path, *scripted(script), "--limit", "2")
    assert set(captions(tmp_path)) == {"a.txt", "B1.txt", "b9.txt"}


def test_include_and_exclude(command, media, script):
    done = command("caption", media, *scripted(script), "--include", "*.PNG", "--exclude", "01*", "--json")
    assert done.json["captioned"] == len(list(media.glob("*.png"))) - 1


def test_debris_is_passed_over_and_other_files_are_counted(command, media, script):
    for name in ("._01.png", "Thumbs.db", ".hidden.png"):
        (media / name).write_bytes(b"x")
    (media / "@eaDir").mkdir()
    (media / "@eaDir" / "a.png").write_bytes(b"x")
    (media / ".dot").mkdir()
    (media / ".dot" / "a.png").write_bytes(b"x")
    (media / "notes.pdf").write_bytes(b"x")
    done = command("caption", media, *scripted(script), "--recursive", "--json")
    assert done.code == 0
    assert "1 other file ignored" in done.err


def test_dry_run_writes_nothing_and_says_what_is_there(command, media, script):
    first = next(media.glob("01*"))
    first.with_suffix(".txt").write_text("done")
    second = next(media.glob("02*"))
    second.with_suffix(".bmp").write_bytes(second.read_bytes())
    before = sorted(media.iterdir())
    done = command("caption", media, "--model", "demo", "--dry-run", "--json")
    assert done.code == 3
    found = done.json
    assert (found["images"], found["clips"], found["frames"], found["existing"]) == (3, 3, 3 + 36, 1)
    assert len(found["failures"]) == 2
    assert found["shortage"] is None and "GiB" in found["model"]
    assert sorted(media.iterdir()) == before
    text = command("caption", media, "--model", "demo", "--dry-run")
    assert "3 images, 3 clips" in text.out and "would fail" in text.out


def test_dry_run_counts_the_prompt_tokens_that_the_model_gets(command, media):
    dry = command("caption", media, "--model", "demo", "--dry-run", "--json").json
    command("caption", media, "--model", "demo")
    real = sum(line["prompt_tokens"] for line in journal(media) if line["kind"] == "caption")
    assert dry["prompt_tokens"] == real


def test_config_file_and_its_kinds(command, media, script, tmp_path):
    config = tmp_path / "captions.toml"
    config.write_text('frames = 4\nprompt = "common"\nexclude = ["05*"]\n[clip]\nprompt = "moves"\n', encoding="utf-8")
    done = command("caption", media, *scripted(script, default="{prompt} {num_frames}"), "--config", config, "--json")
    assert done.json["captioned"] == 7, done.err
    assert set(captions(media).values()) == {"common 1", "moves 4"}
    command("caption", media, "--config", config, "--frames", "2", *scripted(script, default="{num_frames} frames"),
            "--existing", "overwrite", "--include", "*.mp4")  # fmt: skip
    assert {c for n, c in captions(media).items() if n[:2] in ("06", "07", "08")} == {"2 frames"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frame = 4", "frames"),
        ("frames = 0", "--frames 0: give 1 or more"),
        ("frames = [", "--config"),
        ("[clip]\nx = 1", "x"),
    ],
)
def test_a_bad_config_file_is_told_before_anything_starts(command, media, tmp_path, text, says):
    config = tmp_path / "bad.toml"
    config.write_text(text)
    done = command("caption", media, "--config", config)
    assert done.code == 1
    assert says in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--frames", "0"],
        ["--no-such-flag"],
        ["--existing", "sometimes"],
        ["--prompt", ""],
        ["--prompt", "a", "--prompt-file", "b"],
        ["--stop-after", "soon"],
        ["--prompt-file", "/does/not/exist"],
    ],
)
def test_usage_errors_exit_with_2(command, media, arguments):
    done = command("caption", media, *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ") and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--frames", "3.5"], "--frames 3.5: give a whole number"),
        (["--frames", "0"], "--frames 0: give 1 or more"),
        (["--batch-size", "some"], "--batch-size some: write it as a whole number"),
        (["--prompt", ""], "--prompt '': give some text"),
        (["--name", "whole"], "--name whole: give one of stem, full"),
    ],
)
def test_what_is_typed_is_read_as_strictly_as_the_config_file(command, media, arguments, says):
    done = command("caption", media, *arguments)
    assert done.code == 2 and done.err.startswith(f"error: {says}")


def test_a_prompt_that_looks_like_a_list_is_one_prompt(command, media, script):
    assert command("caption", media, "--prompt", '["a", "b"]', *scripted(script)).code == 0
    assert {tuple(line["prompts"]) for line in journal(media) if line["kind"] == "caption"} == {('["a", "b"]',)}


@pytest.mark.parametrize(
    ("text", "completes"),
    [
        ("train_frames = 33", ["--for", "musubi:wan"]),
        ('captions_to = "parquet"', ["--output", "out"]),
        ('preset = "flux-kontext"', ["--control", "sources"]),
    ],
)
def test_an_option_may_complete_the_config_file(command, media, script, tmp_path, monkeypatch, text, completes):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(media, "sources")
    Path("c.toml").write_text(text)
    words = ["caption", media, *scripted(script), "--dry-run", "--config", "c.toml"]
    assert command(*words, *completes).code in (0, 3)
    done = command(*words)
    assert done.code == 1 and f"--config c.toml: --{text.partition(' ')[0].replace('_', '-')}" in done.err
    assert "error: --for nosuch: unknown trainer" in command(*words, "--for", "nosuch").err


def test_options_of_the_command_line_and_the_config_file_are_judged_together(command, media, script, tmp_path):
    config = tmp_path / "captions.toml"
    config.write_text(f'output = "{(tmp_path / "out").as_posix()}"')
    words = ("caption", media, "--captions-to", "parquet", "--dry-run", *scripted(script))
    assert command(*words).code == 2  # it requires --output
    assert command(*words, "--config", config).code == 0


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("caption", {"captioned", "skipped", "failed", "flagged", "seconds", "load_seconds", "failures"}),
        ("check", {"files", "formats", "captions", "errors", "notes", "fixed", "run", "report", "seconds", "findings"}),
        ("compare", {"files", "html", "seconds", "variants"}),
    ],
)
def test_json_of_a_usage_error_is_the_commands_own(command, media, script, name, keys):
    done = command(name, media, "--json", "--no-such-flag")
    assert done.code == 2 and done.json.keys() == keys | {"error"}
    whole = command(name, media, "--json", *(scripted(script) if name != "check" else ()))
    assert whole.json.keys() == keys


def test_usage_without_paths(command):
    assert command("caption").code == 2
    assert command("no-such-command").code == 2


@pytest.mark.parametrize("where", ["empty", "missing", "notes.txt"])
def test_no_media_is_exit_1(command, tmp_path, script, where):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    done = command("caption", tmp_path / where, *scripted(script))
    assert done.code == 1
    assert done.err.startswith("error: ")


def test_prompt_file_prefix_suffix_and_trigger(command, media, script, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("From a file\n")
    command("caption", media, *scripted(script, default="{prompt}\n  in   two lines"), "--prompt-file", prompt,
            "--prefix", "photo: ", "--suffix", " end", "--trigger", "ohwx")  # fmt: skip
    assert set(captions(media).values()) == {"photo: ohwx From a file in two lines end"}


def test_show_prints_captions_and_json_keeps_stdout_clean(command, media, script):
    done = command("caption", media, *scripted(script), "--show", "--json")
    assert done.json["captioned"] == 8
    assert "A scripted caption of 01" in done.err


def test_stop_after_takes_no_new_files(command, media, script):
    done = command("caption", media, *scripted(script), "--stop-after", "0s", "--json")
    assert done.code == 0
    assert done.json["captioned"] == 0
    assert "--stop-after" in done.err


def test_on_finish_runs_with_the_exit_code(command, media, script, tmp_path):
    told = tmp_path / "told"
    command("caption", media, *scripted(script), "--on-finish", f"echo $GEMMA_CAPTIONER_EXIT_CODE > {told}")
    assert told.read_text().strip() == "0"
    command(
        "caption", tmp_path / "missing", *scripted(script), "--on-finish", f"echo $GEMMA_CAPTIONER_EXIT_CODE > {told}"
    )
    assert told.read_text().strip() == "1"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_what_is_finished(fork_server, media, script, number, code):
    path = script(delay_s=0.4, batch_size=1)
    words = ["caption", str(media), "--engine", "scripted", "--model", str(path), "--json"]
    with fork_server.start(words, media) as running:
        while not list(media.glob("*.txt")):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(number)
        done = running.wait()
    assert done.code == code, done.err
    written = captions(media)
    assert 1 <= len(written) < 8
    assert done.json["captioned"] == len(written)
    assert "Traceback" not in done.err


def test_a_folder_that_cannot_be_written_is_told_before_the_model_loads(command, media, script):
    (media / ".gemma-captioner").write_text("in the way")
    done = command("caption", media, *scripted(script, delay_s=60), timeout=30)
    assert done.code == 1
    assert ".gemma-captioner" in done.err and "rename that file" in done.err


def test_a_name_that_is_no_utf8(command, tmp_path, script):
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / name)
    done = command("caption", tmp_path, *scripted(script, default="Fine."), "--show", "--json")
    assert (done.code, done.json["captioned"]) == (0, 1), done.err
    assert (tmp_path / os.fsdecode(b"caf\xe9.txt")).read_text() == "Fine."


# What a first reader of the code found wrong


def test_a_folder_where_a_caption_should_be_costs_that_file_alone(command, media, script):
    first = next(media.glob("01*"))
    first.with_suffix(".txt").mkdir()
    done = command("caption", media, *scripted(script), "--json")
    assert (done.code, done.json["captioned"], done.json["failed"]) == (3, 7, 1), done.err
    assert "a folder has the name of the caption file" in done.json["failures"][0]["error"]


def test_a_link_to_itself_costs_that_file_alone(command, media, script):
    (media / "loop.png").symlink_to("loop.png")
    (media / "loop.txt").symlink_to("loop.txt")
    done = command("caption", media, *scripted(script), "--json")
    assert (done.code, done.json["captioned"], done.json["failed"]) == (3, 8, 1), done.err


def test_stop_after_also_leaves_what_was_only_decoded(command, tmp_path, script):
    for number in range(60):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    engine = scripted(script, delay_s=0.5, batch_size=1)
    done = command("caption", tmp_path, *engine, "--stop-after", "4s", "--json")
    assert done.code == 0 and "--stop-after" in done.err
    assert 1 <= done.json["captioned"] < 20
    assert command("caption", tmp_path, *scripted(script), "--json").json["captioned"] == 60 - done.json["captioned"]


def test_no_model_is_looked_for_where_nothing_can_be_decoded(command, media, script):
    command("caption", media, *scripted(script))
    (media / "bad.mp4").write_bytes(b"nothing")
    script_path = script(size=[32, 32])
    done = command("caption", media, "--engine", "scripted", "--model", script_path)
    assert done.code == 3
    assert "scripted answers" not in done.err  # said when an engine is opened


def test_two_runs_at_once_lose_nothing_where_there_are_no_locks(fork_server, media, script):
    (media / ".gemma-captioner").mkdir()
    (media / ".gemma-captioner" / "locks").write_text("as some network file systems")
    path = script(delay_s=0.05, batch_size=1, default="{prompt} of {name}.")
    words = ["caption", str(media), "--engine", "scripted", "--model", str(path), "--json", "--prompt"]
    runs = [fork_server.start([*words, word], media) for word in ("one", "two")]
    ended = [run.wait() for run in runs]
    assert [done.code for done in ended] == [0, 0]
    assert sum(done.json["captioned"] for done in ended) == 8  # each file by one of them
    assert all(done.json["captioned"] + done.json["skipped"] == 8 for done in ended)
    assert len(captions(media)) == 8


@pytest.mark.parametrize("chosen", [["--include", "*.jpg"], ["--include", "*.png"]])
def test_files_that_would_share_a_caption_fail_also_when_only_one_is_asked_for(command, media, script, chosen):
    first = next(media.glob("01*.png"))
    Image.open(first).convert("RGB").save(first.with_suffix(".jpg"))
    done = command("caption", media, *scripted(script), *chosen, "--json")
    assert done.code == 3 and done.json["failed"] == 1
    assert not first.with_suffix(".txt").exists()
    excluded = command("caption", media, *scripted(script), "--exclude", "01*.jpg", "--json")
    assert excluded.code == 0 and first.with_suffix(".txt").exists()


def test_flags_beat_the_tables_of_the_config_file(command, media, script, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('prompt_file = "nowhere"\n[image]\nprompt = "table"\nmax_new_tokens = 7\n')
    engine = scripted(script, default="{prompt}")
    done = command("caption", media, *engine, "--config", config, "--prompt", "flag", "--json")
    assert done.code == 1  # a config file is whole by itself: its own prompt_file is missing
    config.write_text('prompt = "common"\n[image]\nprompt = "table"\n')
    command("caption", media, *engine, "--config", config, "--prompt", "flag")
    assert set(captions(media).values()) == {"flag"}
    (tmp_path / "p.txt").write_text("from a file")
    command("caption", media, *engine, "--config", config, "--prompt-file", tmp_path / "p.txt", "--existing", "stale")
    assert set(captions(media).values()) == {"from a file"}


@pytest.mark.parametrize("text", ['hf_token = ["hf_SECRETSECRET"]', '[image]\nhf_token = "hf_SECRETSECRET"'])
def test_a_token_in_a_broken_config_is_not_shown(command, media, tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    done = command("caption", media, "--config", tmp_path / "c.toml", "--json")
    assert done.code == 1 and "SECRET" not in done.err
    assert done.json["captioned"] == 0


def test_the_json_paths_are_the_files(command, media, script):
    name = "Screenshot 1.00\u202fPM \U0001f469\u200d\U0001f680.png"
    (media / name).write_bytes(b"nothing")
    done = command("caption", media, *scripted(script), "--json")
    assert Path(done.json["failures"][0]["path"]).exists()


@pytest.mark.parametrize("arguments", [["--frames", "0"], ["--batch-size", "0"], ["--config", "/nowhere.toml"]])
def test_json_is_one_object_also_for_what_never_started(command, media, arguments):
    done = command("caption", media, *arguments, "--json")
    assert done.code in (1, 2) and done.json["captioned"] == 0


def test_a_prompt_may_say_where_the_frames_go_once(command, media):
    placed = command("caption", media, "--model", "demo", "--prompt", "See <start_of_image> here.", "--json")
    assert (placed.code, placed.json["captioned"]) == (0, 8), placed.err
    for prompt in ("<start_of_image> and <start_of_image>", "a <image_soft_token>"):
        done = command("caption", media, "--model", "demo", "--prompt", prompt, "--existing", "overwrite")
        assert done.code == 2 and "<" in done.err and "Traceback" not in done.err


def test_a_seed_is_one_draw_a_file_and_not_one_for_all(command, tmp_path):
    for name in "abcd":
        Image.new("RGB", (64, 64), "red").save(tmp_path / f"{name}.png")
    hot = ["--model", "demo", "--temperature", "4", "--max-new-tokens", "12"]
    command("caption", tmp_path, *hot)
    first = captions(tmp_path)
    assert len(set(first.values())) == 4
    command("caption", tmp_path, *hot, "--existing", "overwrite", "--batch-size", "1")
    assert captions(tmp_path) == first


def test_a_journal_that_is_not_whole_makes_no_trouble(command, media, script):
    command("caption", media, *scripted(script))
    runs = media / ".gemma-captioner" / "runs"
    (runs / "0.jsonl").write_text('{"kind": "caption"}\n[]\n{"kind": "capt')
    (runs / "1.jsonl").mkdir()
    done = command("caption", media, *scripted(script), "--existing", "stale", "--json")
    assert (done.code, done.json["skipped"]) == (0, 8), done.err


def test_shards_side_by_side_share_a_folder(fork_server, media, script, command):
    words = list(map(str, ["caption", media, *scripted(script), "--json", "--shard"]))
    ended = [run.wait() for run in [fork_server.start([*words, f"{i}/3"], media) for i in (1, 2, 3)]]
    told = [done.json for done in ended]
    assert [done.code for done in ended] == [0, 0, 0]
    assert sum(one["captioned"] for one in told) == len(captions(media)) == 8
    assert sum(one["skipped"] for one in told) == 0  # each sees its own files alone
    assert len(list((media / ".gemma-captioner" / "runs").iterdir())) == sum(one["captioned"] > 0 for one in told)
    empty = command("caption", next(media.glob("01*.png")), "--shard", "1/1000", *scripted(script), "--json")
    assert (empty.code, empty.json["captioned"], empty.json["skipped"]) == (0, 0, 0)  # nothing to do is no error
    assert "1 file in other shards" in empty.err and "Next:" not in empty.err
    planned = command("caption", next(media.glob("01*.png")), "--shard", "1/1000", *scripted(script), "--dry-run")
    assert "no images or clips found in this shard (1 file in others)" in planned.out


@contextmanager
def at_work(fork_server: ForkServer, folder: Path, *options: str) -> Iterator[None]:
    """A run that has begun, and is left waiting for its engine until it is killed."""
    slow = folder.with_name("slow.json")
    slow.write_text('{"delay_s": 600}')
    words = ["caption", str(folder), "--engine", "scripted", "--model", str(slow), *options]
    with fork_server.start(words, folder) as other:
        while not list(folder.glob(".gemma-captioner/locks/*")):
            assert other.poll() is None
            time.sleep(0.02)
        yield


@pytest.mark.parametrize(
    ("first", "second"),
    [((), ()), ((), ("--shard", "1/2")), (("--shard", "1/2"), ()), (("--shard", "1/2"), ("--shard", "1/3"))],
)
def test_a_second_run_on_a_folder_says_so_and_stops(command, fork_server, media, script, first, second):
    with at_work(fork_server, media, *first):
        done = command("caption", media, *scripted(script), *second)
        assert done.code == 1 and "another run is captioning" in done.err and "--shard" in done.err
        assert captions(media) == {}
    assert command("caption", media, *scripted(script)).code == 0  # who is killed claims nothing
    assert len(captions(media)) == 8


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1/0", "1-4"])
def test_a_shard_that_is_none_says_how_to_write_it(command, media, shard):
    done = command("caption", media, "--shard", shard)
    assert done.code == 2 and "--shard " in done.err and "1/" in done.err


def test_captions_begin_as_they_were_begun(command, media, script):
    done = command("caption", media, "--model", "demo", "--begin", "A yellow", "--json")
    assert done.json["captioned"] == 8, done.err
    assert all(text.startswith("A yellow ") for text in captions(media).values())
    assert command("caption", media, "--model", "demo", "--begin", "A yellow", "--existing", "stale").code == 0
    again = command("caption", media, "--model", "demo", "--existing", "stale", "--json")
    assert again.json["captioned"] == 8  # without the words it is another way to make a caption


@pytest.mark.parametrize(
    ("begin", "said", "caption"),
    [
        ("This image shows", " a red cat on a mat.", "This image shows a red cat on a mat."),
        ("A photo of", " **a cat** on a mat.\n\nLet me know!", "A photo of a cat on a mat."),
        ("A photo of", "A photo of a cat on a mat.", "A photo of a cat on a mat."),
        ("Photo", "graph of a cat on a mat.", "Photograph of a cat on a mat."),
    ],
)
def test_the_words_that_an_answer_was_begun_with_outlast_its_cleaning(command, media, script, begin, said, caption):
    model = script(default=said)
    done = command("caption", media, "--engine", "scripted", "--model", model, "--begin", begin, "--limit", 1, "--json")
    assert done.json["captioned"] == 1, done.err
    assert list(captions(media).values()) == [caption]


def test_an_answer_that_adds_nothing_to_what_was_begun_is_none(command, media, script):
    model = script(default=" ")
    done = command("caption", media, "--engine", "scripted", "--model", model, "--begin", "A photo of", "--json")
    assert done.code == 3 and done.json["captioned"] == 0 and captions(media) == {}


@pytest.mark.parametrize(
    "words",
    [
        ("caption", ".", "--engine", "scripted", "--model", "none.json"),
        ("caption", ".", "--engine", "scripted", "--model", "none.json", "--dry-run"),
        ("check", "."),
        ("check", ".", "--fix"),
        ("check", ".", "--media"),
        ("split", "v.mp4", "--output", "."),
        ("compare", ".", "--engine", "scripted", "--model", "none.json"),
        ("restore", "RUN", "."),
        ("review", "."),
    ],
)
@pytest.mark.parametrize("name", ["check/media.jsonl", "locks"])
def test_no_command_writes_through_a_link_of_a_strangers_dataset(command, media, tmp_path, words, name):
    (media / "none.json").write_text("{}")
    link = media / ".gemma-captioner" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "home")
    done = command(*words, cwd=media)
    assert done.code == 1 and "is a link that points outside " in done.err.replace("\n", " ")
    assert not (tmp_path / "home").exists()
    assert command("check", media, "--html", tmp_path / "page.html").code != 1  # it writes nothing there


@pytest.mark.parametrize("odd", [None, 3, "x", {"a": 1}, [None, {"a": []}, 5], [[1]]], ids=repr)
def test_a_journal_may_say_anything(command, media, script, odd):
    """It may have come with somebody's dataset."""
    txt = next(media.glob("01*")).with_suffix(".txt")
    txt.write_text("A cat.")
    known = {"kind": "caption", "path": "a.png", "caption_file": txt.name, "digest": sidecar.digest(b"A cat.")}
    fields = "captions flags recipe media media_kind metadata transcript context replaced error run settings".split()
    lines = [known | dict.fromkeys(fields, odd)]
    lines += [{"kind": kind} | dict.fromkeys([*known, *fields], odd) | {"kind": kind}
              for kind in ("run", "caption", "failure", "complete", "edit", "trash", "fix", odd)]  # fmt: skip
    (runs := media / ".gemma-captioner" / "runs").mkdir(parents=True)
    (runs / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for words in (
        ("check", media),
        ("export", media, "--for", "musubi", "--output", media / "musubi.jsonl"),
        ("restore", "1", media),
        ("caption", media, *scripted(script), "--existing", "stale"),
        ("caption", media, *scripted(script), "--only", "flagged"),
    ):
        done = command(*words)
        assert done.code in (0, 3) and "unexpected" not in done.err, (words, done.err)
