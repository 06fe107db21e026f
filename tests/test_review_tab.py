"""What a tab of the review page shows and selects, and what is typed in it, without a browser."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import Root
from gemma_captioner.review.changes import Draft
from gemma_captioner.review.edits import Edits
from gemma_captioner.review.library import Library
from gemma_captioner.review.page.drafts import Drafts
from gemma_captioner.review.page.selection import Selection


def showing(*numbers: int) -> Selection:
    selection = Selection()
    selection.show(list(numbers))
    selection.reselect_hidden()
    return selection


def test_steps_end_at_the_first_and_the_last():
    selection = showing(7, 5, 9)
    went = []
    for by in (-1, 1, 1, 1, -2):
        selection.step(by)
        went.append((selection.current, selection.place))
    assert went == [(7, 0), (5, 1), (9, 2), (9, 2), (7, 0)]


def test_nothing_shown_is_no_place_to_go():
    selection = showing()
    selection.step(1)
    selection.toggle()
    assert not selection.seek(1, lambda number: True)
    assert (selection.current, selection.place, selection.many(), selection.selected_or_current()) == (None, 0, [], [])


def test_what_is_shown_no_more_gives_its_place_to_the_next():
    selection = showing(1, 2, 3, 4)
    selection.step(1)
    selection.show([1, 3, 4])
    assert selection.current == 2 and 2 not in selection  # it may be one that is being edited
    assert selection.place == 1
    selection.step(1)
    assert selection.current == 3
    selection.show([1])
    selection.reselect_hidden()
    assert selection.current == 1


def test_a_step_back_from_what_is_shown_no_more():
    selection = showing(1, 2, 3)
    selection.step(1)
    selection.show([1, 3])
    selection.step(-1)
    assert selection.current == 1


@pytest.mark.parametrize(("direction", "found"), [(1, [6, 8, 2]), (-1, [8, 6, 2])])
def test_seeking_goes_on_from_the_other_end(direction, found):
    selection = showing(2, 3, 6, 8, 9)
    went = []
    for _ in found:
        assert selection.seek(direction, lambda number: number % 2 == 0)
        went.append(selection.current)
    assert went == found
    assert not selection.seek(direction, lambda number: number > 9) and selection.current == 2


def test_picking_with_shift_selects_from_the_last_one_picked():
    selection = showing(8, 6, 4, 2, 0)
    selection.pick(6, shift=False, ctrl=False)
    assert selection.selected == set()
    selection.pick(2, shift=True, ctrl=False)
    assert (selection.selected, selection.current) == ({6, 4, 2}, 2)
    selection.pick(8, shift=True, ctrl=False)  # from 6 still
    assert selection.selected == {8, 6, 4, 2}
    selection.pick(4, shift=False, ctrl=True)
    selection.pick(0, shift=False, ctrl=True)
    assert (selection.selected_in_order, selection.current) == ([8, 6, 2, 0], 0)


def test_a_plain_pick_leaves_the_selection():
    selection = showing(1, 2, 3, 4)
    selection.selected = {1, 2}
    selection.pick(4, shift=False, ctrl=False)
    assert (selection.selected, selection.selected_or_current()) == (set(), [4])
    selection.pick(2, shift=False, ctrl=True)
    assert selection.selected == {2, 4}


def test_a_search_goes_to_the_first_hit_and_a_hidden_item_gives_way_to_the_next():
    for first, expected in ((True, 1), (False, 3)):
        selection = showing(1, 2, 3, 4)
        selection.step(1)
        selection.show([1, 3, 4])
        selection.reselect_hidden(first=first)
        assert selection.current == expected


def test_picking_with_shift_where_the_last_one_picked_is_shown_no_more():
    selection = showing(1, 2, 3, 4)
    selection.pick(1, shift=False, ctrl=True)
    selection.step(2)
    selection.show([2, 3, 4])
    selection.pick(4, shift=True, ctrl=False)
    assert selection.selected == {3, 4}


def test_extending_selects_where_it_was_and_where_it_is():
    selection = showing(5, 6, 7)
    selection.extend(1)
    selection.extend(1)
    selection.extend(1)
    assert (selection.selected, selection.current) == ({5, 6, 7}, 7)


def test_what_commands_are_about():
    selection = showing(3, 1, 2)
    assert (selection.many(), selection.selected_or_current()) == ([3, 1, 2], [3])
    selection.selected = {2, 3}
    assert selection.many() == selection.selected_or_current() == [3, 2]
    selection.show([1, 2])
    assert selection.selected == {2}
    selection.step(1)
    selection.toggle()
    assert selection.selected == {2} ^ {selection.current}


class Tab:
    """Drafts over a folder, and what its box was told."""

    def __init__(self, library: Library, edits: Edits, name: str) -> None:
        self.library, self.name = library, name
        self.told: list[tuple[str | None, str]] = []
        self.drafts = Drafts(library, edits, lambda draft, words: self.told.append((words.digest, words.text)))

    def type(self, text: str, base: str | None) -> Draft:
        draft = Draft(0, base, text)
        self.drafts.on_typed(draft)
        return draft

    def save(self, draft: Draft, *, approve: bool = False) -> bool:
        return not asyncio.run(self.drafts.save(draft, tab_id=self.name, approve=approve)).refused


@pytest.fixture
def library(tmp_path) -> Library:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("Before.")
    library = Library(Root(tmp_path, tmp_path, tmp_path), Settings.from_dict({}))
    library.refresh()
    return library


@pytest.fixture
def edits(library) -> Iterator[Edits]:
    edits = Edits(library)
    yield edits
    edits.close()


@pytest.fixture
def tab(library, edits) -> Tab:
    return Tab(library, edits, "one")


def written(library: Library) -> str:
    return Path(library[0].item.caption_path).read_text()


def test_words_that_are_on_disk_are_no_draft(tab, library):
    base = library[0].caption.digest
    tab.type("Typed.", base)
    assert tab.drafts.has_unsaved(0) and not tab.drafts.has_unsaved(1) and not tab.drafts.has_unsaved(None)
    tab.type("Before.", base)
    assert not tab.drafts.has_unsaved(0)


def test_a_draft_that_was_saved_is_none_any_more(tab, library):
    assert tab.save(tab.type("Typed.", library[0].caption.digest), approve=True)
    assert tab.drafts.unsaved == {} and written(library) == "Typed."
    assert library[0].decision == "approved"
    assert tab.told == [(library[0].caption.digest, "Typed.")]


def test_what_was_typed_before_the_box_heard_of_the_save_starts_from_it(tab, library):
    base = library[0].caption.digest
    first = tab.type("One", base)
    later = tab.type("One two", base)  # typed while the first is on its way
    assert tab.save(first)
    assert tab.drafts.unsaved == {0: Draft(0, library[0].caption.digest, "One two")}
    assert tab.drafts.rebased(later) == tab.drafts.unsaved[0]
    assert tab.save(tab.drafts.rebased(later)) and written(library) == "One two"


def test_of_many_saves_in_a_row_each_starts_from_the_one_before(tab, library):
    """The box has not heard of any: chips are removed faster than that. It may be the first text again."""
    base = library[0].caption.digest
    for text in ("One", "Two", "Before.", "Three"):
        assert tab.save(tab.drafts.rebased(tab.type(text, base))) and written(library) == text
    assert tab.drafts.unsaved == {}


def test_a_box_that_was_filled_anew_starts_from_what_it_shows(tab, library):
    draft = Draft(0, library[0].caption.digest, "One")
    assert tab.save(draft)
    tab.drafts.editor_refilled()
    assert tab.drafts.rebased(draft) == draft


def test_of_two_tabs_the_second_is_refused_and_keeps_its_draft(tab, library, edits):
    other, base = Tab(library, edits, "two"), library[0].caption.digest
    mine = other.type("By the second.", base)
    assert tab.save(tab.type("By the first.", base))
    assert not other.save(other.drafts.rebased(mine))
    assert written(library) == "By the first." and other.drafts.unsaved == {0: mine} and other.told == []
    assert other.save(Draft(0, library[0].caption.digest, mine.text))
    assert written(library) == "By the second." and other.drafts.unsaved == {}


class Overtaken(Edits):
    """As soon as it has saved, another program writes there."""

    def save(self, drafts, **named):
        done = super().save(drafts, **named)
        self.library[0].item.caption_path.write_text("By an editor.")
        self.library.refresh()
        return done


def test_what_another_program_wrote_right_after_a_save_is_not_overwritten(library):
    edits = Overtaken(library)
    edits.library = library
    tab, base = Tab(library, edits, "one"), library[0].caption.digest
    first = tab.type("One", base)
    later = tab.type("One two", base)
    assert tab.save(first)
    assert tab.told == [] and tab.drafts.unsaved[0] == later == tab.drafts.rebased(later)
    assert not tab.save(later) and written(library) == "By an editor."
    edits.close()


def test_undo_is_not_taken_for_words_that_the_box_starts_from(tab, library, edits):
    """After an undo, words that were typed over the saved ones are refused: something else stands there."""
    first = tab.type("One", library[0].caption.digest)
    assert tab.save(first)
    edits.undo(tab.name)
    late = Draft(0, first.base, "One two")
    assert tab.drafts.rebased(late).base != library[0].caption.digest
    assert not tab.save(tab.drafts.rebased(late)) and written(library) == "Before."
