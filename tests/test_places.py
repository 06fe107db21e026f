"""Object stores: a real S3 API on this machine, and file systems that fsspec has."""

import json
import subprocess
import sys
import tarfile
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from pyarrow.parquet import read_table

from gemma_captioner.config.settings import Settings
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.errors import ItemError, UsageError
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip
from gemma_captioner.storage.filesystem import glob_files, is_local, list_directory, parse_path, put, read, release
from tests.support.files import captions


@pytest.mark.long
def test_what_is_captioned_in_a_bucket_is_what_is_captioned_here(command, bucket, media):
    (media / "sub").mkdir()
    (media / "sub" / "a b [1] ü.png").write_bytes(next(media.glob("*.png")).read_bytes())
    (media / "broken.png").write_bytes(b"no image")
    bucket.put(media, "day1")
    expected = command("caption", media, "--model", "demo", "--recursive", "--json")
    there = f"{bucket.url}/day1"
    done = command("caption", there, "--model", "demo", "--recursive", "--json")
    assert done.code == expected.code == 3, done.err
    assert bucket.captions("day1") == {f"day1/{name}": text for name, text in captions(media).items()}
    [failure] = done.json["failures"]
    assert failure["path"] == f"{there}/broken.png" and "cannot read this image" in failure["error"]
    keys = [key for key in bucket.keys("day1") if ".gemma-captioner/" in key]
    assert len(keys) == 1 and keys[0].endswith(".00001.jsonl")
    lines = [json.loads(line) for line in bucket[keys[0]].splitlines()]
    assert Counter(line["kind"] for line in lines) == {"run": 1, "caption": 9, "failure": 1}
    assert "testing" not in bucket[keys[0]].decode()  # credentials

    bucket.asked.clear()
    again = command("caption", there, "--model", "demo", "--recursive", "--json")
    assert (again.json["captioned"], again.json["skipped"], again.json["failed"]) == (0, 9, 1)
    pictures = {asked.key for asked in bucket.asked if asked.method == "GET" and asked.key.endswith((".png", ".mp4"))}
    assert pictures == {"day1/broken.png"}  # what is done is neither read nor decoded
    put_again = [asked for asked in bucket.asked if asked.method == "PUT" and asked.key.endswith(".txt")]
    assert put_again == []


@pytest.mark.long
def test_stale_overwrite_and_restore_in_a_bucket(command, bucket, media):
    bucket.put(media, "day2")
    there = f"{bucket.url}/day2"
    assert command("caption", there, "--model", "demo").code == 0
    before = bucket.captions("day2")
    edited, changed = sorted(before)[:2]
    bucket[edited] = b"A person's."
    done = command("caption", there, "--model", "demo", "--prefix", "New: ", "--existing", "stale", "--json")
    assert (done.json["captioned"], done.json["skipped"]) == (7, 1), done.err
    now = bucket.captions("day2")
    assert now == {key: f"New: {text}" for key, text in before.items()} | {edited: "A person's."}
    bucket[changed] = b"Another person's."
    [run] = {Path(key).name.partition(".")[0] for key in bucket.keys("day2/.gemma-captioner/runs")[-1:]}
    back = command("restore", run, there)
    assert back.code == 3
    assert "6 captions restored, 1 not restored" in back.out
    assert bucket.captions("day2") == before | {edited: "A person's.", changed: "Another person's."}


@pytest.mark.long
def test_captions_of_files_here_go_to_a_bucket_and_the_other_way_round(command, bucket, media, tmp_path):
    (tmp_path / "there.toml").write_text(f'output = "{bucket.url}/out"\n')
    done = command("caption", media, "--model", "demo", "--config", tmp_path / "there.toml")
    assert done.code == 0, done.err
    assert len(bucket.captions("out")) == 8 and captions(media) == {}
    bucket.put(media, "day3")
    done = command("caption", f"{bucket.url}/day3", "--model", "demo", "--output", tmp_path / "here")
    assert done.code == 0, done.err
    assert {f"out/{name}": text for name, text in captions(tmp_path / "here").items()} == bucket.captions("out")
    assert bucket.captions("day3") == {}


