"""The review page as a person uses it: mouse, keys and touch, on a desktop and on a phone."""

import os
import re
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import WebSocketRoute, expect

from gemma_captioner.demo.samples import draw_samples
from tests.support.command import ForkServer
from tests.support.files import captions
from tests.support.review_server import PHONE

NUM_IMAGES = 8


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_samples(folder, images=NUM_IMAGES, clips=0, seed=7)
    for number, path in enumerate(names(folder)):
        (folder / path).with_suffix(".txt").write_text(f"This is the caption number {number}.")
    return folder


@pytest.fixture
def folder(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "set"))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix in (".png", ".jpg"))


def caption_of(folder: Path, number: int) -> Path:
    return (folder / names(folder)[number]).with_suffix(".txt")


SELECTED = "[aria-selected=true]"


def test_what_is_selected_by_mouse_is_what_changes(folder, opened):
    """A plain click leaves a selection; the buttons say how many items they change."""
    user = opened()
    files, tiles = names(folder), user.find(".tile")
    tiles.nth(1).click()
    expect(user.find(SELECTED)).to_have_count(1)
    expect(user.find(".selection-bar")).to_be_hidden()
    for number in (3, 5):
        tiles.nth(number).click(modifiers=["Control"])
    expect(user.find(SELECTED)).to_have_count(3)  # the one that was clicked first, too
    expect(user.find(".selection-count")).to_have_text("3 selected")
    expect(user.find(".detail .do-trash")).to_contain_text("Trash 3")
    expect(user.find(".selection-bar .do-approve")).to_have_text("Approve 3")
    tiles.nth(6).click()
    user.is_at(files[6])
    expect(user.find(SELECTED)).to_have_count(1)
    expect(user.find(".selection-bar")).to_be_hidden()
    expect(user.find(".detail .do-trash")).not_to_contain_text("3")
    user.press("d")
    expect(user.counts).to_contain_text(f"of {NUM_IMAGES - 1} shown")
    assert names(folder) == [name for name in files if name != files[6]]
    user.button("Select").click()  # as on a touch screen
    for number in (0, 2):
        tiles.nth(number).click()
    user.find(".selection-bar .do-reject").click()
    expect(user.counts).to_contain_text("2 rejected")
    user.button("Done").click()
    expect(user.find(".selection-bar")).to_be_hidden()
    user.find(".tabs .do-bulk").click()
    expect(user.find(".sheet .sheet-title")).to_have_text("Change captions: 7 shown")
    expect(user.find(".sheet [aria-label=Find]")).to_be_focused()
    user.page.keyboard.type("number")
    expect(user.find(".sheet .do-apply")).to_have_text("Change 7 captions")
    user.press("Escape")
    expect(user.find(".q-dialog")).to_have_count(0)
    user.find(".tabs .do-help").click()
    expect(user.find(".help")).to_be_visible()


