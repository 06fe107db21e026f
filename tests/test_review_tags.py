"""Tags of captions, and the phrases that complete what is typed, without a browser."""

from pathlib import Path

import pytest

from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import Root
from gemma_captioner.review import phrases, tags
from gemma_captioner.review.bulk import Inputs, plan_changes
from gemma_captioner.review.edits import Edits
from gemma_captioner.review.library import Library
from gemma_captioner.review.phrases import PhraseIndex
from gemma_captioner.review.query import Query, filter_items
from gemma_captioner.review.tags import TagCounts, split_tags
from gemma_captioner.review.terms import written


def library_of(folder: Path, *texts: str) -> Library:
    for number, text in enumerate(texts):
        (folder / f"{number:03}.png").touch()
        (folder / f"{number:03}.txt").write_text(text)
    library = Library(Root(folder, folder, folder), Settings.from_dict({}))
    library.refresh()
    return library


def test_a_tag_is_what_lies_between_commas():
    assert split_tags("1girl,  red\nhair, ,smile,") == ("1girl", "red hair", "smile") and split_tags(" ") == ()
    assert tags.is_tagged("1girl, solo, looking at the viewer") and not tags.is_tagged("A cat, on a mat.")


@pytest.mark.parametrize(
    ("name", "inputs", "after"),
    [
        ("add tag", Inputs("d, b"), "ohwx, b, Ab, a, b, d"),
        ("add tag", Inputs("a"), None),
        ("add tag first", Inputs("d, b"), "d, ohwx, b, Ab, a, b"),
        ("remove tag", Inputs("b, a"), "ohwx, Ab"),
        ("remove tag", Inputs("ab"), None),
        ("rename tag", Inputs("b", "c"), "ohwx, c, Ab, a"),
        ("rename tag", Inputs("a", "b, e"), "ohwx, b, Ab, e"),
        ("rename tag", Inputs("nosuch", "c"), None),
        ("rename tag", Inputs(",", "c"), None),
        ("sort tags", Inputs(""), "a, Ab, b, b, ohwx"),
        ("sort tags", Inputs("ohwx, nosuch"), "ohwx, a, Ab, b, b"),
        ("remove repeated tags", Inputs(""), "ohwx, b, Ab, a"),
    ],
)
def test_operations_on_tags(tmp_path, name, inputs, after):
    library = library_of(tmp_path, "ohwx, b, Ab, a, b", "")
    plan = plan_changes(library.present(), name, inputs)
    assert [change.draft.text for change in plan.changes] == ([] if after is None else [after])


def test_tags_of_captions_on_several_lines_stay_on_their_lines(tmp_path):
    library = library_of(tmp_path, "a, b\nb, c")
    [change] = plan_changes(library.present(), "add tag", Inputs("c")).changes
    assert change.draft.text == "a, b, c\nb, c"


def test_labeled_paragraphs_keep_their_blank_lines(tmp_path):
    text = "\n\n".join((
        "integrated_multimodal_description: [Shot 1] A cat.", "overall_soundscape: Rain.", "non_diegetic_music: N/A",
    ))  # fmt: skip
    library = library_of(tmp_path, text)
    assert plan_changes(library.present(), "find and replace", Inputs("zzz", "y")).changes == []
    [change] = plan_changes(library.present(), "find and replace", Inputs("cat", "dog")).changes
    assert change.draft.text == text.replace("cat", "dog")


def test_a_change_of_tags_in_many_is_one_step(tmp_path):
    library = library_of(tmp_path, "a, b", "b", "c")
    edits = Edits(library)
    plan = plan_changes(library.present(), "remove tag", Inputs("b")).changes
    assert [change.entry.number for change in plan] == [0, 1]
    edits.save([change.draft for change in plan[:1]], tab_id="me", summary="changed")
    assert library[0].caption.text == "a" and edits.undo("me").refused == {} and library[0].caption.text == "a, b"
    edits.close()


