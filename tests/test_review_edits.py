"""What the review page does to a folder, without a browser: every change and its way back."""

import errno
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from gemma_captioner import caption
from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset import sidecar, trash
from gemma_captioner.dataset.discover import Root
from gemma_captioner.dataset.restore import restore
from gemma_captioner.dataset.sidecar import storage_error
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.errors import StartError, UsageError
from gemma_captioner.review import patterns
from gemma_captioner.review.bulk import OPERATIONS, Inputs, plan_changes, word_diff
from gemma_captioner.review.caption_details import decode_settings_for, describe_provenance
from gemma_captioner.review.changes import Draft, EditConflictError
from gemma_captioner.review.edits import Edits
from gemma_captioner.review.library import Library
from gemma_captioner.review.proposals import Proposals
from gemma_captioner.review.query import Query, filter_items
from tests import test_review_tags
from tests.support.files import captions, journal


def opened(folder: Path, **settings) -> Library:
    library = Library(Root(folder, folder, folder), Settings.from_dict({"recursive": True, **settings}))
    library.refresh()
    return library


@pytest.fixture(scope="session")
def captioned(tmp_path_factory) -> Path:
    """Eight files, captioned by the demo model."""
    folder = tmp_path_factory.mktemp("captioned")
    draw_samples(folder, images=5, clips=3, seed=7)
    list(caption(folder, model="demo"))
    return folder


@pytest.fixture
def library(captioned, tmp_path) -> Library:
    return opened(Path(shutil.copytree(captioned, tmp_path / "media")))


@pytest.fixture
def media(library) -> Path:
    return library.root.folder