def test_finding_and_going_on(folder, opened):
    """Search goes to the first hit; keys work after a list; Esc takes back one thing at a time.

    A text that is not the one that the browser shows is not approved.
    """
    user = opened()
    files = names(folder)
    expect(user.box).to_have_value("This is the caption number 0.")
    user.page.evaluate("document.querySelector('.caption-editor').dataset.base = 'of another text'")
    user.press("a")
    expect(user.find("text=the caption changed in the meantime")).to_be_visible()
    expect(user.counts).to_contain_text("0 approved")
    user.press("End")
    user.is_at(files[-1])
    user.press("/")
    user.page.keyboard.type("png")
    user.is_at(next(name for name in files if name.endswith("png")))
    user.press("Enter", "j")
    user.is_at([name for name in files if name.endswith("png")][1])
    user.page.get_by_role("combobox", name="state").click()
    user.find(".q-menu .q-item:has-text('open')").click()
    expect(user.find(".q-menu")).to_have_count(0)
    user.press("Home", "a")
    expect(user.counts).to_contain_text("1 approved")
    user.press("x")
    expect(user.find(".selection-count")).to_have_text("1 selected")
    user.press("Escape")
    expect(user.find(".selection-bar")).to_be_hidden()
    search = user.find(".search input").first
    expect(search).to_have_value("png state:open")
    user.press("Escape")
    expect(search).to_have_value("png")
    expect(user.find("[aria-label=state]").first).to_have_value("any state")
    user.press("Escape")
    expect(search).to_have_value("")
    user.choose("state", "open")
    user.page.reload()  # the filter and the theme survive it
    expect(user.find("[aria-label=state]").first).to_have_value("open")
    dark = user.find("body.body--dark")
    expect(dark).to_have_count(0)
    user.press("t")
    expect(dark).to_have_count(1)
    user.page.reload()
    expect(dark).to_have_count(1)
    user.find("button:has-text('Show all')").click()
    expect(user.counts).to_contain_text(f"of {NUM_IMAGES} shown")
    user.press("2")
    user.find(".chart .bar:has-text('approved')").click()
    expect(user.counts).to_contain_text("of 1 shown")


@pytest.mark.long
def test_what_is_typed_before_a_dialog_is_there_commands_nothing(folder, opened):
    user = opened()
    expect(user.box).to_be_editable()
    os.kill(user.address.pid, signal.SIGSTOP)
    try:
        user.press("b")
        user.page.keyboard.type("a red dog")  # approve, reject, trash
    finally:
        os.kill(user.address.pid, signal.SIGCONT)
    expect(user.find(".sheet [aria-label=Find]")).to_be_focused()
    user.page.keyboard.type("number")
    expect(user.find(".sheet .do-apply")).to_have_text(f"Change {NUM_IMAGES} captions")
    user.press("Escape")
    expect(user.find(".q-dialog")).to_have_count(0)
    user.press("a")
    expect(user.counts).to_contain_text(f"of {NUM_IMAGES} shown")
    expect(user.counts).to_contain_text("1 approved")
    expect(user.counts).to_contain_text("0 rejected")
    os.kill(user.address.pid, signal.SIGSTOP)
    try:
        user.find(".do-change").click()
        user.page.keyboard.type("rd")
    finally:
        os.kill(user.address.pid, signal.SIGCONT)
    expect(user.find(".sheet.folders")).to_be_visible()
    user.press("Escape")
    expect(user.find(".q-dialog")).to_have_count(0)
    user.press("u")  # the approval: nothing came after it
    expect(user.counts).to_contain_text("0 approved")


@pytest.mark.long
def test_what_is_typed_before_the_filtered_items_are_there_changes_no_caption(folder, opened):
    user = opened()
    expect(user.box).to_be_editable()
    before = captions(folder)
    user.press("/")
    user.page.keyboard.type("name:03*")
    os.kill(user.address.pid, signal.SIGSTOP)
    try:
        user.press("Escape", "e")
        user.page.keyboard.type("lost")
    finally:
        os.kill(user.address.pid, signal.SIGCONT)
    user.is_at(names(folder)[2])
    expect(user.box).to_be_editable()
    user.page.keyboard.type(" Kept.")
    user.press("Enter")
    expect(user.find("text=/^saved/").first).to_be_visible()
    changed = {name: text for name, text in captions(folder).items() if text != before[name]}
    assert list(changed.values()) == [f"{before[next(iter(changed))]} Kept."]


