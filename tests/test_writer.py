"""What reaches the disk, and in which order: the journal's line, then the caption."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset import sidecar
from gemma_captioner.dataset.journal import Journal, JournalReader, JournalRecord, read_record
from gemma_captioner.dataset.parquet import ParquetWriter
from gemma_captioner.errors import ItemError, StorageError
from gemma_captioner.pipeline.writer import CaptionWriter, OutcomeWriter, TxtWriter
from gemma_captioner.storage.filesystem import parse_path, read
from gemma_captioner.types import Captioned, Failed, Folder, MediaItem, Skipped
from tests.support.files import captions, journal

LINE: JournalRecord = {
    "kind": "caption",
    "path": "a.png",
    "media": "1:2",
    "media_kind": "image",
    "model": "m",
    "recipe": "r",
}


@pytest.fixture
def captioned(tmp_path) -> Captioned:
    item = MediaItem(tmp_path / "a.png", "image", "a.png", tmp_path / "a.txt", tmp_path)
    return Captioned(item, "A red circle.", ("A red circle.",))


def writer(folder: Path, **settings) -> OutcomeWriter:
    return OutcomeWriter(Settings.from_dict({"output": folder, **settings}), "run", stores=1)


def parts(folder: Path) -> list[Path]:
    return list(folder.glob("captions-*.parquet"))


class Racing(Journal):
    """A person writes the caption `edited` after the record of the tool's own caption."""

    edited: Path

    def append(self, store, line, *, sync=True):
        super().append(store, line, sync=sync)
        self.edited.write_text("By hand.")


class FullDisk(Journal):
    """Takes lines until it is to sync them."""

    def append(self, store, line, *, sync=True):
        super().append(store, line, sync=False)
        if sync:
            self.flush()

    def flush(self):
        raise StorageError("the disk is full")


def test_a_present_caption_is_skipped_and_leaves_no_line(captioned, tmp_path):
    captioned.item.caption_path.write_text("By hand.")
    outcomes = writer(tmp_path)
    assert isinstance(outcomes.store(captioned, LINE), Skipped)
    outcomes.close()
    assert captions(tmp_path) == {"a.txt": "By hand."}
    assert not (tmp_path / ".gemma-captioner" / "runs").exists()


def test_an_overwritten_caption_is_in_the_journal(captioned, tmp_path):
    captioned.item.caption_path.write_text("By hand.")
    outcomes = writer(tmp_path, existing="overwrite")
    assert outcomes.store(captioned, LINE) == captioned
    outcomes.close()
    assert captions(tmp_path) == {"a.txt": "A red circle."}
    assert journal(tmp_path)[-1]["replaced"] == "By hand."
    assert journal(tmp_path)[-1]["digest"] == sidecar.digest(b"A red circle.")


def test_a_txt_that_appears_as_it_is_written_stays(captioned, tmp_path):
    with closing(Racing("run", {})) as racing, pytest.raises(sidecar.CaptionExistsError):
        racing.edited = captioned.item.caption_path
        TxtWriter(racing).write(captioned, LINE, expected=None)
    assert captions(tmp_path) == {"a.txt": "By hand."}


def test_a_txt_that_changes_as_it_is_replaced_stays(captioned, tmp_path, monkeypatch):
    Racing.edited = captioned.item.caption_path
    captioned.item.caption_path.write_text("An old caption.")
    monkeypatch.setattr("gemma_captioner.pipeline.writer.Journal", Racing)
    outcomes = writer(tmp_path, existing="overwrite")
    failed = outcomes.store(captioned, LINE)
    outcomes.close()
    assert isinstance(failed, Failed) and "changed this caption meanwhile" in failed.error
    assert captions(tmp_path) == {"a.txt": "By hand."}
    assert not list(tmp_path.glob(".gemma-captioner/tmp/*"))


def test_a_file_in_a_store_that_changes_as_it_is_replaced_stays():
    at = parse_path("memory://replaced/a.txt")
    sidecar.write(at, b"old", at.parent, expected=None)
    sidecar.write(at, b"new", at.parent, expected=b"old")
    with pytest.raises(ItemError, match="changed this caption meanwhile"):
        sidecar.write(at, b"newer", at.parent, expected=b"old")
    with pytest.raises(sidecar.CaptionExistsError):
        sidecar.write(at, b"newer", at.parent, expected=None)
    assert read(at) == b"new"


