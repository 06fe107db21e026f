"""Captions as rows of parquet files, and media from webdataset tars."""

import json
import os
import subprocess
import sys
import tarfile
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from pyarrow import parquet

from gemma_captioner.config.selection import SelectionSettings
from gemma_captioner.dataset.discover import Discovery, resolve_roots
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines.scripted import ScriptedSession
from gemma_captioner.errors import ServerError
from gemma_captioner.storage.filesystem import read
from gemma_captioner.types import Failed
from tests.support.files import captions, journal
from tools.torture.cluster import title


def rows(folder: Path) -> list[dict]:
    return [row for part in sorted(folder.glob("captions-*.parquet")) for row in parquet.read_table(part).to_pylist()]


def tar_of(folder: Path, path: Path, beneath: str = "") -> Path:
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, f"{beneath}{file.name}")
    return path


AS_ROWS = ("--captions-to", "parquet", "--json", "--workers", 1)


def test_rows_say_what_the_txt_would(command, media, tmp_path, script):
    (media / "broken.png").write_bytes(b"no image")
    min(media.glob("*.png")).rename(media / os.fsdecode(b"\xff.png"))
    out = tmp_path / "out"
    said = ("caption", media, "--engine", "scripted", "--output", out, *AS_ROWS)
    said += ("--model", script(default="A caption of {num_frames} frames."))
    done = command(*said)
    assert (done.code, done.json["captioned"], done.json["failed"]) == (3, 8, 1), done.err
    assert captions(tmp_path) == {}
    made = rows(out)
    names = {path.name for path in media.iterdir()} - {"broken.png", "\udcff.png"}
    assert {row["path"] for row in made} == names | {"\\udcff.png"} and len(made) == 8
    lines = {line["path"]: line for line in journal(out) if line["kind"] == "caption"}
    for row in made:
        line = lines[row["path"].replace("\\udcff", "\udcff")]
        assert [row["caption"]] == row["captions"] == line["captions"] and row["kind"] == line["media_kind"]
        assert (row["media"], row["model"], row["recipe"]) == (line["media"], line["model"], line["recipe"])
    again = command(*said)
    assert (again.json["captioned"], again.json["skipped"], again.json["failed"]) == (0, 8, 1)
    assert rows(out) == made


def test_rows_are_written_where_a_run_wrote_txt_files(command, media, tmp_path, script):
    said = ("caption", media, "--output", tmp_path / "out", "--engine", "scripted", "--model", script())
    command(*said, "--name", "full")
    before = captions(tmp_path / "out")
    done = command(*said, *AS_ROWS)
    assert done.json["captioned"] == len(before) == len(rows(tmp_path / "out")) == 8
    assert captions(tmp_path / "out") == before
    assert command(*said, *AS_ROWS).json["skipped"] == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "requires --output"),
        (["--output", "out", "--existing", "stale"], "choose another --output"),
        (["--output", "out", "--only", "flagged"], "choose another --output"),
    ],
)
def test_what_rows_cannot_do(command, media, words, said):
    done = command("caption", media, "--captions-to", "parquet", *words)
    assert done.code == 2 and said in done.err


def test_no_command_is_proposed_that_rows_cannot_do(command, media, tmp_path, script):
    said = ("--engine", "scripted", "--model", script(), "--output", tmp_path / "out")
    for captioned in (8, 0):
        done = command("caption", media, *said, *AS_ROWS)
        assert done.json["captioned"] == captioned and "Next:" not in done.err


def test_what_is_done_when_time_is_up_is_told_and_kept(command, media, tmp_path, script):
    said = ("--engine", "scripted", "--model", script(delay_s=0.8, batch_size=1), "--stop-after", "2s")
    done = command("caption", media, *said, "--output", tmp_path / "out", *AS_ROWS)
    assert done.code == 0 and 0 < done.json["captioned"] < 8, done.err
    assert len(rows(tmp_path / "out")) == done.json["captioned"]


@pytest.mark.parametrize(("stops", "code"), [(KeyboardInterrupt, 130), (ServerError, 1)])
def test_what_an_interrupted_run_stores_is_counted(command, media, tmp_path, script, monkeypatch, stops, code):
    poll, polls = ScriptedSession.poll, []

    def poll_twice(session, timeout_s):
        polls.append(timeout_s)
        if len(polls) == 3:
            raise stops
        return poll(session, timeout_s)

    monkeypatch.setattr(ScriptedSession, "poll", poll_twice)
    said = ("--engine", "scripted", "--model", script(batch_size=2))
    done = command("caption", media, *said, "--output", tmp_path / "out", *AS_ROWS)
    assert done.code == code and done.json["captioned"] == len(rows(tmp_path / "out")) > 0, done.err


def test_a_part_that_is_broken_is_told(command, media, tmp_path):
    (tmp_path / "captions-x.00001.parquet").write_bytes(b"torn")
    done = command("caption", media, "--model", "demo", "--output", tmp_path, "--captions-to", "parquet")
    assert done.code == 1 and "captions-x.00001.parquet cannot be read" in done.err