@pytest.mark.long
def test_a_key_after_a_short_look_at_a_dialog_is_a_command(opened):
    """Even if the server's reply to the first command is late: here it never comes."""
    user = opened()
    replies: list[str] = []

    def forward(browser_side: WebSocketRoute) -> None:
        def send_unless_reply(message: str | bytes) -> None:
            if "opened" in str(message):
                replies.append(str(message))
            else:
                browser_side.send(message)

        browser_side.connect_to_server().on_message(send_unless_reply)

    user.page.route_web_socket("**/_nicegui_ws/**", forward)
    user.page.reload()
    expect(user.box).to_be_editable()
    for key, shown in (("?", ".help dd"), ("c", ".sheet textarea"), ("?", ".help dd")):
        user.press(key)
        expect(user.find(shown).first).to_be_visible(timeout=4000)
        user.press("Escape")
        expect(user.find(".q-dialog")).to_have_count(0)
    assert replies


@pytest.fixture
def impatient_fork_server(output_folder) -> Iterator[ForkServer]:
    modules = ("gemma_captioner.review.page.app", "tests.support.impatient_clients")
    with closing(ForkServer(output_folder, *modules)) as fork_server:
        yield fork_server


@pytest.mark.prove
def test_a_request_without_a_browser_ends_nothing(impatient_fork_server, folder, opened):
    """NiceGUI deletes the page of a link preview after a while. The tabs are told of changes all the same."""
    with urllib.request.urlopen(opened(fork_server=impatient_fork_server).address):
        user = opened()
    user.page.wait_for_timeout(16_000)  # NiceGUI looks every 10 s
    caption_of(folder, 0).write_text("By an editor.")
    expect(user.box).to_have_value("By an editor.")


@pytest.mark.long
def test_a_conflict_waits_for_the_one_who_types(folder, opened):
    user = opened()
    path = caption_of(folder, 0)
    user.write("Mine")
    path.write_text("Theirs.")
    user.press("Control+s")
    sheet = user.find(".sheet")
    expect(sheet).to_contain_text("Not saved")
    expect(user.find(".sheet .side-label")).to_have_text(["On disk", "Yours"])
    user.press("Space", "Enter")  # someone who still types
    expect(sheet).to_be_visible()
    user.press("Escape")
    expect(sheet).to_have_count(0)
    assert path.read_text() == "Theirs."
    expect(user.box).to_have_value("Mine")
    user.page.evaluate("document.activeElement.blur()")
    user.press("j")
    user.is_at(names(folder)[1])
    user.press("k")
    expect(user.box).to_have_value("Mine")
    expect(user.find(".decision")).to_have_text("not saved")
    expect(user.box).to_be_editable()  # until `k` is done, Enter is meant for the next item
    user.press("e", "Enter")
    user.find(".sheet button:has-text('Save mine')").click()
    expect(user.find("text=/^saved/").first).to_be_visible()
    assert path.read_text() == "Mine"


@pytest.mark.long
def test_a_file_that_cannot_be_shown_shows_no_other(folder, opened):
    shutil.copy(folder / names(folder)[0], folder / "zz.png")
    shutil.copy(folder / names(folder)[1], folder / "zz.jpg")
    (folder / "zzz.png").write_bytes(b"no picture")
    user = opened()
    picture = user.find(".stage img")
    expect(picture).to_have_attribute("alt", re.compile("This is the caption number 0"))
    user.press("End")
    user.is_at("zzz.png")
    expect(user.find(".stage-state")).to_contain_text("Cannot display this file: cannot read this image")
    expect(picture).to_be_hidden()
    user.press("Home")
    expect(picture).to_be_visible()
    user.press("End", "k")
    user.is_at("zz.png")
    expect(user.find(".stage-state")).to_contain_text("would share zz.txt")
    expect(picture).to_be_hidden()
    user.press("Home")
    expect(picture).to_be_visible()
    assert user.page.evaluate("document.querySelector('.stage img').naturalWidth") > 0


FIRST_ARABIC = "\u062f\u0627\u0626\u0631\u0629 \u062d\u0645\u0631\u0627\u0621, red circle."
CHINESE = "\u7ea2\u8272\u7684\u5706\u5f62\u5728\u84dd\u8272\u80cc\u666f\u4e0a\u3002"


