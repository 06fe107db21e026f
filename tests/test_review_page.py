"""The review page in a browser, by keyboard alone, on real media captioned by the demo model."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from gemma_captioner import caption
from gemma_captioner.demo.samples import draw_samples
from review_server import Reader, chromium, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def captioned(tmp_path_factory) -> Path:
    """Five images and three clips, captioned by the demo model."""
    folder = tmp_path_factory.mktemp("captioned")
    draw_samples(folder, images=5, clips=3, seed=7)
    list(caption(folder, model="demo"))
    return folder


@pytest.fixture
def folder(captioned, tmp_path) -> Path:
    return Path(shutil.copytree(captioned, tmp_path / "set"))


@pytest.fixture
def opened(browser, folder, tmp_path) -> Iterator[Callable[..., Reader]]:
    """Open the page, in a tab of its own each time; the first time the server is started, with these options."""
    with ExitStack() as stack:
        address: list[str] = []

        def open(*options: str) -> Reader:
            if not address:
                address.append(stack.enter_context(serving(folder, *options, cache=tmp_path / "cache")))
            reader = Reader(browser, address[0])
            stack.callback(reader.close)
            return reader

        yield open


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".mp4"))


def test_reading_correcting_approving(folder, opened):
    reader = opened()
    files = names(folder)
    first, second = (folder / Path(name).with_suffix(".txt") for name in files[:2])
    reader.is_at(files[0])
    expect(reader.box).to_have_value(before := first.read_text())
    expect(reader.find(".tile img:not(.broken)")).to_have_count(8)

    reader.write("A corrected caption.")
    reader.press("Enter")
    expect(reader.find("text=saved")).to_be_visible()
    assert first.read_text() == "A corrected caption."
    reader.press("a")
    reader.is_at(files[1])
    expect(reader.counts).to_contain_text("1 approved")

    reader.write("Never mind.")
    reader.press("Escape", "r")
    reader.is_at(files[2])
    expect(reader.counts).to_contain_text("1 rejected")
    assert second.read_text() != "Never mind."

    reader.write("Saved and approved.")
    reader.press("Control+Enter")
    reader.is_at(files[3])
    expect(reader.counts).to_contain_text("2 approved")

    reader.press("d")
    expect(reader.counts).to_contain_text("of 7 shown")
    assert not (folder / files[3]).exists()
    reader.is_at(files[4])

    for _ in range(5):  # all of it, back to the beginning
        reader.press("u")
    expect(reader.counts).to_contain_text("8 shown")
    expect(reader.counts).to_contain_text("0 approved")
    reader.is_at(files[0])
    expect(reader.box).to_have_value(before)
    assert first.read_text() == before and names(folder) == files
    reader.press("u")
    expect(reader.find("text=nothing to undo")).to_be_visible()
    reader.press("Shift+U")
    expect(reader.box).to_have_value("A corrected caption.")


def test_going_about(folder, opened):
    files = names(folder)
    flagged = folder / Path(files[4]).with_suffix(".txt")
    flagged.write_text("I cannot help with that.")
    reader = opened("--target", "sdxl")
    reader.press("ArrowRight", "j", "k")
    reader.is_at(files[1])
    reader.press("End")
    reader.is_at(files[-1])
    reader.press("Home", "ArrowDown")
    reader.is_at(files[4])
    expect(reader.find(".detail .flag")).to_have_text("refusal")
    reader.press("Home", "f")
    reader.is_at(files[4])
    expect(reader.find(".detail .count")).to_have_text("5 words, about 9 of 75 tokens (sdxl)")
    reader.press("e", "End")
    reader.page.keyboard.type(" word" * 60)
    expect(reader.find(".detail .count.over")).to_be_visible()
    reader.press("Escape", "?")
    expect(reader.find(".help dd").first).to_be_visible()
    reader.press("j", "Escape")  # the sheet has the keyboard
    reader.is_at(files[4])
    reader.press("t")
    expect(reader.find("body.body--dark")).to_be_visible()


def test_what_is_typed_goes_where_it_was_typed(folder, opened):
    """However fast: the words of one item are never saved to the next one."""
    reader = opened()
    files = names(folder)
    paths = [folder / Path(name).with_suffix(".txt") for name in files]
    before = [path.read_text() for path in paths]
    reader.write("Typed here.")
    reader.page.evaluate("document.activeElement.blur()")  # as a click elsewhere does
    reader.press("j", "e", "x", "y", "z")
    reader.is_at(files[1])
    reader.press("Escape", "j")
    reader.is_at(files[2])
    assert paths[0].read_text() == "Typed here."
    assert [path.read_text() for path in paths[1:]] == before[1:]


def test_a_tab_that_is_closed_loses_nothing(folder, opened):
    reader = opened()
    path = folder / Path(names(folder)[0]).with_suffix(".txt")
    reader.write("Typed, and not saved.")
    expect(reader.find(".detail .count")).to_contain_text("4 words")
    reader.page.close()
    other = opened()
    expect(other.box).to_have_value("Typed, and not saved.")
    assert path.read_text() == "Typed, and not saved."


def test_clips_play_with_the_frames_the_model_saw(folder, opened):
    reader = opened()
    reader.press("End")
    clip = names(folder)[-1]
    reader.is_at(clip)
    expect(reader.find(".frame-time")).to_have_count(12)
    reader.page.wait_for_function("document.querySelector('video').readyState >= 2")
    reader.page.wait_for_function("document.querySelector('video').currentTime > 0")
    assert reader.page.evaluate("document.querySelector('video').loop")
    reader.press("p")
    reader.page.wait_for_function("document.querySelector('video').paused")
    reader.find(".frame-time").nth(6).focus()
    reader.press("Enter")
    reader.page.wait_for_function("document.querySelector('video').currentTime === 0.5")
    reader.press("i")
    expect(reader.find(".facts")).to_contain_text("Only describe movement as this will be very important")
    expect(reader.find(".facts")).to_contain_text("demo")