def test_tars_are_captioned_into_rows(command, media, tmp_path, script):
    (media / "a.json").write_text("{}")
    shards = [tar_of(media, tmp_path / "s-000.tar"), tar_of(media, tmp_path / "s-001.tar", "./sub/")]
    out = tmp_path / "out"
    said = ("--engine", "scripted", "--model", script(), "--output", out)
    done = command("caption", *shards, *said, *AS_ROWS)
    assert (done.code, done.json["captioned"]) == (0, 16), done.err
    assert "Next:" not in done.err  # no command to name
    names = [path.name for path in media.iterdir() if path.suffix != ".json"]
    wanted = {f"s-000.tar/{name}": name for name in names} | {f"s-001.tar/sub/{name}": f"sub/{name}" for name in names}
    assert {row["path"]: row["caption"] for row in rows(out)} == {
        path: f"A scripted caption of {name}." for path, name in wanted.items()
    }
    one = command("caption", shards[0], *said, *AS_ROWS)  # the same paths, however many are given
    assert (one.json["captioned"], one.json["skipped"]) == (0, 8)


@pytest.mark.long
def test_tars_are_read_as_the_files_in_them(command, media, tmp_path):
    shard = tar_of(media, tmp_path / "s.tar")
    for found in Discovery(resolve_roots([shard], tmp_path / "out"), SelectionSettings()):
        assert read(found.item.path) == (media / found.item.name).read_bytes()
        assert found.item.path.stem == Path(found.item.name).stem and found.item.path.parent.name == "s.tar"
    command("caption", media, "--model", "demo", "--output", tmp_path / "beside")
    done = command("caption", shard, "--model", "demo", "--output", tmp_path / "out", "--workers", 1)
    assert done.code == 0, done.err
    assert captions(tmp_path / "out" / "s.tar") == captions(tmp_path / "beside")


def test_tars_that_cannot_be(command, media, tmp_path):
    shard = tar_of(media, tmp_path / "s.tar")
    done = command("caption", shard, "--model", "demo")
    assert done.code == 1 and "Give a folder for them with --output" in done.err
    shard.write_bytes(b"no tar" * 1000)
    [found] = Discovery(resolve_roots([shard], tmp_path / "out"), SelectionSettings())
    assert isinstance(found, Failed) and "the tar cannot be read" in found.error


@pytest.mark.parametrize("outside", ["../../victim/a.png", "x/../../victim/a.png", "/victim/a.png", "x\0/a.png"])
def test_a_name_in_a_tar_that_leads_out_of_it_fails_alone(command, media, tmp_path, script, outside):
    shard, content = tmp_path / "s.tar", min(media.glob("*.png")).read_bytes()
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in (outside, "b.png"):
            header = tarfile.TarInfo(name)
            header.pax_headers = {"path": name}
            header.size = len(content)
            tar.addfile(header, BytesIO(content))
    output = tmp_path / "out" / "deep"
    said = ("caption", shard, "--engine", "scripted", "--model", script(), "--output", output, "--json", "--workers", 1)
    done = command(*said)
    assert (done.code, done.json["captioned"], done.json["failed"]) == (3, 1, 1), done.err
    assert "not a path inside the tar" in done.json["failures"][0]["error"]
    assert [path.relative_to(output).as_posix() for path in tmp_path.rglob("*.txt")] == ["s.tar/b.txt"]
    assert command(*said, "--exclude", "a.png").code == 0


@pytest.mark.parametrize(
    ("kills", "cluster"),
    [
        pytest.param(2, (), marks=pytest.mark.long),
        pytest.param(1, ("--cluster", "local", "--actors", "2"), marks=pytest.mark.prove),
    ],
)
def test_killed_runs_lose_no_part_and_write_no_row_twice(tmp_path, script, kills, cluster):
    """Slow enough that seconds pass between the first part of 128 rows and the end."""
    files, out = 400, tmp_path / "out"
    draw_samples(tmp_path / "media", images=files, clips=0, seed=3)
    said = [sys.executable, "-m", "gemma_captioner", "caption", str(tmp_path / "media"), "--output", str(out)]
    said += ["--captions-to", "parquet", "--json", "--engine", "scripted", "--model", str(script(delay_s=0.4))]
    seen = 0
    for _ in range(kills):
        with subprocess.Popen([*said, *cluster], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while len(rows(out)) <= seen:
                assert run.poll() is None
                time.sleep(0.1)
            family = psutil.Process(run.pid).children(recursive=True)
            actors = [one for one in family if title(one).startswith("ray::MapWorker")]
            run.kill()
            for actor in actors:  # else they finish what they have in hand
                actor.kill()
        assert psutil.wait_procs(actors, timeout=60)[1] == []
        seen = len(rows(out))
    kept = rows(out)
    assert seen < files
    script()  # the last run need not wait
    done = subprocess.run(said, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["captioned"], told["skipped"], told["failed"]) == (files - seen, seen, 0)
    final = rows(out)
    assert [row for row in final if row in kept] == kept
    assert set(Counter(row["path"] for row in final).values()) == {1} and len(final) == files
    assert not list(out.glob(".gemma-captioner/tmp/*"))