WITHOUT_VISIBLE_FOCUS = """() => {
    const e = document.activeElement, style = getComputedStyle(e);
    const isVisible = style.outlineStyle !== "none" || style.boxShadow !== "none" || e.closest(".q-field");
    return isVisible || e === document.body ? null : e.outerHTML;
}"""


@pytest.mark.long
def test_scripts_of_the_world_and_what_a_screen_reader_hears(folder, opened):
    caption_of(folder, 0).write_text(FIRST_ARABIC)
    caption_of(folder, 1).write_text(CHINESE)
    user = opened()
    expect(user.box).to_have_value(FIRST_ARABIC)
    assert user.page.evaluate("getComputedStyle(document.querySelector('.caption-editor')).direction") == "rtl"
    assert user.page.evaluate("document.documentElement.lang") == "en-US"
    headings = user.page.get_by_role("heading")
    expect(headings).to_have_text([folder.name, names(folder)[0]])
    user.press("j")
    expect(user.find(".detail .count")).to_have_text("11 characters")
    user.press("Tab")
    for _ in range(12):
        assert user.page.evaluate(WITHOUT_VISIBLE_FOCUS) is None
        user.press("Tab")


TOO_SMALL = """() => [...document.querySelectorAll("button, [role=checkbox], [role=combobox]")]
    .filter((e) => e.checkVisibility() && !e.matches(".frame-time, .q-field *"))
    .filter((e) => Math.min(e.getBoundingClientRect().width, e.getBoundingClientRect().height) < 43.5)
    .map((e) => e.outerHTML.slice(0, 200))"""
TOO_WIDE = """() => [...document.querySelectorAll(".sheet, .review, .help dd, .detail, .left")]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML.slice(0, 200))"""


@pytest.mark.long
def test_on_a_phone(folder, opened):
    user = opened(**PHONE)
    files, tiles = names(folder), user.find(".tile")
    user.find(".detail .do-next").tap()
    user.is_at(files[1])
    user.find(".detail .do-previous").tap()
    user.is_at(files[0])
    user.button("Select").tap()
    tiles.nth(1).tap()
    tiles.nth(0).tap()
    expect(user.find(".selection-count")).to_have_text("2 selected")
    assert user.page.evaluate(TOO_SMALL) == [] == user.page.evaluate(TOO_WIDE)
    user.find(".detail .do-approve").tap()
    expect(user.counts).to_contain_text("2 approved")
    user.button("Done").tap()
    held = "new PointerEvent('contextmenu', { pointerType: 'touch', bubbles: true, cancelable: true })"
    tiles.nth(1).evaluate(f"tile => tile.dispatchEvent({held})")  # what a finger that holds sends
    expect(user.find(".selection-count")).to_have_text("1 selected")
    user.find(".more-filters").tap()
    expect(user.find("[aria-label=state]").first).to_be_visible()
    assert user.page.evaluate(TOO_SMALL) == []
    for command, opened_by_it in (("help", ".help"), ("bulk", ".sheet .do-apply")):
        user.find(f".tabs .do-{command}").tap()
        expect(user.find(opened_by_it)).to_be_visible()
        assert user.page.evaluate(TOO_SMALL) == [] == user.page.evaluate(TOO_WIDE)
        close = user.button("Close")
        close.scroll_into_view_if_needed()
        close.tap()
        expect(user.find(".q-dialog")).to_have_count(0)


