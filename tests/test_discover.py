"""Which files are found, in which order, and what their captions are called."""

import os
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_captioner.config.selection import SelectionSettings
from gemma_captioner.dataset.containment import check_store_is_contained
from gemma_captioner.dataset.discover import (
    EXTENSIONS,
    DiscoveredItem,
    Discovery,
    resolve_roots,
)
from gemma_captioner.dataset.listing import filename_normalizer, natural_sort_key
from gemma_captioner.errors import StartError
from gemma_captioner.pipeline.planner import in_shard
from gemma_captioner.types import Failed


def names(*paths: Path, **selection) -> list[str]:
    chosen = SelectionSettings(**selection)
    return [
        f.item.name for f in Discovery(resolve_roots(paths, chosen.output), chosen) if isinstance(f, DiscoveredItem)
    ]


def touch(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_natural_order_files_before_folders(tmp_path):
    touch(tmp_path, "a10.png", "a9.PNG", "B.jpg", "a.png", "z/2.png", "z/10.png", "m/1.mp4")
    assert names(tmp_path, recursive=True) == ["a.png", "a9.PNG", "a10.png", "B.jpg", "m/1.mp4", "z/2.png", "z/10.png"]
    assert names(tmp_path) == ["a.png", "a9.PNG", "a10.png", "B.jpg"]


@given(st.lists(st.text(min_size=1), min_size=2))
def test_natural_order_is_total(texts):
    ordered = sorted(texts, key=natural_sort_key)
    assert sorted(reversed(texts), key=natural_sort_key) == ordered


@pytest.mark.parametrize("normalize", [str, str.casefold])
@given(st.lists(st.sampled_from(["a", "A", "a1", "a01", "A1", "a.b", "a 1"]).flatmap(
    lambda stem: st.sampled_from([f"{stem}.jpg", f"{stem}.png", f"{stem}.PNG"])), unique=True))  # fmt: skip
def test_files_that_share_a_caption_are_adjacent(normalize, names):
    stems = [normalize(name.rpartition(".")[0]) for name in sorted(names, key=natural_sort_key)]
    assert len([stem for stem, _ in groupby(stems)]) == len(set(stems))


@pytest.mark.parametrize("extension", [*EXTENSIONS, *(e.upper() for e in EXTENSIONS), "Png"])
def test_every_extension_in_any_case(tmp_path, extension):
    touch(tmp_path, f"a.{extension}")
    [found] = Discovery(resolve_roots([tmp_path], None), SelectionSettings())
    assert isinstance(found, DiscoveredItem)
    assert found.item.kind == EXTENSIONS[extension.lower()]
    assert found.item.caption_path == tmp_path / "a.txt"


def test_a_link_that_leads_back_is_walked_once(tmp_path):
    touch(tmp_path, "in/a.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "in", target_is_directory=True)
    assert len(names(tmp_path, recursive=True)) == 1


def test_a_fifo_is_no_media(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert names(tmp_path) == []


def test_a_folder_that_vanishes_or_cannot_be_listed_fails_alone(tmp_path):
    touch(tmp_path, "a.png", "gone/b.png")
    found = iter(Discovery(resolve_roots([tmp_path], None), SelectionSettings(recursive=True)))
    assert next(found).item.name == "a.png"
    (tmp_path / "gone" / "b.png").unlink()
    (tmp_path / "gone").rmdir()
    [failed] = found
    assert isinstance(failed, Failed) and "cannot be listed" in failed.error


def test_a_subfolder_that_is_given_too_is_not_called_unsearched(tmp_path):
    touch(tmp_path, "a.png", "given/b.png", "other/c.png", "other/d.png")
    given = [tmp_path, tmp_path / "given", tmp_path / "other" / "c.png"]
    discovery = Discovery(resolve_roots(given, None), SelectionSettings())
    assert [found.item.path.name for found in discovery] == ["a.png", "b.png", "c.png"]
    assert discovery.unsearched == [tmp_path / "other"]  # d.png


def test_globs_match_names_and_paths(tmp_path):
    touch(tmp_path, "a.png", "day1/b.png", "day1/c.mp4", "day2/d.png")
    assert names(tmp_path, recursive=True, include=("day1/*",)) == ["day1/b.png", "day1/c.mp4"]
    assert names(tmp_path, recursive=True, exclude=("day1", "a.*")) == ["day2/d.png"]


def test_paths_that_are_no_media_are_refused(tmp_path):
    touch(tmp_path, "a.pdf")
    with pytest.raises(StartError, match="is not an image or a clip"):
        resolve_roots([tmp_path / "a.pdf"], None)
    with pytest.raises(StartError, match="does not exist"):
        resolve_roots([tmp_path / "a.png"], None)


def test_folders_of_one_name_under_one_output_are_refused(tmp_path):
    touch(tmp_path, "x/set/a.png", "y/set/a.png")
    with pytest.raises(StartError, match="'set'"):
        resolve_roots([tmp_path / "x/set", tmp_path / "y/set"], tmp_path / "out")


@given(st.text(), st.integers(1, 40))
def test_every_name_belongs_to_one_shard(name, count):
    assert sum(in_shard(name, f"{i}/{count}") for i in range(1, count + 1)) == 1


def test_shards_are_the_same_everywhere_and_alike_in_size():
    names = [f"day1/clip {i:04d}.mp4" for i in range(2000)]
    shares = [sum(in_shard(name, f"{i}/8") for name in names) for i in range(1, 9)]
    assert shares == [242, 249, 254, 249, 270, 245, 250, 241]  # a change here would mix up shards of two versions
    for i in range(1, 9):  # as Linux and macOS spell it
        assert in_shard("caf\u00e9.png", f"{i}/8") == in_shard("cafe\u0301.png", f"{i}/8")


def test_whether_case_is_set_aside_is_asked_of_the_folder(tmp_path):
    assert filename_normalizer(touch(tmp_path / "kept", "a.png", "A.png", "1.png")) is str or sys.platform != "linux"
    other = touch(tmp_path / "aside", "1.png", "a.png")
    if filename_normalizer(other) is str:  # a second name that leads to the same file: as it is on a Mac
        os.link(other / "a.png", other / "A.PNG")
    assert filename_normalizer(other) is filename_normalizer(other / "not" / "yet") is str.casefold


def test_where_case_is_set_aside_so_it_is_here(tmp_path, monkeypatch):
    monkeypatch.setattr("gemma_captioner.dataset.discover.filename_normalizer", lambda folder: str.casefold)
    touch(tmp_path, "A1.png", "a1.jpg", "a01.jpg", "B.png", "b.TXT", "c.png")
    found = list(Discovery(resolve_roots([tmp_path], None), SelectionSettings()))
    assert {f.item.name for f in found if isinstance(f, Failed)} == {"A1.png", "a1.jpg"}
    assert [f.item.name for f in found if isinstance(f, DiscoveredItem) and f.captioned] == ["B.png"]
    [root] = resolve_roots([tmp_path / "c.png"], None)
    [found] = Discovery([replace(root, only=frozenset({"C.PNG"}))], SelectionSettings())
    assert isinstance(found, DiscoveredItem) and found.item.name == "c.png"


@pytest.mark.parametrize(
    "link", ["", "locks", "check/media.jsonl", "check/report.html", "split/v.csv", "locks/whole.lock"]
)
def test_a_link_in_a_strangers_dataset_leads_our_own_files_nowhere_else(tmp_path, link):
    store = tmp_path / "set" / ".gemma-captioner" / link
    store.parent.mkdir(parents=True)
    (tmp_path / "set" / "train.py").touch()
    os.symlink(tmp_path / "set", tmp_path / "linked")
    for target in ("../" * 5 + "nowhere", tmp_path / "home", tmp_path / "set" / "train.py", *[store] * bool(link)):
        store.symlink_to(target)
        for folder in (tmp_path / "set", tmp_path / "linked"):
            if link or "train" not in str(target):
                with pytest.raises(
                    StartError, match=r"is a link that (points outside .*: put|leads to itself: remove)"
                ):
                    check_store_is_contained(folder)
        store.unlink()
    (store.parent / "a").mkdir()
    store.symlink_to("a")
    check_store_is_contained(tmp_path / "linked")


def test_journals_may_be_links_as_in_git_annex(tmp_path):
    (runs := tmp_path / ".gemma-captioner" / "runs").mkdir(parents=True)
    (runs / "1.jsonl").symlink_to("../../.git/annex/objects/x")
    check_store_is_contained(tmp_path)


def test_a_loop_of_links_is_named(tmp_path):
    (tmp_path / ".gemma-captioner").symlink_to("b")
    (tmp_path / "b").symlink_to(".gemma-captioner")
    with pytest.raises(StartError, match="leads to itself"):
        check_store_is_contained(tmp_path)
