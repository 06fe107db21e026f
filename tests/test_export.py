"""Exports, read back: by the loaders that install from PyPI, else by what the trainers' own code does with the format.

What was run with the trainers themselves, and at which version: docs/trainers.md.
"""

import csv
import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.export.formats import EXPORTS
from gemma_captioner.export.selected import path_for_selection
from tests.support.command import AS_UNPRIVILEGED_USER, run_in_process
from tests.support.files import captions


@pytest.fixture(scope="module")
def captioned(tmp_path_factory, output_folder) -> Path:
    """Three images and two clips, a folder below with one of each, all but one captioned, one by a person."""
    base = tmp_path_factory.mktemp("captioned")
    folder = base / "set"
    draw_samples(folder, images=3, clips=2, seed=3)
    for name in draw_samples(folder / "more", images=1, clips=1, seed=4):
        (folder / "more" / name).rename(folder / "more" / f"more-{name}")
    last = sorted(p for p in folder.iterdir() if p.suffix == ".png")[-1]
    path = base / "script.json"
    path.write_text(json.dumps({"default": "\u201cIt\u2019s\u201d {name}, d\u00e9j\u00e0 vu."}))
    words = ["caption", str(folder), "--engine", "scripted", "--model", str(path), "--recursive"]
    assert run_in_process([*words, "--punctuation", "any", "--exclude", last.name], output_folder, base).code == 0
    first = min(folder.glob("*.txt"))
    first.write_text("\ufeffA person's words,\nin two lines.\n", encoding="utf-8")
    return folder


@pytest.fixture
def dataset(captioned, tmp_path) -> Path:
    return Path(shutil.copytree(captioned, tmp_path / "set"))


@pytest.fixture
def truth(dataset) -> dict[str, str]:
    """Media by path within the set -> caption."""
    said = {}
    for path in sorted(dataset.rglob("*")):
        text = path.with_suffix(".txt")
        if path.suffix in (".png", ".jpg", ".mp4") and text.exists():
            said[path.relative_to(dataset).as_posix()] = " ".join(text.read_text(encoding="utf-8-sig").split())
    return said


def exported(command, dataset, trainer, *flags) -> list[Path]:
    done = command("export", dataset, "--for", trainer, "--recursive", *flags)
    assert done.code == 0, done.err
    paths = [Path(line) for line in done.out.splitlines()]
    assert paths and all(path.exists() for path in paths)
    return paths


def of(truth: dict[str, str], *suffixes: str) -> dict[str, str]:
    return {name: said for name, said in truth.items() if name.endswith(suffixes)}


def test_diffusion_pipe_finds_lists_in_each_folder(command, dataset, truth):
    paths = exported(command, dataset, "diffusion-pipe")
    assert paths == [dataset / "captions.json", dataset / "more" / "captions.json"]
    found = {}
    for path in paths:
        for name, said in json.loads(path.read_text(encoding="ascii")).items():
            assert isinstance(said, list)
            found[(path.parent / name).relative_to(dataset).as_posix()] = said
    assert found == {name: [said] for name, said in truth.items()}


def test_musubi_has_a_file_for_each_kind_with_absolute_paths(command, dataset, truth):
    images, videos = exported(command, dataset, "musubi:wan")
    assert images.parent == dataset.parent
    for path, key, expected in (
        (images, "image_path", of(truth, ".png", ".jpg")),
        (videos, "video_path", of(truth, ".mp4")),
    ):
        rows = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
        assert {row[key]: row["caption"] for row in rows} == {str(dataset / n): said for n, said in expected.items()}


@pytest.mark.parametrize("trainer", ["musubi", "ltx", "onetrainer"])
def test_what_a_trainer_would_take_for_one_file_is_refused(command, dataset, trainer):
    one = next(path for path in dataset.glob("*.png") if path.with_suffix(".txt").exists())
    other = (dataset / "more" if trainer == "musubi" else dataset) / one.with_suffix(".webp").name
    other.write_bytes(one.read_bytes())
    for path in (one, other):
        path.with_name(f"{path.name}.txt").write_text("A caption.")
    to = dataset.parent / "x"
    done = command("export", dataset, "--for", trainer, "--recursive", "--name", "full", "--output", to)
    assert done.code == 1 and "rename one" in done.err and not to.is_file()


