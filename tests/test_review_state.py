"""What all tabs of the review page share, without a browser."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from PIL import Image

from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import Root
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.review.library import Library
from gemma_captioner.review.media import Media
from gemma_captioner.review.page.review_state import ReviewState


@pytest.fixture
def state(tmp_path) -> Iterator[ReviewState]:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    library = Library(Root(folder, folder, folder), Settings())
    library.refresh()
    media = Media(library, DecodeSettings(), 1, tmp_path / "cache")
    yield ReviewState(library, Settings(), [], media)
    media.close()


class Tab:
    def __init__(self, error: Exception | None = None) -> None:
        self.changes: list[set[int]] = []
        self.is_text_refreshed = self.is_saved = False
        self._error = error

    def changed(self, numbers: set[int]) -> None:
        self.changes.append(numbers)
        if self._error:
            raise self._error

    async def save_unsaved(self) -> None:
        if self._error:
            raise self._error
        self.is_saved = True

    def refresh_text(self) -> None:
        if self._error:
            raise self._error
        self.is_text_refreshed = True


def test_changes_that_come_together_reach_each_tab_at_once(state, caplog):
    """A tab that fails keeps the others from nothing."""
    tabs = [Tab(RuntimeError("broken")), Tab()]

    async def main() -> None:
        state.start()
        state.tabs += tabs
        for number in range(1000):
            state.library.notify({number % 2})
        await asyncio.to_thread(state.library.notify, {7})
        await asyncio.sleep(0)
        await state.close()

    asyncio.run(main())
    assert [tab.changes for tab in tabs] == [[{0, 1, 7}]] * 2 or [tab.changes for tab in tabs] == [[{0, 1}, {7}]] * 2
    assert "a browser tab cannot display a change" in caplog.text
    assert tabs[1].is_saved and "the unsaved text of a browser tab cannot be saved" in caplog.text


def test_rescans_and_counts_go_on_after_a_tab_or_one_of_them_that_fails(state, monkeypatch, caplog):
    tabs = [Tab(RuntimeError("broken")), Tab()]
    scans, counts = [], []

    def refresh() -> None:
        scans.append(len(scans))
        raise RuntimeError("no scan")

    def count_phrases(entries: object) -> None:
        counts.append(len(counts))
        raise RuntimeError("no phrases")

    async def main() -> None:
        state.tabs += tabs
        state.start()
        while min(len(scans), len(counts)) < 3 and not any(task.done() for task in state._tasks):
            await asyncio.sleep(0.01)
        await state.close()

    monkeypatch.setattr("gemma_captioner.review.page.review_state.token_counter_at_hand", lambda *names: len)
    monkeypatch.setattr("gemma_captioner.review.page.review_state._RESCAN_INTERVAL_S", 0)
    monkeypatch.setattr(state.library, "refresh", refresh)
    monkeypatch.setattr(state.phrases, "update", count_phrases)
    asyncio.run(main())
    assert min(len(scans), len(counts)) >= 3 and tabs[1].is_text_refreshed
    assert all(words in caplog.text for words in ("no scan", "no phrases", "broken"))


def test_the_next_scan_does_not_wait_for_a_slow_disk(state, monkeypatch):
    """Or for a busy machine: only CPU time counts."""
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(state.library, "refresh", lambda: time.sleep(0.5))
    monkeypatch.setattr("gemma_captioner.review.page.review_state.asyncio.sleep", wait)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(state._watch_folder())
    assert waits == [3]