@pytest.fixture
def empty(tmp_path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture
def edits(library) -> Edits:
    edits = Edits(library)
    yield edits
    edits.close()


def draft(library: Library, number: int, text: str) -> Draft:
    return Draft(number, library[number].caption.digest, text)


def shown(library: Library, *numbers: int) -> list[tuple[int, str | None]]:
    """What a page shows of these items."""
    return [(number, library[number].caption.digest) for number in numbers]


def on_disk(library: Library, number: int) -> str | None:
    path = library[number].item.caption_path
    return path.read_text(encoding="utf-8") if path.exists() else None


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file that a trainer might see."""
    files = (p for p in folder.rglob("*") if p.is_file() and ".gemma-captioner" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_an_edit_is_on_disk_at_once_and_in_the_journal(library, edits, media):
    before = library[0].caption.text
    done = edits.save([draft(library, 0, "  A new\ncaption. ")], tab_id="me")
    assert (done.numbers, done.refused, done.summary) == ((0,), {}, "saved")
    assert on_disk(library, 0) == library[0].caption.text == "A new caption."
    [line] = [line for line in journal(media) if line["kind"] == "edit"]
    assert line["replaced"] == before and line["path"] == library[0].item.name
    assert library[0].provenance is None  # a person's from now on
    edits.undo("me")
    assert on_disk(library, 0) == before and library[0].provenance is not None


def test_nothing_is_written_where_nothing_changed(library, edits, media):
    assert edits.save([draft(library, 0, library[0].caption.text + " ")], tab_id="me").numbers == ()
    assert edits.undo("me") is None
    assert not [line for line in journal(media) if line["kind"] == "edit"]


def test_every_step_can_be_undone_and_done_again(library, edits, media):
    folder = media
    states = [(snapshot(folder), library[1].decision)]

    def note() -> None:
        states.append((snapshot(folder), library[1].decision))

    edits.save([draft(library, n, f"Caption number {n}.") for n in (0, 1, 2)], tab_id="me")
    note()
    edits.decide(shown(library, 0, 1), "approved", tab_id="me")
    note()
    edits.decide(shown(library, 1), "rejected", tab_id="me")
    note()
    edits.save([draft(library, 0, "")], tab_id="me")
    note()
    edits.trash([1, 3], tab_id="me")
    note()
    edits.save_and_approve(draft(library, 2, "Saved and approved."), tab_id="me")
    note()
    for expected in reversed(states[:-1]):
        assert edits.undo("me").refused == {}
        assert (snapshot(folder), library[1].decision) == expected
    assert edits.undo("me") is None
    for expected in states[1:]:
        assert edits.redo("me").refused == {}
        assert (snapshot(folder), library[1].decision) == expected
    assert edits.redo("me") is None


def test_undo_is_ones_own(library, edits):
    edits.save([draft(library, 0, "Mine, first.")], tab_id="me")
    edits.save([draft(library, 1, "Yours.")], tab_id="you")
    edits.undo("me")
    assert on_disk(library, 1) == "Yours." and on_disk(library, 0) != "Mine, first."
    edits.save([draft(library, 2, "Mine, second.")], tab_id="me")
    edits.save([draft(library, 2, "Yours, on top of it.")], tab_id="you")
    assert edits.undo("me").refused == {2: "the caption changed in the meantime: check it, then try again"}
    assert on_disk(library, 2) == "Yours, on top of it."


def test_what_another_program_wrote_is_not_overwritten(library, edits):
    mine = draft(library, 0, "Mine.")
    library[0].item.caption_path.write_text("Theirs.")
    assert edits.save([mine], tab_id="me").refused == {
        0: "the caption changed in the meantime: check it, then try again"
    }
    assert on_disk(library, 0) == library[0].caption.text == "Theirs."
    library[1].item.caption_path.unlink()
    assert 1 in edits.save([Draft(1, library[1].caption.digest, "Mine.")], tab_id="me").refused
    assert on_disk(library, 1) is None
    free = Draft(1, None, "Mine.")
    library[1].item.caption_path.write_text("Theirs, where there was none.")
    assert 1 in edits.save([free], tab_id="me").refused
    assert on_disk(library, 1) == "Theirs, where there was none."


def test_two_at_once_lose_nothing(library, edits, media):
    """Of two who start from the same words one is told; what each overwrote is in the journal."""
    base = library[0].caption.digest
    results = []
    both = threading.Barrier(2)

    def one(name: str) -> None:
        both.wait()
        results.append(edits.save([Draft(0, base, f"By {name}.")], tab_id=name))

    threads = [threading.Thread(target=one, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(done.refused) for done in results) == [0, 1]
    assert on_disk(library, 0) in ("By a.", "By b.")
    assert [line["kind"] for line in journal(media) if "By" in str(line)] == []  # neither was written over the other


class _InterruptedSteps(list):
    """Undoes in another thread, once, when somebody looks whether there are steps."""

    def __init__(self, edits: Edits) -> None:
        super().__init__(edits._history._steps["me", "undo"])
        self.other = threading.Thread(target=edits.undo, args=("me",))

    def __len__(self) -> int:
        count = super().__len__()
        if not self.other.ident:
            self.other.start()
            self.other.join(0.2)  # it waits for the lock that long
        return count


@pytest.mark.parametrize("look", [Edits.undo, Edits.next_undo])
def test_a_step_that_another_thread_undoes_meanwhile(library, edits, look):
    edits.save([draft(library, 0, "Mine.")], tab_id="me")
    steps = edits._history._steps["me", "undo"] = _InterruptedSteps(edits)
    assert look(edits, "me")
    steps.other.join()
    assert edits.next_undo("me") == 0 and edits.next_redo("me") == 1


def test_undo_takes_back_no_later_decision_of_somebody_else(library, edits, media):
    """In another tab, or on another server; one's own is undone."""
    conflict = {0: "the decision changed in the meantime: check it, then try again"}
    edits.decide(shown(library, 0), "approved", tab_id="me")
    edits.decide(shown(library, 0), "rejected", tab_id="you")
    assert edits.undo("me").refused == conflict and library[0].decision == "rejected"
    assert edits.undo("you").refused == {} and library[0].decision == "approved"
    edits.decide(shown(library, 1), "approved", tab_id="me")
    elsewhere = Edits(other := opened(media))
    elsewhere.decide(shown(other, 1), "rejected", tab_id="you")
    assert 1 in edits.undo("me").refused and library[1].decision == "rejected"
    elsewhere.close()


def test_undo_of_a_decision_that_is_withdrawn_already_has_nothing_to_do(library, edits):
    """One that lapsed, too: other words were decided about since."""
    edits.decide(shown(library, 0), "approved", tab_id="me")
    edits.decide(shown(library, 0), None, tab_id="you")
    assert edits.undo("me").refused == {} and library[0].decision is None
    before = on_disk(library, 0)
    edits.decide(shown(library, 0), "approved", tab_id="me")
    edits.save_and_approve(draft(library, 0, "Other words."), tab_id="me")
    for _ in range(2):
        assert edits.undo("me").refused == {}
    assert on_disk(library, 0) == before and library[0].decision is None


def test_a_subfolder_of_any_name_does_not_keep_files_from_the_trash(library, edits, media):
    (media / "any").mkdir()
    before = snapshot(media)
    assert edits.trash([0], tab_id="me").refused == {} and not library[0].exists
    assert edits.undo("me").refused == {} and snapshot(media) == before


def test_a_move_that_is_refused_is_not_in_the_journal(library, edits, media, tmp_path):
    trash_folder = media / ".gemma-captioner" / "trash"
    trash_folder.symlink_to(tmp_path)
    assert "outside the folder" in edits.trash([0], tab_id="me").refused[0]
    assert not [line for line in journal(media) if line["kind"] == "trash"] and library[0].item.path.exists()


def test_a_new_caption_that_was_replaced_is_not_taken_unseen(library, media):
    """By another run, between its display and the key."""
    proposals = Proposals(library)
    for run, text in (("1", "The first."), ("2", "The second.")):
        store = media / ".gemma-captioner" / "proposals" / run
        caption_file = library[0].item.caption_file
        line = {"kind": "caption", "path": library[0].item.name, "caption_file": caption_file,
                "digest": sidecar.digest(text.encode()), "flags": []}  # fmt: skip
        (store / ".gemma-captioner" / "runs").mkdir(parents=True)
        (store / ".gemma-captioner" / "runs" / "r.jsonl").write_text(json.dumps(line) + "\n")
        (store / caption_file).write_text(text)
        assert proposals.add(library[0], store)
        if run == "1":
            displayed = proposals.of(0).digest
            assert proposals.unless_replaced(0, displayed).text == "The first."
    with pytest.raises(EditConflictError, match="the new caption changed in the meantime: check it"):
        proposals.unless_replaced(0, displayed)
    with pytest.raises(EditConflictError):
        proposals.unless_replaced(0, None)  # there was none when the page was drawn
    assert proposals.unless_replaced(0, proposals.of(0).digest).text == "The second."
    assert proposals.unless_replaced(1, None) is None


def test_restore_takes_back_all_that_was_done(library, edits, media):
    before = snapshot(media)
    edits.save([draft(library, 0, "First.")], tab_id="me")
    edits.save([draft(library, 0, "Second.")], tab_id="me")
    edits.save([draft(library, 1, "")], tab_id="me")
    edits.trash([2], tab_id="me")
    assert all(file.reason is None for file in restore(media, edits.run_id))
    assert snapshot(media) == before


def test_the_trash_holds_nothing_that_a_trainer_would_take(library, edits, media):
    edits.trash(range(8), tab_id="me")
    assert snapshot(media) == {} and library[0].exists is False
    kept = [p for p in media.rglob("*") if p.is_file()]
    assert sum(p.suffix == ".deleted" for p in kept) == 8
    assert {p.suffix for p in kept} == {".deleted", ".jsonl", ".lock"}


def test_a_decision_is_about_words(library, edits):
    edits.decide(shown(library, 0), "approved", tab_id="me")
    assert library[0].decision == "approved" and opened(library.root.folder)[0].decision == "approved"
    edits.save([draft(library, 0, "Other words.")], tab_id="me")
    assert library[0].decision is None
    edits.undo("me")
    assert library[0].decision == "approved"
    library[1].item.caption_path.unlink()
    refused = {1: "there is no caption to approve: write one first"}
    assert edits.decide(shown(library, 1), "approved", tab_id="me").refused == refused


def test_lines_that_a_trainer_takes_as_alternatives_stay_lines(library, edits):
    library[0].item.caption_path.write_text("A cat.\nA small cat.\n")
    library.refresh()
    edits.save([draft(library, 0, "A cat.\n\nA small  grey cat.")], tab_id="me")
    assert on_disk(library, 0) == "A cat.\nA small grey cat."


def test_bytes_that_are_no_text_are_shown_and_brought_back(library, edits):
    path = library[0].item.caption_path
    path.write_bytes(b"\xef\xbb\xbfA caf\xe9 \xff.\n")
    library.refresh()
    assert library[0].caption.text == "A caf\ufffd \ufffd."
    edits.save([draft(library, 0, "A caf\u00e9 \ud800.")], tab_id="me")
    assert path.read_bytes() == "A caf\u00e9 ?.".encode()
    edits.undo("me")
    assert path.read_bytes() == b"\xef\xbb\xbfA caf\xe9 \xff.\n"


def test_a_disk_that_refuses_is_told_and_loses_nothing(library, edits, media):
    before = snapshot(media)
    caption_path = library[0].item.caption_path
    caption_path.unlink()
    caption_path.mkdir()
    library.refresh()
    assert "not a regular file" in edits.save([Draft(0, None, "New.")], tab_id="me").refused[0]
    caption_path.rmdir()
    caption_path.write_bytes(before[caption_path.name])
    assert snapshot(media) == before


@pytest.mark.parametrize("blank", [b"\n", b" \t", b"\xef\xbb\xbf", "\u00a0".encode()])
def test_a_caption_of_nothing_but_white_space_is_none(library, edits, blank):
    library[0].item.caption_path.write_bytes(blank)
    library.refresh()
    assert library[0].caption.digest is None
    refused = {0: "there is no caption to approve: write one first"}
    assert edits.decide(shown(library, 0), "approved", tab_id="me").refused == refused
    assert edits.save([Draft(0, None, "Now there is one.")], tab_id="me").refused == {}
    edits.undo("me")
    assert library[0].item.caption_path.read_bytes() == blank


def test_words_that_nobody_has_seen_are_not_approved(library, edits):
    library[0].item.caption_path.write_text("Written since the page was drawn.")
    refused = {0: "the caption changed in the meantime: check it, then try again"}
    assert edits.decide(shown(library, 0), "approved", tab_id="me").refused == refused and library[0].decision is None
    assert edits.decide(shown(library, 0), "approved", tab_id="me").refused == {} and library[0].decision == "approved"


def test_a_decision_is_about_the_text_that_the_browser_showed(library, edits):
    before = shown(library, 0)
    library[0].item.caption_path.write_text("Written since, and listed already.")
    library.refresh()
    assert 0 in edits.decide(before, "approved", tab_id="me").refused and library[0].decision is None
    assert edits.decide(shown(library, 0), "approved", tab_id="me").refused == {}


def test_a_long_change_can_be_canceled(library, edits, media, monkeypatch):
    """What was changed until then is one step for undo; a canceled undo is finished by the next."""
    monkeypatch.setattr("gemma_captioner.review.edits._CHUNK_ITEMS", 3)
    before, reports = snapshot(media), []

    def until(number):
        return lambda done: reports.append(done) or done < number

    drafts = [draft(library, n, f"Caption {n}.") for n in range(8)]
    done = edits.save(drafts, tab_id="me", progress=until(6))
    assert (len(done.numbers), done.refused, done.is_cut, done.left, reports) == (6, {}, True, 2, [3, 6])
    assert edits.undo("me", progress=until(3)).left == 3 and snapshot(media) != before
    assert len(edits.undo("me").numbers) == 3 and snapshot(media) == before and edits.undo("me") is None


def test_a_write_between_the_sync_and_the_rename_stays(library, edits, media, monkeypatch):
    """By another program: the change is refused, and nothing is left in its temporary folder."""
    mine, sync = draft(library, 0, "Mine."), Edits._sync

    def sync_late(self):
        sync(self)
        library[0].item.caption_path.write_text("Theirs.")

    monkeypatch.setattr(Edits, "_sync", sync_late)
    assert 0 in edits.save([mine], tab_id="me").refused and on_disk(library, 0) == "Theirs."
    assert not list((media / ".gemma-captioner" / "tmp").iterdir())


def test_a_disk_that_fills_in_the_middle_costs_nothing(library, edits, media, monkeypatch):
    """Of many changes those that were made can be undone, of an undo the rest can be tried again."""
    before, staged, left = snapshot(media), sidecar.staged, [2]

    def filling(*args):
        left[0] -= 1
        if left[0] < 0:
            raise storage_error(OSError(errno.ENOSPC, "full"), args[0])
        return staged(*args)

    monkeypatch.setattr(sidecar, "staged", filling)  # a real one wants root
    done = edits.save([draft(library, n, f"Caption {n}.") for n in range(8)], tab_id="me")
    assert (done.numbers, list(done.refused), done.left) == ((0, 1), [2], 5) and "disk is full" in done.refused[2]
    left[0] = 1
    assert len(edits.undo("me").numbers) == 1
    left[0] = 9
    assert edits.undo("me").numbers == (0,) and snapshot(media) == before
    assert edits.undo("me") is None


def test_what_vanishes_meanwhile_costs_itself_alone(captioned, tmp_path):
    for day in ("a", "b"):
        shutil.copytree(captioned, tmp_path / "set" / day)
    library = opened(tmp_path / "set")
    edits = Edits(library)
    shutil.rmtree(tmp_path / "set" / "a")
    done = edits.trash(range(16), tab_id="me")
    assert (sorted(done.refused), done.numbers) == (list(range(8)), tuple(range(8, 16)))
    assert edits.undo("me").refused == {}
    edits.close()


def test_a_decision_survives_a_line_that_was_torn_before_it(library, edits, media):
    """By a disk that was full, or a power cut."""
    edits.decide(shown(library, 0), "approved", tab_id="me")
    reviews = media / ".gemma-captioner" / "reviews.jsonl"
    reviews.write_bytes(reviews.read_bytes() + b'{"at": "2026')
    edits.decide(shown(library, 1), "rejected", tab_id="me")
    assert [entry.decision for entry in opened(media).entries[:3]] == ["approved", "rejected", None]


@pytest.mark.parametrize("name", ["", "runs", "tmp", "trash", "proposals", "reviews.jsonl"])
def test_a_strangers_dataset_has_us_write_nowhere_else(captioned, tmp_path, name):
    """`reviews.jsonl -> ~/.profile` and a file called `$(command).png` would be a command that is run."""
    folder = Path(shutil.copytree(captioned, tmp_path / "set"))
    link = folder / ".gemma-captioner" / name
    shutil.rmtree(link, ignore_errors=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartError, match=r"is a link that points outside .*: put"):
        opened(folder)
    link.unlink()
    library = opened(folder)
    if name == "reviews.jsonl":  # a link since then
        link.symlink_to(tmp_path / "elsewhere")
        assert Edits(library).decide(shown(library, 0), "approved", tab_id="me").refused
        assert not (tmp_path / "elsewhere").exists()


def test_a_journal_may_say_anything(library, media):
    """It may have come with somebody's dataset."""
    content = library[0].item.caption_path.read_bytes()
    known = {"kind": "caption", "path": library[0].item.name, "caption_file": library[0].item.caption_file,
             "digest": sidecar.digest(content)}  # fmt: skip
    for odd in (None, 5, "x", {"a": 1}, [None, {"a": []}, 5], [[1]]):
        line = known | dict.fromkeys(
            ("flags", "prompts", "raw", "captions", "rejected", "frame_times_s", "settings", "model", "at"), odd
        )
        run = media / ".gemma-captioner" / "runs" / "9.jsonl"
        run.write_text(json.dumps(line | {"media_kind": "clip"}) + "\n")
        entry = opened(media)[0]
        assert all(isinstance(flag, str) for flag in entry.flags)
        assert describe_provenance(entry) and decode_settings_for(entry, Settings())


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are text there")
def test_names_that_are_no_text_can_be_told(captioned, tmp_path):
    folder = Path(shutil.copytree(captioned, tmp_path / "set"))
    for name in (b"\xff.png", b"\xff.jpg", b"new\nline.png", "\u202egnp.png".encode()):
        shutil.copy(next(captioned.glob("*.png")), os.fsencode(folder) + b"/" + name)
    library = opened(folder)
    edits = Edits(library)
    done = edits.save([Draft(entry.number, None, "Words.") for entry in library.entries[8:]], tab_id="me")
    edits.close()
    assert len(done.refused) == 2
    for entry in library.entries:
        f"{entry.name} {entry.access_error} {entry.failure} {done.refused}".encode()
    assert captions(folder)["new\nline.txt"] == captions(folder)["\u202egnp.txt"] == "Words."


@pytest.mark.parametrize("swapped", ["caption", "folder"])
def test_what_becomes_a_link_out_after_it_was_listed_is_left_alone(captioned, tmp_path, swapped):
    """No look at the folder between the swap and the change: each change looks for itself."""
    inside, outside = tmp_path / "media" / "inside", tmp_path / "outside"
    shutil.copytree(captioned, inside)
    shutil.copytree(captioned, outside)
    library = opened(inside.parent)
    edits = Edits(library)
    before = {path.name: path.read_bytes() for path in outside.iterdir() if path.is_file()}
    entry = library[0]
    caption_file = inside / Path(entry.name).with_suffix(".txt").name
    if swapped == "caption":
        caption_file.unlink()
        caption_file.symlink_to(outside / caption_file.name)
    else:
        inside.rename(tmp_path / "elsewhere")
        inside.symlink_to(outside)
    draft = Draft(0, entry.caption.digest, "Written outside.")
    assert edits.save([draft], tab_id="me").refused
    assert edits.save_and_approve(draft, tab_id="me").refused
    edits.decide(shown(library, 0), "approved", tab_id="me")
    if swapped == "folder":
        assert edits.trash([0], tab_id="me").refused
    edits.close()
    assert {path.name: path.read_bytes() for path in outside.iterdir() if path.is_file()} == before


def test_other_programs_are_noticed(library, media):
    told = []
    library.listeners.append(told.append)
    library[0].item.caption_path.write_text("Edited elsewhere.")
    os.rename(library[7].item.path, media / "renamed.mp4")
    assert library.refresh() == {0, 7, 8}
    assert told == [{0, 7, 8}]
    assert library[0].caption.text == "Edited elsewhere."
    assert [e.name for e in library.present()][-1] == "renamed.mp4" and not library[7].exists
    assert library.refresh() == set()


def test_files_that_share_a_caption_cannot_be_edited(media):
    (media / "x.png").write_bytes((media / next(p.name for p in media.glob("*.png"))).read_bytes())
    (media / "x.jpg").write_bytes(b"")
    library = opened(media)
    shared = [e for e in library.present() if e.access_error]
    assert [e.name for e in shared] == ["x.jpg", "x.png"]
    edits = Edits(library)
    assert (
        "would share x.txt"
        in edits.save([Draft(shared[0].number, None, "New.")], tab_id="me").refused[shared[0].number]
    )


# What is shown


def names(library: Library, **query) -> list[str]:
    return [entry.name for entry in filter_items(library.present(), Query(**query))]


def test_filters(empty):
    refusal = "I cannot help with that."
    texts = {"a1.png": "A red cat sits.", "a10.png": "A blue dog.", "a2.png": "", "day/b.mp4": refusal}
    library = library_of(empty, texts)
    library.flag_unknown()
    assert names(library) == ["a1.png", "a2.png", "a10.png", "day/b.mp4"]
    assert names(library, text="CAT") == ["a1.png"]
    assert names(library, text="c.t") == []
    assert names(library, text="c.t|dog$|dog[.]", is_regex=True) == ["a1.png", "a10.png"]
    assert names(library, text="day/") == ["day/b.mp4"]
    assert names(library, text="kind:clip") == names(library, text="folder:day") == ["day/b.mp4"]
    assert names(library, text="state:uncaptioned") == ["a2.png"]
    assert names(library, text="flag:refusal") == names(library, text="flag:any") == ["day/b.mp4"]
    assert names(library, text="words>=4 words<=4") == ["a1.png"]
    assert names(library, sort="length", is_reversed=True)[0] == "day/b.mp4"
    assert names(library, sort="flags")[0] == "day/b.mp4"
    assert names(library, only=frozenset({1})) == [library[1].name]
    edits = Edits(library)
    edits.decide(shown(library, library.entries[0].number), "approved", tab_id="me")
    assert names(library, text="state:approved") == [library[0].name]
    assert library[0].name not in names(library, text="state:open")
    with pytest.raises(UsageError, match="not a valid regular expression"):
        names(library, text="(", is_regex=True)


def test_filters_are_taken_back_one_by_one():
    query = Query('cat kind:clip so many -"a dog"', only=frozenset({1}), only_reason="one", sort="length")
    seen = []
    while query.is_filter:
        query = query.without_one_filter()
        seen.append(query)
    texts = ['cat kind:clip so many -"a dog"', "cat kind:clip", "cat", ""]  # words that follow each other at once
    assert seen == [Query(text, sort="length") for text in texts]


def library_of(folder: Path, texts: dict[str, str]) -> Library:
    """Files that hold nothing, which nobody opens here, and their captions."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
        if text:
            (folder / name).with_suffix(".txt").write_text(text)
    return opened(folder)


def test_an_expression_that_would_run_for_ever_is_refused(empty):
    library = library_of(empty, {"a.png": "a" * 40 + "!"})
    with pytest.raises(UsageError, match="takes too long"):
        names(library, text=r"(a|aa|a?)+$", is_regex=True)
    with pytest.raises(UsageError, match="takes too long"):
        plan_changes(library.present(), "find and replace", Inputs(r"(a|aa|a?)+$", "b", is_regex=True))


def test_many_captions_take_no_longer_than_one_waits(empty, monkeypatch):
    library = library_of(empty, {"a.png": "A cat.", "b.png": "A dog."})
    monkeypatch.setattr(patterns, "TOTAL_TIMEOUT_S", -1)
    with pytest.raises(UsageError, match="for this many"):
        names(library, text="cat", is_regex=True)
    with pytest.raises(UsageError, match="for this many"):
        plan_changes(library.present(), "find and replace", Inputs("cat", "dog", is_regex=True))
    assert names(library, text="cat") == ["a.png"]


# What is done to many

ONE = "A red cat. The image is blurry! It sits."


@pytest.mark.parametrize(
    ("name", "inputs", "after"),
    [
        ("find and replace", Inputs("red", "blue"), "A blue cat. The image is blurry! It sits."),
        ("find and replace", Inputs("RED", "blue"), None),
        ("find and replace", Inputs("RED", "blue", ignore_case=True), "A blue cat. The image is blurry! It sits."),
        ("find and replace", Inputs(".", ","), "A red cat, The image is blurry! It sits,"),
        ("find and replace", Inputs(r"(\w+) cat.*", r"\1 \\1 dog", is_regex=True), r"A red \1 dog"),
        ("find and replace", Inputs("cat", r"\1"), r"A red \1. The image is blurry! It sits."),
        ("prepend (prefix)", Inputs("photo of "), "photo of A red cat. The image is blurry! It sits."),
        ("prepend (prefix)", Inputs("A red"), None),
        ("append (suffix)", Inputs(", 35mm"), "A red cat. The image is blurry! It sits., 35mm"),
        ("trigger", Inputs("ohwx"), "ohwx A red cat. The image is blurry! It sits."),
        ("trigger", Inputs("cat"), None),
        ("remove sentence", Inputs("blurry"), "A red cat. It sits."),
        ("remove sentence", Inputs("^It", is_regex=True), "A red cat. The image is blurry!"),
        ("remove sentence", Inputs("dog"), None),
        ("prepend (prefix)", Inputs(""), None),
    ],
)  # fmt: skip
def test_operations(empty, name, inputs, after):
    plan = plan_changes(library_of(empty, {"a.png": ONE, "b.png": ""}).present(), name, inputs)
    assert [change.draft.text for change in plan.changes] == ([] if after is None else [after])


FLUX2 = (
    '{"scene":"A red cat sits. It is blurry.","subjects":[{"description":"a cat","position":"left","action":"sits"}],'
    '"style":"photo","lighting":"soft","mood":"calm","background":"a wall","composition":"centered"}'
)
H3 = "\n\n".join((
    "integrated_multimodal_description: [Shot 1] A red cat.", "overall_soundscape: Rain.", "non_diegetic_music: N/A",
))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "inputs", "old", "new"),
    [
        ("prepend (prefix)", Inputs("photo of "), "A red", "photo of A red"),
        ("trigger", Inputs("ohwx"), "A red", "ohwx A red"),
        ("trigger", Inputs("cat"), "", ""),
        ("find and replace", Inputs("red", "blue"), "red", "blue"),
    ],
)
@pytest.mark.parametrize("caption", [FLUX2, H3])
def test_operations_on_structured_captions_keep_their_format(empty, caption, name, inputs, old, new):
    plan = plan_changes(library_of(empty, {"a.png": caption}).present(), name, inputs)
    assert [change.draft.text for change in plan.changes] == ([caption.replace(old, new)] if old else [])
    assert plan.left_out == {}


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("remove sentence", Inputs("blurry|Rain", is_regex=True)),
        ("add tag", Inputs("solo")),
        ("add tag first", Inputs("solo")),
        ("remove tag", Inputs('"mood":"calm"')),
        ("rename tag", Inputs('"mood":"calm"', "solo")),
        ("sort tags", Inputs()),
    ],
)
def test_operations_on_words_and_tags_leave_structured_captions_out(empty, name, inputs):
    plan = plan_changes(library_of(empty, {"a.png": FLUX2, "b.png": "z, a. It is blurry."}).present(), name, inputs)
    assert {change.entry.number for change in plan.changes} <= {1} and list(plan.left_out) == [0]
    assert "flux2" in plan.left_out[0]


@pytest.mark.parametrize(
    ("caption", "name", "inputs", "reason"),
    [
        (FLUX2, "find and replace", Inputs("red", 'the "red"'), "JSON"),
        (FLUX2, "find and replace", Inputs("scene", "place"), "scene"),
        (FLUX2, "find and replace", Inputs(r"\Z", " The end.", is_regex=True), "JSON"),
        ('{"seed": 3}', "find and replace", Inputs('"', "'"), "JSON"),
        (H3, "find and replace", Inputs("overall_soundscape", "sound"), "overall_soundscape"),
        (FLUX2 + " The end.", "prepend (prefix)", Inputs("photo of "), "outside"),
    ],
)
def test_a_change_that_would_break_a_structured_caption_is_left_out(empty, caption, name, inputs, reason):
    plan = plan_changes(library_of(empty, {"a.png": caption}).present(), name, inputs)
    assert plan.changes == [] and reason in plan.left_out[0]


def test_a_replacement_that_makes_no_sense_is_told(empty):
    library = library_of(empty, {"a.png": ONE})
    with pytest.raises(UsageError, match="not a valid replacement"):
        plan_changes(library.present(), "find and replace", Inputs("(cat)", r"\2", is_regex=True))


def test_many_at_once_are_one_step(library, edits):
    before = captions(library.root.folder)
    plan = plan_changes(library.present(), "prepend (prefix)", Inputs("photo of "))
    done = edits.save((change.draft for change in plan.changes), tab_id="me")
    assert done.summary == "8 saved" and len(done.numbers) == 8
    assert all(text.startswith("photo of ") for text in captions(library.root.folder).values())
    assert edits.undo("me").summary == "undone: 8 saved"
    assert captions(library.root.folder) == before


def test_every_operation_is_tried_above():
    marks = [*test_operations.pytestmark, *test_review_tags.test_operations_on_tags.pytestmark]
    assert {case[0] for mark in marks for case in mark.args[1]} == set(OPERATIONS)


def test_a_difference_shows_what_went_and_came():
    assert word_diff("a red cat", "a blue cat") == [("same", "a "), ("gone", "red"), ("new", "blue"), ("same", " cat")]
    assert word_diff("", "new") == [("new", "new")]


@pytest.mark.parametrize(
    ("place", "of", "is_trash"),
    [
        (".gemma-captioner/trash/RUN/a.png.deleted", "a.png", True),
        (".gemma-captioner/trash/RUN/day/a.png.1.deleted", "day/a.png", True),
        ("../clips/.gemma-captioner/trash/RUN/a.mp4.deleted", "../clips/a.mp4", True),  # of a journal in --output
        (".gemma-captioner/trash/RUN/a.png.deleted", "../a.png", False),
        (".gemma-captioner/trash/RUN/../a.png.deleted", "../a.png", False),
        (".gemma-captioner/trash/RUN/a.png.deleted", "/etc/a.png", False),
        ("a.png", "b.png", False),
        ("a.png", "a.png", False),
    ],
)
def test_a_journal_of_a_strangers_dataset_moves_no_files_about(place, of, is_trash):
    assert trash.is_trash(place, of=of) is is_trash


def test_a_journal_of_a_strangers_dataset_writes_nowhere_else(command, tmp_path):
    runs = tmp_path / "set" / ".gemma-captioner" / "runs"
    runs.mkdir(parents=True)
    lines = [{"kind": "caption", "path": "a", "caption_file": name, "digest": None, "replaced": "evil"}
             for name in ("../out.txt", str(tmp_path / "out.txt"), "x/../../out.txt", "in.txt", 5)]  # fmt: skip
    (runs / "RUN.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = command("restore", "RUN", tmp_path / "set")
    assert done.code == 0, done.err
    assert not (tmp_path / "out.txt").exists() and (tmp_path / "set" / "in.txt").read_text() == "evil"


def test_restore_follows_no_link_out_of_a_strangers_dataset(command, tmp_path):
    folder, home = tmp_path / "set", tmp_path / "home"
    runs, home_trash = folder / ".gemma-captioner" / "runs", home / ".gemma-captioner" / "trash" / "RUN"
    own_trash = folder / ".gemma-captioner" / "trash" / "RUN"
    for one in (runs, home_trash, own_trash):
        one.mkdir(parents=True)
    (folder / "sub").symlink_to(home)
    (folder / "train.py").write_text("mine")
    (home / "theirs.txt").write_text("mine")
    (folder / "link.txt").symlink_to(folder / "train.py")
    (home_trash / "a.png.deleted").touch()
    (own_trash / "a.py.deleted").touch()
    digest = sidecar.digest(b"mine")
    names = {"sub/new.txt": None, "sub/authorized_keys": None, "train.py": digest, "link.txt": digest}
    lines = [{"kind": "caption", "path": "a", "caption_file": name, "digest": digest, "replaced": "evil"}
             for name, digest in (names | {"sub/theirs.txt": digest}).items()]  # fmt: skip
    trash_folder = ".gemma-captioner/trash/RUN"
    lines += [{"kind": "trash", "from": "sub/a.png", "to": f"sub/{trash_folder}/a.png.deleted"},
              {"kind": "trash", "from": "a.py", "to": f"{trash_folder}/a.py.deleted"},
              {"caption_file": "in.txt", "digest": None, "replaced": "\ud800"}]  # fmt: skip
    (runs / "RUN.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = command("restore", "RUN", folder)
    assert (done.code, done.err.count("not restored")) == (3, len(lines)), done.err
    assert f"0 captions restored, {len(lines)} not restored" in done.out
    assert [path.name for path in home.iterdir() if path.is_file()] == ["theirs.txt"]
    assert (home / "theirs.txt").read_text() == (folder / "train.py").read_text() == "mine"


def test_restore_says_why_a_file_stays_in_the_trash(command, library, edits, media):
    edits.trash([0, 1], tab_id="me")
    edits.undo("me")
    edits.trash([2, 3], tab_id="me")
    taken = library[2].item.path
    taken.write_bytes(b"another")
    done = command("restore", edits.run_id, media)
    assert done.code == 3
    assert f"not restored: {taken}: a file named {taken.name} already exists" in done.err.replace("\n", "")
    assert "captions and 3 files restored, 1 not restored" in done.out
    taken.unlink()
    again = command("restore", edits.run_id, media)
    assert again.code == 0 and "and 4 files restored, 0 not restored" in again.out