def test_sd_scripts_has_images_by_path(command, dataset, truth):
    [path] = exported(command, dataset, "sd-scripts:sdxl")
    rows = json.loads(path.read_text(encoding="utf-8"))
    expected = of(truth, ".png", ".jpg")
    assert {key: value["caption"] for key, value in rows.items()} == {str(dataset / n): s for n, s in expected.items()}


@pytest.mark.parametrize("suffix", [".json", ".csv", ".jsonl"])
def test_ltx_finds_media_from_the_file(command, dataset, truth, suffix):
    where = () if suffix == ".json" else ("--output", dataset.parent / f"ltx{suffix}")
    [path] = exported(command, dataset, "ltx", *where)
    text = path.read_text(encoding="utf-8")
    if suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
    else:
        rows = json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    found = {(path.parent / row["media_path"]).relative_to(dataset).as_posix(): row["caption"] for row in rows}
    assert found == truth


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_simpletuner_has_sizes_and_lists(command, dataset, truth, suffix):
    [path] = exported(command, dataset, "simpletuner", "--output", dataset.parent / f"st{suffix}")
    if suffix == ".parquet":
        rows = parquet.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["filename"]: row["caption"] for row in rows if "person" not in row["caption"][0]} == {
        name: [said] for name, said in truth.items() if "person" not in said
    }
    # A person's two lines are two captions to this trainer.
    [lines] = [row["caption"] for row in rows if "person" in row["caption"][0]]
    assert lines == ["A person's words,", "in two lines."]
    assert {(row["width"], row["height"]) for row in rows} == {(64, 64)}
    assert {row["num_frames"] for row in rows if row["filename"].endswith(".mp4")} == {12}
    assert all(row["fps"] > 0 for row in rows if row["num_frames"] > 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_simpletuner_gets_the_size_that_it_decodes(command, tmp_path, name):
    """It does not turn images by EXIF, and stretches them to the size in the table (trainingsample 0.3.2)."""
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    (tmp_path / "set").mkdir()
    picture.save(tmp_path / "set" / name, exif=exif)
    (tmp_path / "set" / "a.txt").write_text("A wall.")
    [path] = exported(command, tmp_path / "set", "simpletuner")
    row = json.loads(path.read_text())
    assert (row["width"], row["height"]) == (40, 20)


@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")  # datasets, of a CSV
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize(
    ("trainer", "column", "kind"),
    [
        *((trainer, column, kind) for trainer, column in (("huggingface", "text"), ("finetrainers", "caption"))
          for kind in ("image", "video")),
    ],
)  # fmt: skip
def test_datasets_reads_the_metadata(command, dataset, truth, tmp_path, monkeypatch, trainer, column, kind):
    suffixes = (".mp4",) if kind == "video" else (".png", ".jpg")
    [path] = exported(command, dataset, trainer, *(arg for s in suffixes for arg in ("--include", f"*{s}")))
    assert path == dataset / "metadata.jsonl"
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(
        f"{kind}folder", data_files={"train": f"{dataset}/**"}, split="train", cache_dir=str(tmp_path / "cache")
    )
    feature = datasets.Video(decode=False) if kind == "video" else datasets.Image(decode=False)
    rows = list(loaded.cast_column(kind, feature))
    found = {Path(row[kind]["path"]).relative_to(dataset).as_posix(): row[column] for row in rows}
    del loaded
    gc.collect()  # what it left open is reported here, not in a later test
    assert found == of(truth, *suffixes)


@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")  # datasets, of a CSV
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_fibo_finds_images_where_no_texts_lie(command, dataset, truth, tmp_path, monkeypatch):
    """FIBO calls load_dataset with the folder alone, which counts the files of each extension to tell what they are."""
    said = {name: json.dumps({"short_description": text}, ensure_ascii=False) for name, text in truth.items()}
    for name, caption in said.items():
        (dataset / name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    [folder] = exported(command, dataset, "fibo")
    assert folder == dataset.with_name("set-fibo")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    rows = list(loaded.cast_column("image", datasets.Image(decode=False)))
    del loaded
    gc.collect()  # as above
    assert sorted(row["caption"] for row in rows) == sorted(of(said, ".png", ".jpg").values())
    assert exported(command, dataset, "fibo") == [folder]  # again


def test_fibo_is_given_json_alone_and_no_other_files(command, dataset, tmp_path):
    done = command("export", dataset, "--for", "fibo", "--recursive")
    assert done.code == 1 and "not JSON" in done.err and not dataset.with_name("set-fibo").exists()
    for path in dataset.rglob("*.txt"):
        path.write_text("{}", "utf-8")
    for other in ("a.txt", "other.png"):
        to = tmp_path / other.partition(".")[2]
        to.mkdir()
        (to / other).write_text("")
        done = command("export", dataset, "--for", "fibo", "--recursive", "--output", to)
        assert done.code == 1 and other in done.err and [p.name for p in to.iterdir()] == [other]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_diffsynth_has_a_column_for_the_kind_and_a_prompt(command, dataset, truth, suffix, kind):
    suffixes = (".mp4",) if kind == "video" else (".png", ".jpg")
    words = [arg for s in suffixes for arg in ("--include", f"*{s}")]
    [path] = exported(command, dataset, "diffsynth", *words, "--output", dataset.parent / f"ds{suffix}")
    text = path.read_text(encoding="utf-8")
    rows = (
        list(csv.DictReader(text.splitlines()))
        if suffix == ".csv"
        else json.loads(text if suffix == ".json" else f"[{','.join(text.splitlines())}]")
    )
    assert {row[kind]: row["prompt"] for row in rows} == of(truth, *suffixes)
    assert all(set(row) == {kind, "prompt"} for row in rows)
    assert command("export", dataset, "--for", "diffsynth", "--recursive").code == 1  # both kinds


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_diffsynth_has_a_column_for_sound_where_the_model_is_trained_on_it(command, dataset, truth, suffix):
    words = ("--include", "*.mp4", "--output", dataset.parent / f"sound{suffix}")
    [path] = exported(command, dataset, "diffsynth:ltx2", *words)
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines())) if suffix == ".csv" else json.loads(text)
    assert {row["video"]: row["prompt"] for row in rows} == of(truth, ".mp4")
    assert all(row["input_audio"] == row["video"] and len(row) == 3 for row in rows)
    [path] = exported(command, dataset, "diffsynth:wan", *words)
    assert "input_audio" not in path.read_text(encoding="utf-8")


