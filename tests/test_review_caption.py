"""The caption box and tag mode of the review page, in a browser."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from gemma_captioner.dataset.sidecar import digest
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.tokenizer import token_counter
from tests.support.review_server import PHONE, Address, KeyboardUser, serving
from tests.support.waiting import wait_until
from tests.test_review_use import TOO_SMALL, TOO_WIDE

pytestmark = pytest.mark.long
TAGS = (
    "1girl, red hair, smile", "1girl, red hair, red hat, rain", "1boy, red hat, <b>bold</b>", "1boy, smile, rain",
    "solo, red hair, night", "solo, smile, night",
)  # fmt: skip
FLAGGED = "A street at dusk. There are no people in it."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tagged")
    draw_samples(folder, images=len(TAGS) + 1, clips=0, seed=7)
    for path, text in zip(media(folder), (*TAGS, FLAGGED), strict=True):
        path.with_suffix(".txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def address(folder, review_fork_server, tmp_path_factory) -> Iterator[Address]:
    options = ("--target", "sdxl", "--tokenizer", str(DEMO_CHECKPOINT))
    with serving(folder, *options, cache=tmp_path_factory.mktemp("cache"), fork_server=review_fork_server) as address:
        yield address


def media(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))


def caption(folder: Path, number: int) -> str:
    return media(folder)[number].with_suffix(".txt").read_text()


def test_the_box_grows_marks_counts_completes_and_tells_what_is_saved(browser, folder, address):
    user = KeyboardUser(browser, address)
    user.press("End")
    user.is_at(media(folder)[-1].name)
    marked, state, count = user.find(".caption-marks .marked"), user.find(".caption-state"), user.find(".detail .count")
    expect(marked).to_have_text("There are no")
    expect(state).to_have_text("Saved")
    exact = token_counter(str(DEMO_CHECKPOINT))
    expect(count).to_have_text(f"10 words, {exact(FLAGGED)} of 75 tokens (sdxl)")
    height = user.box.evaluate("box => box.clientHeight")
    user.press("e")
    user.page.keyboard.insert_text(" <i>a</i> \U0001f600 word" * 12)
    expect(state).to_have_text("Not saved")
    expect(user.find(".caption-marks .marked-too_long").last).to_contain_text("word")
    expect(count).to_have_class(re.compile("over"))
    assert user.box.evaluate("box => box.clientHeight") > height
    assert user.box.evaluate("box => box.scrollHeight - box.clientHeight") <= 0
    layers = "box => [box, box.previousElementSibling].map(one => one.scrollHeight)"
    assert len(set(user.box.evaluate(layers))) == 1  # the layer breaks its lines where the box does
    user.press("Escape")
    expect(user.box).to_have_value(FLAGGED)
    offers = user.find(".completions li")
    user.press("e")
    user.page.keyboard.type(" Wet red h")
    expect(offers).to_have_text(["red hair", "red hat"])
    user.press("Escape")  # closes the list alone
    expect(offers).to_have_count(0)
    user.page.keyboard.type("a")
    expect(offers).to_have_count(2)
    user.press("ArrowDown", "ArrowDown", "Enter")
    expect(user.box).to_have_value(FLAGGED + " Wet red hat")
    user.page.keyboard.type(", smi")
    expect(offers).to_have_text(["smile"])
    user.press("Tab")
    expect(user.box).to_have_value(FLAGGED + " Wet red hat, smile")
    expect(user.box).to_be_focused()
    user.page.keyboard.type(", nig")
    expect(offers).to_have_text(["night"])
    user.press("Enter")  # without a choice it saves
    expect(state).to_have_text("Saved")
    assert caption(folder, -1) == FLAGGED + " Wet red hat, smile, nig"
    user.press("e")
    user.page.keyboard.type("h")
    expect(offers).to_have_text(["night"])
    user.press("Control+Enter")
    expect(user.counts).to_contain_text("1 approved")
    assert caption(folder, -1) == FLAGGED + " Wet red hat, smile, nigh"
    user.press("u", "u")
    expect(user.box).to_have_value(FLAGGED)
    user.close()


def test_text_that_is_not_saved_is_not_approved(browser, folder, address):
    user, path = KeyboardUser(browser, address), media(folder)[-1].with_suffix(".txt")
    user.press("End")
    user.is_at(media(folder)[-1].name)
    user.write("Mine")
    path.write_text("Theirs.")
    user.press("Control+s")
    expect(user.find(".sheet")).to_contain_text("Not saved")
    user.press("Escape")
    expect(user.find(".sheet")).to_have_count(0)
    user.page.evaluate("document.activeElement.blur()")
    user.press("a")
    expect(user.find("text=its text in the box is not saved: press e, then Ctrl+Enter")).to_be_visible()
    expect(user.counts).to_contain_text("0 approved")
    user.press("e", "Escape")
    expect(user.box).to_have_value("Theirs.")
    expect(user.box).to_have_attribute("data-base", digest(b"Theirs."))
    user.press("a")
    expect(user.counts).to_contain_text("1 approved")
    user.press("u")
    path.write_text(FLAGGED)
    user.close()


def test_tag_mode(browser, folder, address):
    user = KeyboardUser(browser, address)
    chips, field, offers = user.find(".chip bdi"), user.find(".tag-input"), user.find(".completions li")
    user.press(",")
    expect(field).to_be_focused()
    expect(chips).to_have_text(TAGS[0].split(", "))
    user.page.keyboard.type("ra")
    expect(offers).to_have_text(["rain"])
    user.press("Tab")  # adds it
    expect(chips).to_have_text([*TAGS[0].split(", "), "rain"])
    expect(user.find(".caption-state")).to_have_text("Saved")
    assert caption(folder, 0) == TAGS[0] + ", rain"
    user.press("Backspace", "ArrowLeft", "Delete")  # to the last chip, the one before it
    expect(chips).to_have_text(["1girl", "red hair", "rain"])
    user.press("Shift+ArrowLeft")
    expect(chips).to_have_text(["1girl", "rain", "red hair"])
    user.press("Enter")  # renames it
    user.page.keyboard.type("red hair")
    user.press("Escape")  # or does not
    expect(chips).to_have_text(["1girl", "rain", "red hair"])
    user.find(".chip").nth(1).focus()
    user.press("Enter")
    user.page.keyboard.type("fog")
    user.press("Enter")
    expect(chips).to_have_text(["1girl", "fog", "red hair"])
    user.find(".chip").nth(1).press("Enter")
    expect(field).to_have_value("fog")
    user.find(".chip button").first.click()
    expect(user.box).to_have_value("fog, red hair")
    expect(field).to_have_value("")  # another tag has the place of the one that was renamed
    user.page.wait_for_function("document.querySelector('.caption-state').textContent === 'Saved'")
    assert caption(folder, 0) == "fog, red hair"
    user.page.evaluate("document.activeElement.blur()")
    for before in ("1girl, fog, red hair", "1girl, rain, red hair"):
        user.press("u")
        expect(user.box).to_have_value(before)

    tags = user.find(".tag-list .bar")
    expect(tags.first).to_have_text(re.compile(r"^rain\s*3$"))
    user.find(".tag-list .bar:has-text('smile')").click()
    expect(user.counts).to_contain_text("of 2 shown")
    user.find(".tag-panel .do-rename-tag").click()
    expect(user.find(".sheet .sheet-title")).to_have_text("Change captions: 2 shown")
    user.find(".sheet [aria-label='New tag']").fill("grin")
    expect(user.find(".sheet .part-new")).to_have_text(["grin", "grin"])
    user.find(".sheet .do-apply").click()
    expect(user.find("text=2 changed")).to_be_visible()
    assert [caption(folder, 3), caption(folder, 5)] == ["1boy, grin, rain", "solo, grin, night"]
    user.press("u")
    expect(user.find("text=undone: 2 changed")).to_be_visible()
    user.press("Escape")
    expect(user.counts).to_contain_text("of 7 shown")
    user.press("Home", "j", "x", "Shift+ArrowRight")
    expect(tags.first).to_contain_text("2 of 2")  # in the two selected captions
    expect(user.find(".tag-panel [role=status]")).to_contain_text("tags in 2 captions")
    user.find(".tag-panel input").fill("best quality")
    os.kill(address.pid, signal.SIGSTOP)
    try:
        user.find(".tag-panel .do-add-tag").click()
        user.page.keyboard.type("ard")  # no commands: the dialog is about to open
    finally:
        os.kill(address.pid, signal.SIGCONT)
    expect(user.find(".sheet .sheet-title")).to_have_text("Change captions: 2 selected")
    expect(user.find(".sheet .part-new")).to_have_text([", best quality"] * 2)
    user.find(".sheet .do-apply").click()
    wait_until(lambda: caption(folder, 2) == TAGS[2] + ", best quality")
    assert "best" not in caption(folder, 3)
    expect(user.find("b:has-text('bold')")).to_have_count(0)  # a tag is text
    user.page.reload()  # it is still on
    expect(user.find(".tag-panel")).to_be_visible()
    expect(chips.first).to_be_visible()
    user.press(",")
    expect(field).to_be_focused()
    user.page.keyboard.type(",")
    expect(user.find(".tag-panel")).to_be_hidden()
    user.press("u")
    user.close()


def test_tag_mode_on_a_phone(browser, folder, address):
    user = KeyboardUser(browser, address, **PHONE)
    user.find(".detail .do-tag_mode").tap()
    expect(user.find(".chip").first).to_be_visible()
    assert user.page.evaluate(TOO_SMALL) == [] == user.page.evaluate(TOO_WIDE)
    user.close()