def test_counts_follow_the_captions_and_agree_with_the_filter(tmp_path):
    library, counts = (
        library_of(tmp_path, "a, b, a", "b, c", "A cat, on a mat. A dog sleeps on the floor, and so on."),
        TagCounts(),
    )
    first = counts.update(library.present())
    assert first[0] == ("b", 2, None) and ("a", 1, None) in first
    for tag, count, _ in first:
        assert len(filter_items(library.present(), Query(written("tag", tag)))) == count
    (tmp_path / "001.txt").write_text("c")
    (tmp_path / "000.png").unlink()
    library.refresh()
    assert counts.update(library.present()) == [("A cat", 1, None), ("c", 1, None)]
    assert counts.update(library.present(), ["c, d"]) == [("c", 1, 1), ("A cat", 1, 0)]
    assert counts.update([]) == []


def test_the_filter_for_a_tag_is_taken_back():
    query = Query("kind:clip").with_term("tag", "red hair")
    assert query.text == 'kind:clip tag:"red hair"' and query.value("tag") == "red hair"
    assert query.without_one_filter() == Query("kind:clip") == query.with_term("tag", "")


def test_tags_are_completed_with_the_most_frequent_first(tmp_path):
    library = library_of(
        tmp_path, "1girl, red hair, smile", "1girl, red hair, red Hat", "1boy, red Hat, red hair, rain", "sit, red, x"
    )
    index = PhraseIndex()
    index.update(library.present())
    assert index.complete("1girl, red h") == [("red hair", "red h"), ("red hat", "red h")]  # as it was typed
    assert index.complete("smile, RED H", is_tag=True) == [("red hair", "RED H"), ("red Hat", "RED H")]
    assert index.complete("r") == [] == index.complete("red ") == index.complete("1girl, ", is_tag=True)
    assert index.complete("red hair", is_tag=True) == []


def test_words_are_completed_by_those_that_follow_them(tmp_path):
    library = library_of(
        tmp_path, *["A woman with long hair sits.", "The woman with long hair, a dog."] * 2, "Long days."
    )
    index = PhraseIndex()
    index.update(library.present())
    found = index.complete("A cat. A woman with lo")
    assert found[:2] == [("A woman with long", "A woman with lo"), ("woman with long hair", "woman with lo")]
    assert ("with long hair", "with lo") not in found  # it would put the same there
    assert index.complete("Near lo") == [("long hair", "lo"), ("long hair sits", "lo")]
    with_it = [phrase for phrase, _ in index.complete("with lo")]
    assert with_it == ["with long hair", "with long hair sits"]  # and no "with long", which goes on the same way
    assert "Long days" not in [phrase for phrase, _ in index.complete("lo")]  # once in the folder


def test_phrases_follow_the_captions(tmp_path):
    library = library_of(tmp_path, "x, y, zebra", "x, y, w")
    index = PhraseIndex()
    index.update(library.present())
    assert index.complete("ze") == [("zebra", "ze")]
    for number, text in enumerate(("x, y, zeppelin", "x, y, zeppelin")):
        (tmp_path / f"{number:03}.txt").write_text(text)
    library.refresh()
    index.update(library.present())
    assert index.complete("ze") == [("zeppelin", "ze")]


def test_of_many_captions_in_prose_some_are_counted(tmp_path, monkeypatch):
    """All tags are, and what a person has edited."""
    monkeypatch.setattr(phrases, "MAX_PROSE", 2)
    monkeypatch.setattr(phrases, "_MAX_INSERTED", 3)
    monkeypatch.setattr(phrases, "_MAX_ONCE", 0)
    library = library_of(tmp_path, *[f"Some words number {n}." for n in range(5)], "x, y, tagged")
    index = PhraseIndex()
    index.update(library.present())
    assert index.complete("ta") == [("tagged", "ta")] and len(index._texts) == 3
    (tmp_path / "001.txt").write_text("Some words.")
    library.refresh()
    index.update(library.present())
    assert len(index._texts) == 4