@pytest.mark.long
def test_a_single_file_in_a_bucket(command, bucket, media, script):
    bucket.put(media, "day4")
    one, other = list(media.glob("*.png"))[:2]
    said = ("--engine", "scripted", "--model", script(), "--workers", 1)
    bucket.asked.clear()
    done = command("caption", f"{bucket.url}/day4/{one.name}", *said)
    assert done.code == 0, done.err
    assert bucket.captions("day4") == {f"day4/{one.stem}.txt": f"A scripted caption of {one.name}."}
    assert not any(asked.key == f"day4/{other.name}" for asked in bucket.asked)
    of_it = Counter(asked.method for asked in bucket.asked if asked.key.startswith(f"day4/{one.stem}"))
    assert of_it == {"HEAD": 2, "GET": 3, "PUT": 1}  # one HEAD as it was named, one GET by this test


def test_a_dry_run_in_a_bucket(command, bucket, media):
    bucket.put(media, "day5")
    done = command("caption", f"{bucket.url}/day5", "--model", "demo", "--dry-run", "--json")
    assert (done.json["images"], done.json["clips"]) == (5, 3)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["caption", "s3://bucket/nothing-there"], 1, "does not exist"),
        (["caption", "s3://no-such-bucket/a"], 1, "does not exist"),
        (["caption", "nosuch://bucket/a"], 2, "nosuch://bucket/a cannot be used"),
        (["check", "s3://bucket/a"], 2, "requires a local folder"),
        (["export", "s3://bucket/a", "--for", "parquet"], 2, "requires a local folder"),
        (["compare", "s3://bucket/a"], 2, "requires a local folder"),
        (["review", "s3://bucket/a"], 2, "requires a local folder"),
        (["split", "s3://bucket/a.mp4", "--output", "clips"], 2, "requires a local folder"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(command, bucket, words, code, said):
    done = command(*words)
    assert done.code == code and said in done.err, done.err
    assert "Traceback" not in done.err


def test_without_credentials_it_says_so(fork_server, bucket, tmp_path):
    nobody = {name: "" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")} | {
        "AWS_EC2_METADATA_DISABLED": "true"
    }
    done = fork_server.start(["caption", f"{bucket.url}/day1", "--model", "demo"], tmp_path, nobody).wait()
    assert done.code == 1 and "credentials" in done.err.lower() and "Traceback" not in done.err


def clip_at(path: Path, frames: int, *, index_first: bool) -> bytes:
    """An mp4 of noise, a quarter of a megabyte a frame, its index before or behind the pictures."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as out:
        stream = out.add_stream("mjpeg", rate=4)
        stream.width, stream.height, stream.pix_fmt = 1280, 960, "yuvj420p"
        picture = rng.integers(0, 256, (960, 1280, 3), np.uint8)
        for _ in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("index_first", [True, False])
def test_a_large_clip_is_read_by_range(bucket, tmp_path, index_first):
    content = clip_at(tmp_path / "a.mp4", 160, index_first=index_first)
    assert (content.index(b"moov") < content.index(b"mdat")) == index_first and len(content) > 32 << 20
    bucket["large/a.mp4"] = content
    bucket.asked.clear()
    far = decode_clip(parse_path(f"{bucket.url}/large/a.mp4"), (64, 64), DecodeSettings(frames=3))
    release()
    read_bytes = sum(asked.bytes for asked in bucket.asked)
    assert read_bytes < len(content) // 3, (read_bytes, len(content))
    assert len(bucket.asked) < 16
    here = decode_clip(tmp_path / "a.mp4", (64, 64), DecodeSettings(frames=3))
    assert np.array_equal(far.pixels, here.pixels) and far.times_s == here.times_s


def test_a_small_file_is_one_request_of_its_content(bucket, media):
    [name] = [path.name for path in media.glob("*.mp4")][:1]
    bucket.put(media, "small")
    bucket.asked.clear()
    decode_clip(parse_path(f"{bucket.url}/small/{name}"), (64, 64), DecodeSettings(frames=3))
    release()
    assert Counter(asked.method for asked in bucket.asked) == {"HEAD": 1, "GET": 1}


def test_a_folder_is_listed_in_pages(bucket):
    bucket.fill(f"many/{number}.png" for number in range(1100))  # S3 gives a thousand at once
    bucket.asked.clear()
    assert sum(1 for _ in list_directory(parse_path(f"{bucket.url}/many"))) == 1100
    assert Counter(asked.method for asked in bucket.asked) == {"GET": 2}


def test_a_put_without_replacing_leaves_what_is_there(bucket):
    at = parse_path(f"{bucket.url}/put/a.txt")
    put(at, b"", replace=False)
    put(at, b"first", replace=False)  # nothing stood there
    with pytest.raises(FileExistsError):
        put(at, b"second", replace=False)
    assert read(at) == b"first"
    put(at, b"third")
    assert read(at) == b"third"


def test_what_is_a_place(tmp_path):
    assert parse_path(str(tmp_path)) == parse_path(f"file://{tmp_path}") == tmp_path and parse_path("C://x") == Path(
        "C://x"
    )
    memory = parse_path("memory://captions/of")
    assert not is_local(memory) and glob_files(memory, "*.txt") == []
    put(memory / "a [1].txt", b"x")
    assert [found.name for found in glob_files(memory, "*.txt")] == ["a [1].txt"]
    with pytest.raises(UsageError, match="nosuch"):
        parse_path("nosuch://x")
    settings = Settings.from_dict({"output": "memory://captions"})
    assert settings.selection.model_dump(mode="json")["output"] == "memory://captions"


@pytest.mark.prove
def test_actors_caption_a_folder_and_a_tar_in_a_bucket_into_rows_there(command, bucket, media, script, tmp_path):
    (media / "broken.png").write_bytes(b"no image")
    bucket.put(media, "day6")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(media, "sub")
    bucket["day6/s.tar"] = (tmp_path / "s.tar").read_bytes()
    said = [f"{bucket.url}/day6", f"{bucket.url}/day6/s.tar", "--output", f"{bucket.url}/rows", "--json"]
    engine = ["--engine", "scripted", "--model", script(default="{stem}, {num_frames} frames.")]
    said += ["--captions-to", "parquet", *engine]
    done = command("caption", *said, "--cluster", "local", "--actors", "2")
    assert (done.code, done.json["captioned"], done.json["failed"]) == (3, 16, 2), done.err
    made = [row for key in bucket.keys("rows/captions-") for row in read_table(BytesIO(bucket[key])).to_pylist()]
    here = tmp_path / "here"
    command("caption", media, *engine, "--output", here, "--name", "full")
    expected = {name.removesuffix(".txt"): text for name, text in captions(here).items()}
    assert {row["path"]: row["caption"] for row in made} == {
        f"{folder}/{name}": text for folder in ("day6", "s.tar/sub") for name, text in expected.items()
    }
    assert len(made) == 16 and bucket.captions("day6") == {}
    again = command("caption", *said)
    assert (again.json["captioned"], again.json["skipped"], again.json["failed"]) == (0, 16, 2)


@pytest.mark.prove
@pytest.mark.parametrize("files", [100, 300])  # docs/cluster.md
def test_a_run_that_is_killed_goes_on(bucket, tmp_path, script, files):
    draw_samples(tmp_path / "media", images=files * 4 // 5, clips=files // 5, seed=5)
    bucket.put(tmp_path / "media", "killed")
    said = [sys.executable, "-m", "gemma_captioner", "caption", f"{bucket.url}/killed", "--json"]
    said += ["--engine", "scripted", "--model", str(script(delay_s=0.05))]
    for share in (0.2, 0.6):
        bucket.asked.clear()
        before = len(bucket.captions("killed"))
        with subprocess.Popen(said, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while sum(asked.method == "PUT" and asked.key.endswith(".txt") for asked in bucket.asked) + before < (
                files * share
            ):
                assert run.poll() is None
                time.sleep(0.2)
            run.kill()
    kept = bucket.captions("killed")
    assert files * 0.6 <= len(kept) < files
    bucket.asked.clear()
    done = subprocess.run(said, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["captioned"], told["skipped"], told["failed"]) == (files - len(kept), len(kept), 0)
    final = bucket.captions("killed")
    assert final == {
        f"killed/{path.stem}.txt": f"A scripted caption of {path.name}." for path in (tmp_path / "media").iterdir()
    }
    written = Counter(a.key for a in bucket.asked if a.method == "PUT" and a.key.endswith(".txt"))
    assert written.keys() == final.keys() - kept.keys() and set(written.values()) == {1}  # none captioned twice


def test_a_clip_that_the_store_lost_or_cannot_send_says_what_to_do(monkeypatch):
    lost = parse_path("memory://lost/a.mp4")
    with pytest.raises(ItemError, match="the file no longer exists: restore it"):
        decode_clip(lost, (64, 64), DecodeSettings())
    monkeypatch.setattr(type(lost.fs), "info", lambda *_: (_ for _ in ()).throw(OSError("the store is overloaded")))
    with pytest.raises(ItemError, match=r"cannot read this video \(the store is overloaded\): run again"):
        decode_clip(lost, (64, 64), DecodeSettings())