def test_one_kind_in_a_folder_is_asked_for(command, dataset):
    done = command("export", dataset, "--for", "huggingface")
    assert done.code == 1 and "--include" in done.err and not (dataset / "metadata.jsonl").exists()


def test_webdataset_reads_the_tars(command, dataset, truth):
    paths = exported(command, dataset, "webdataset")
    from webdataset import tariterators

    found = {}
    for path in paths:
        with path.open("rb") as file:  # left to itself it closes none
            opened = [{"url": str(path), "stream": file}]
            samples = list(tariterators.group_by_keys(tariterators.tar_file_expander(opened)))
        for sample in samples:
            [suffix] = set(sample) & {"png", "jpg", "mp4"}
            known = json.loads(sample["json"])
            assert sample["txt"].decode() == known["caption"] == known["captions"][0]
            assert sample[suffix] == (dataset / known["file_name"]).read_bytes()
            found[known["file_name"]] = known["caption"]
    assert found == truth


def test_plain_tables(command, dataset, truth):
    [path] = exported(command, dataset, "csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert {row["file_name"]: row["caption"] for row in rows} == truth
    [path] = exported(command, dataset, "parquet")
    rows = parquet.read_table(path).to_pylist()
    assert {row["file_name"]: row["captions"] for row in rows} == {name: [said] for name, said in truth.items()}
    assert {row["kind"] for row in rows} == {"image", "clip"}


@pytest.mark.parametrize("trainer", ["ai-toolkit", "onetrainer", "mochi"])
def test_what_reads_sidecars_gets_a_folder_of_its_own(command, dataset, truth, trainer):
    plain = command("export", dataset, "--for", trainer)
    assert plain.code == 0 and "needs no export" in plain.out
    to = dataset.parent / "training"
    exported(command, dataset, trainer, "--output", to)
    expected = of(truth, ".mp4") if trainer == "mochi" else truth
    found = {name: " ".join(said.split()) for name, said in captions(to).items()}
    assert found == {Path(name).with_suffix(".txt").as_posix(): said for name, said in expected.items()}
    for name in expected:
        assert (to / name).read_bytes() == (dataset / name).read_bytes()
    lines = [said for said in captions(to).values() if "\n" in said]
    assert lines == (["A person's words,\nin two lines."] if trainer == "onetrainer" else [])


def test_a_folder_of_links_never_puts_a_caption_on_other_media(command, dataset):
    first, *_ = sorted(dataset.glob("*.png"))
    to, other = dataset.parent / "training", dataset.parent / "other"
    exported(command, dataset, "ai-toolkit", "--output", to)
    (to / "later.txt").write_text("Not ours.")
    before = captions(to)
    draw_samples(other, images=1, clips=0, seed=9)
    [drawn] = other.iterdir()
    for name in (first.name, f"{first.stem}.jpg"):
        drawn = drawn.rename(other / name)
        drawn.with_suffix(".txt").write_text("Of another picture.")
        done = command("export", other, "--for", "ai-toolkit", "--output", to)
        assert done.code == 1 and "another --output" in done.err and captions(to) == before
    exported(command, dataset, "ai-toolkit", "--output", to)  # the same media again, as links or as copies
    (to / first.name).unlink()
    (to / first.name).write_bytes(first.read_bytes())
    exported(command, dataset, "ai-toolkit", "--output", to)


def test_links_follow_a_dataset_that_moved(command, dataset):
    to = dataset.parent / "training"
    exported(command, dataset, "ai-toolkit", "--output", to)
    moved = dataset.rename(dataset.parent / "moved")
    exported(command, moved, "ai-toolkit", "--output", to)
    first = min(moved.glob("*.png"))
    assert (to / first.name).samefile(first)


@pytest.mark.parametrize("flags", [("--name", "full"), ("--output", "apart")])
@pytest.mark.parametrize("trainer", ["ai-toolkit", "onetrainer"])
def test_captions_that_a_trainer_does_not_look_for_are_told(command, media, script, trainer, flags):
    assert command("caption", media, "--engine", "scripted", "--model", script(default="A {name}."), *flags).code == 0
    where = ("--captions", "apart") if flags[0] == "--output" else flags
    done = command("export", media, "--for", trainer, *where)
    assert done.code == 1 and "set --output FOLDER" in done.err and "needs no export" not in done.out
    assert command("export", media, "--for", trainer, *where, "--output", media.parent / "training").code == 0
    assert len(captions(media.parent / "training")) == 8


@pytest.mark.parametrize(
    ("trainer", "at"),
    [
        ("diffusion-pipe", "out/captions.json"), ("diffusion-pipe", "set/foo.json"),
        ("huggingface", "set/captions.jsonl"), ("finetrainers", "set/metadata"),
    ],
)  # fmt: skip
def test_a_file_that_the_trainer_would_not_read_is_not_written(command, dataset, trainer, at):
    before = sorted(dataset.rglob("*"))
    done = command("export", dataset, "--for", trainer, "--include", "*.png", "--output", dataset.parent / at)
    assert done.code == 1 and "omit --output" in done.err and not done.out
    assert sorted(dataset.rglob("*")) == before


def test_several_captions_go_where_the_format_can_hold_them(command, media, script):
    path = script(default="{prompt} of {name}.")
    command("caption", media, "--engine", "scripted", "--model", path, "--prompt", "One", "--prompt", "Two")
    name = min(p.name for p in media.glob("*.png"))
    both = [f"One of {name}.", f"Two of {name}."]
    [into] = exported(command, media, "diffusion-pipe")
    assert json.loads(into.read_text())[name] == both
    [into] = exported(command, media, "sd-scripts")
    assert json.loads(into.read_text())[str(media / name)]["caption"] == "\n".join(both)
    exported(command, media, "onetrainer", "--output", media.parent / "one")
    assert captions(media.parent / "one")[f"{name.rpartition('.')[0]}.txt"] == "\n".join(both)
    (media / name).with_suffix(".txt").write_text("Edited.")
    [into] = exported(command, media, "diffusion-pipe")
    assert json.loads(into.read_text())[name] == ["Edited."], "what stands on disk counts"
    done = command("export", media, "--for", "onetrainer")  # which reads what is there
    assert "only the first is in the .txt files" in done.err and "all are written" not in done.err


def test_what_was_there_is_kept(command, dataset):
    theirs = dataset / "captions.json"
    theirs.write_text('{"a.png": ["mine"]}')
    exported(command, dataset, "diffusion-pipe")
    assert (dataset / "captions.json.bak").read_text() == '{"a.png": ["mine"]}'
    ours = theirs.read_text()
    exported(command, dataset, "diffusion-pipe")
    assert theirs.read_text() == ours and "mine" in (dataset / "captions.json.bak").read_text()
    min(dataset.glob("*.txt")).write_text("Edited.")
    exported(command, dataset, "diffusion-pipe")
    assert "mine" in (dataset / "captions.json.bak").read_text(), "the first is never replaced"
    assert (dataset / "captions.json.2.bak").read_text() == ours


def test_what_cannot_be_exported_is_told(command, dataset, tmp_path):
    done = command("export", dataset, "--for", "nobody")
    assert done.code == 2 and all(name in done.err for name in EXPORTS)
    assert command("export", tmp_path / "none", "--for", "csv").code == 1
    (tmp_path / "empty").mkdir()
    assert command("export", tmp_path / "empty", "--for", "csv").code == 1
    assert not (tmp_path / "empty.csv").exists()
    done = command("export", dataset, "--for", "csv", "--include", "none*", "--captions", tmp_path)
    assert done.code == 1 and "or change --include, --captions" in done.err
    min(dataset.glob("*.txt")).write_bytes(b"\xff\xfe broken")
    done = command("export", dataset, "--for", "csv")
    assert done.code == 3 and "check" in done.err
    assert "without a caption" in done.err


def test_a_folder_of_captions_that_does_not_exist_is_an_error(command, dataset):
    for words in (["export", dataset, "--for", "csv"], ["check", dataset]):
        done = command(*words, "--captions", dataset / "nosuch")
        assert done.code == 2 and "nosuch: there is no such folder" in done.err


def test_where_it_cannot_be_written(command, dataset):
    (dataset.parent / "file").write_text("in the way")
    done = command("export", dataset, "--for", "csv", "--output", dataset.parent / "file" / "x.csv")
    assert done.code in (1, 3) and "a part of this path is a file" in done.err


def test_chosen_files_are_exported_alone(command, dataset, truth, tmp_path):
    """A list of names, by line or as `find -print0` writes it."""
    names = sorted(truth)[1:3]
    for separator, ending in (("\n", "\r\n"), ("\0", "\0")):
        listed = tmp_path / "files.txt"
        listed.write_text("\ufeff" + separator.join([f"./{names[0]}", names[1], "gone.png"]) + ending, "utf-8")
        done = command("export", dataset, "--recursive", "--for", "csv", "-o", tmp_path / "some.csv", "--files", listed)
        assert done.code == 0 and "--files: not found among the searched files: gone.png" in done.err
        path = tmp_path / "some.csv"
        with path.open(encoding="utf-8", newline="") as file:
            assert {row["file_name"]: row["caption"] for row in csv.DictReader(file)} == {n: truth[n] for n in names}
    listed.write_text("\n")
    assert "is empty: write the names" in command("export", dataset, "--for", "csv", "--files", listed).err
    done = command("export", dataset, "--for", "csv", "--files", tmp_path / "none.txt")
    assert done.code == 1 and "cannot be read" in done.err


@pytest.mark.parametrize(
    ("trainer", "name", "says"),
    [
        ("parquet", "x.csv", "writes .parquet"),
        ("csv", "x.parquet", "writes .csv"),
        ("ltx", "x.tar", ".json, .csv, .jsonl"),
        ("ai-toolkit", "x.csv", "writes a folder"),
    ],
)
def test_an_ending_of_another_format_is_refused(command, dataset, tmp_path, trainer, name, says):
    done = command("export", dataset, "--for", trainer, "--output", tmp_path / name)
    assert done.code == 2 and says in done.err and not (tmp_path / name).exists()


def test_the_case_of_the_ending_does_not_matter_nor_what_json_lines_are_called(command, dataset):
    [path] = exported(command, dataset, "ltx", "-o", dataset / "data.CSV")
    assert path.read_text().startswith("caption,media_path")
    assert exported(command, dataset, "musubi", "-o", dataset.parent / "x.json")


def test_the_export_of_a_selection_lies_beside_that_of_all(tmp_path):
    places = {name: path_for_selection(form, tmp_path / "set") for name, form in EXPORTS.items()}
    assert places["csv"] == tmp_path / "set-selection.csv" and places["ai-toolkit"] == tmp_path / "set-selection"
    assert places["diffusion-pipe"] == tmp_path / "set" / "captions.json"
    inside = {name for name, path in places.items() if path.is_relative_to(tmp_path / "set")}
    assert inside == {"diffusion-pipe", "finetrainers", "huggingface"}


@pytest.mark.parametrize("trainer", ["csv", "parquet", "huggingface", "webdataset", "simpletuner", "ai-toolkit"])
def test_what_a_trainer_cannot_read_fails_alone(command, tmp_path, trainer):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in (b"ok", b"bad\xff", b"broken", b"pipe", b"gone"):
        (folder / os.fsdecode(name + b".txt")).write_text("A caption.")
    Image.new("RGB", (8, 8)).save(folder / "ok.png")
    shutil.copy(folder / "ok.png", folder / os.fsdecode(b"bad\xff.png"))
    (folder / "broken.png").write_bytes(b"no image")
    os.mkfifo(tmp_path / "pipe")
    (folder / "pipe.png").symlink_to(tmp_path / "pipe")
    (folder / "gone.png").symlink_to("nowhere.png")
    done = command("export", folder, "--for", trainer, "--output", tmp_path / "to" / "metadata")
    if trainer == "huggingface":  # which reads this name only, in the dataset
        done = command("export", folder, "--for", trainer)
    failed = {"gone.png": "link to a file that does not exist", "pipe.png": "not a regular file"}
    if trainer != "ai-toolkit":  # which gets links, with any name
        failed["bad\\udcff.png"] = "its name is not valid UTF-8"
    if trainer == "simpletuner":  # the only one whose table has sizes
        failed["broken.png"] = "cannot read this image"
    lines = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert done.code == 3 and len(lines) == len(failed)
    assert all(any(f"/{name}: " in line and why in line for line in lines) for name, why in failed.items())
    assert f"{5 - len(failed)} written, {len(failed)} failed" in done.err


def test_a_pipe_is_never_replaced_by_the_export(command, dataset, tmp_path):
    os.mkfifo(tmp_path / "to.csv")
    done = command("export", dataset, "--for", "csv", "--output", tmp_path / "to.csv")
    assert done.code == 1 and "is a pipe or a device: name a regular file" in done.err
    assert (tmp_path / "to.csv").is_fifo() and not (tmp_path / "to.csv.bak").exists()


def test_no_file_of_the_dataset_is_replaced_by_the_export(command, dataset):
    image, caption = next(dataset.rglob("*.png")), next(dataset.rglob("*.txt"))
    for path in (image, caption):
        before = path.read_bytes()
        done = command("export", dataset, "--for", "csv", "--output", path)
        assert done.code == 2 and "is the ending of captions or media" in done.err
        assert path.read_bytes() == before and not path.with_name(f"{path.name}.bak").exists()


def test_an_export_into_the_dataset_is_no_part_of_the_next_one(command, dataset, truth):
    for _ in range(2):
        exported(command, dataset, "ai-toolkit", "--output", dataset / "linked")
        assert sum(1 for path in (dataset / "linked").rglob("*.txt")) == len(truth)


def test_originals_in_the_folder_of_the_export_are_exported(command, tmp_path):
    for name in ("set/a.png", "set/train/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("A caption.")
    folder = tmp_path / "set"
    done = command("export", folder, "--for", "webdataset", "--recursive", "--output", folder / "train")
    assert done.code == 0 and "2 written" in done.err
    done = command("export", ".", "--for", "ai-toolkit", "--output", "../set", cwd=folder)
    assert "--control" not in done.err
    done = command("export", ".", "--for", "csv", "--output", "../set/all.csv", cwd=folder)
    assert done.code == 0 and "1 written" in done.err


def test_an_export_that_leaves_out_all_says_so(command, tmp_path):
    (tmp_path / "a.png").symlink_to("missing.png")
    (tmp_path / "a.txt").write_text("A caption.")
    done = command("export", tmp_path, "--for", "csv")
    assert done.code == 1 and "none of the 1 captioned file can be exported: see above" in done.err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no chmod")
def test_a_file_that_the_tar_cannot_read_fails_alone(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("locked", "ok"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("A caption.")
    (folder / "locked.png").chmod(0)
    words = [*AS_UNPRIVILEGED_USER, sys.executable, "-m", "gemma_captioner", "export", folder, "--for", "webdataset"]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 3 and "locked.png: it cannot be read: permission denied" in done.stderr
    assert "1 written, 1 failed" in done.stderr and (tmp_path / "set-png-000000.tar").exists()