def test_rows_are_outcomes_once_their_file_is_written(captioned, tmp_path):
    outcomes = writer(tmp_path, captions_to="parquet")
    assert outcomes.store(captioned, LINE) is None and parts(tmp_path) == []
    assert [line["kind"] for line in journal(tmp_path)] == ["run", "caption"]
    assert list(outcomes.flush()) == [captioned] and len(parts(tmp_path)) == 1
    assert list(outcomes.flush()) == []
    outcomes.close()


def test_a_row_is_written_where_there_is_a_txt(captioned, tmp_path):
    captioned.item.caption_path.write_text("By hand.")
    outcomes = writer(tmp_path, captions_to="parquet")
    assert outcomes.store(captioned, LINE) is None
    assert list(outcomes.flush()) == [captioned]
    outcomes.close()
    assert captions(tmp_path) == {"a.txt": "By hand."} and len(parts(tmp_path)) == 1
    assert [line["replaced"] for line in journal(tmp_path)[1:]] == [None]


def test_what_is_held_is_stored_when_the_run_ends(captioned, tmp_path):
    outcomes = writer(tmp_path, captions_to="parquet")
    outcomes.store(captioned, LINE)
    outcomes.close()
    assert len(parts(tmp_path)) == 1
    assert list(outcomes.take_stored()) == [captioned] and list(outcomes.take_stored()) == []


@pytest.mark.parametrize("kind", [TxtWriter, ParquetWriter])
def test_no_caption_is_stored_before_its_line_is_synced(captioned, tmp_path, kind):
    with closing(FullDisk("run", {})) as full, pytest.raises(StorageError):
        to_disk: CaptionWriter = kind(full)
        to_disk.write(captioned, LINE, expected=None)
        to_disk.flush()
    assert captions(tmp_path) == {} and parts(tmp_path) == []
    assert not list(tmp_path.glob(".gemma-captioner/tmp/*"))


def test_a_caption_that_cannot_be_written_is_a_failure_in_the_journal(captioned, tmp_path):
    captioned.item.caption_path.mkdir()
    outcomes = writer(tmp_path)
    failed = outcomes.store(captioned, LINE)
    outcomes.close()
    assert isinstance(failed, Failed) and "a folder has the name of the caption file" in failed.error
    assert (journal(tmp_path)[-1]["kind"], journal(tmp_path)[-1]["error"]) == ("failure", failed.error)


def test_failures_are_recorded_where_there_is_a_journal(captioned, tmp_path):
    outcomes = writer(tmp_path)
    failed = Failed(captioned.item, "refused", rejected=("No.",))
    assert outcomes.record(failed) is failed
    (tmp_path / "file").touch()
    nowhere = Failed(Folder(tmp_path / "file", "file", tmp_path / "file"), "cannot be listed")
    assert outcomes.record(nowhere) is nowhere
    outcomes.close()
    assert [line.get("rejected") for line in journal(tmp_path)] == [None, ["No."]]


def test_only_a_single_folder_that_cannot_be_written_ends_the_run(tmp_path):
    (store := tmp_path / "file").touch()
    with pytest.raises(StorageError):
        OutcomeWriter(Settings(), "run", stores=1).write_error(store)
    one_of_two = OutcomeWriter(Settings(), "run", stores=2)
    assert "a part of this path is a file" in (one_of_two.write_error(store) or "")
    assert one_of_two.write_error(tmp_path) is None


@pytest.mark.parametrize(("target", "message"), [("pipe", "pipe or a device"), ("a.txt", "leads to itself")])
def test_a_caption_that_cannot_be_read_to_an_end_fails_alone(tmp_path, target, message):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.txt").symlink_to(target)
    with pytest.raises(ItemError, match=message):
        sidecar.read(tmp_path / "a.txt")


def test_a_journal_is_read_as_it_grows(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"n": 1}\nno JSON\n[2]\n{"n": ')
    reader = JournalReader(path)
    assert list(reader.read()) == [(0, {"n": 1})] and list(reader.read()) == []
    with path.open("ab") as file:
        file.write(b'3}\n{"n": 4}')  # only the line break is missing
    added = list(reader.read())
    assert [line for _, line in added] == [{"n": 3}, {"n": 4}] and list(reader.read()) == []
    for offset, line in added:
        assert read_record(path, offset) == line == json.loads(path.read_bytes()[offset:].splitlines()[0])
    for none_begins in (1, 9, 1000):
        with pytest.raises(ValueError, match="no line starts"):
            read_record(path, none_begins)