@pytest.mark.long
def test_new_captions_and_the_end_of_a_run_are_told(folder, opened):
    """What is the same is no proposal; after one is accepted, the next is shown; a failure says why."""
    caption_of(folder, 2).unlink()
    user = opened("--model", "demo")
    user.press("Control+a", "c")
    user.enter(".do-again")
    toast = user.find(".q-notification:has-text('finished')")
    expect(toast).to_contain_text("8 new captions", timeout=120_000)
    user.press("Escape")
    toast.locator("button:has-text('Show 8 proposals')").click()
    expect(user.counts).to_contain_text("of 8 shown")
    expect(user.find(".proposal .side-label")).to_have_text(["Present caption", "New caption"])
    user.is_at(names(folder)[0])
    user.press("y")
    user.is_at(names(folder)[1])
    user.press("n")
    user.is_at(names(folder)[2])
    expect(user.find(".proposal")).to_be_visible()
    user.press("Escape", "Home")
    expect(user.counts).to_contain_text("1 of 8 shown")
    user.press("c")
    user.enter(".do-again")  # once more, for the first
    expect(user.find(".q-notification:has-text('1 the same as before')")).to_be_visible(timeout=60_000)
    expect(user.find(".proposal")).to_be_hidden()
    user.press("c")
    user.find(".sheet").get_by_label("Model", exact=True).fill("nosuch/model")
    user.enter(".do-again")
    expect(user.find(".q-notification.bg-negative")).to_contain_text("nosuch/model", timeout=60_000)


@pytest.mark.long
def test_a_folder_without_captions_offers_the_run(folder, opened):
    files = names(folder)
    kept = folder.parent / "kept"
    folder.rename(kept)
    folder.mkdir()
    user = opened()
    expect(user.find(".stage-state")).to_contain_text("No images or clips")
    expect(user.find(".do-approve:visible")).to_have_count(0)
    user.find(".stage-state button").click()
    expect(user.find(".do-start")).to_be_visible()
    shutil.copy(kept / files[0], folder)
    user.press("1")
    user.is_at(files[0])
    expect(user.find(".detail .do-approve")).to_be_visible()
    user.find("button:has-text('Caption 1 file')").click()
    expect(user.find(".do-start")).to_be_visible()


@pytest.mark.prove
def test_a_long_change_shows_its_progress_and_can_be_canceled(folder, opened):
    for number in range(8000):
        (folder / f"b{number:04}.png").touch()
        (folder / f"b{number:04}.txt").write_text(f"A caption of file {number}.")
    before = captions(folder)
    user = opened()
    user.press("b")
    expect(user.find(".sheet [aria-label=Find]")).to_be_focused()
    user.page.keyboard.type("caption")
    user.press("Tab")
    user.page.keyboard.type("text")
    expect(user.find(".sheet .part-new").first).to_contain_text("text")  # the preview of both fields
    expect(user.find(".do-apply")).to_be_enabled()
    user.enter(".do-apply")
    expect(user.find(".busy")).to_contain_text("of 8,008")
    user.press("Escape")
    expect(user.find("text=/ended early: .* stay as they were/")).to_be_visible()
    changed = sum(before[name] != text for name, text in captions(folder).items())
    assert 0 < changed < 8008
    user.press("u")
    expect(user.find("text=/^undone/")).to_be_visible()
    assert captions(folder) == before


@pytest.mark.prove
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (1920, 1080), (390, 844)])
def test_every_screen_and_theme(folder, opened, size, theme, tmp_path):
    """Nothing is wider than the screen or lies under something else. The pictures are for eyes."""
    phone = PHONE if size[0] < 400 else {}
    user = opened(**{**phone, "viewport": {"width": size[0], "height": size[1]}, "color_scheme": theme})
    expect(user.find(".tile img:not(.broken)").first).to_be_visible()
    expect(user.find("body.body--dark")).to_have_count(int(theme == "dark"))
    user.press("x", "Shift+ArrowRight")
    expect(user.find(".selection-count")).to_have_text("2 selected")
    for key in ("", "?", "b", "c", "2", "3"):
        if key:
            user.press(key)
        user.page.wait_for_timeout(500)
        user.page.screenshot(path=tmp_path / f"{size[0]}-{theme}-{ord(key or '0')}.png")
        assert user.page.evaluate(TOO_WIDE) == []
        user.press("Escape")
        expect(user.find(".q-dialog")).to_have_count(0)
