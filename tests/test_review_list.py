"""The review page for people who read many captions at once: filters, captions in the grid, the list, runs, export."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import expect

from gemma_captioner.demo.samples import draw_samples
from tests.support.review_server import PHONE, KeyboardUser

pytestmark = pytest.mark.long
NUM_IMAGES = 24
LARGE = {"viewport": {"width": 1440, "height": 900}}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    draw_samples(folder, images=NUM_IMAGES, clips=1, seed=7)
    for number, path in enumerate(images(folder)):
        path.with_suffix(".txt").write_text(f"This is the caption number {number}, of a red thing. " + "word " * number)
    return folder


@pytest.fixture
def folder(captioned, tmp_path) -> Path:
    return Path(shutil.copytree(captioned, tmp_path / "set"))


@pytest.fixture
def opened(opened) -> Callable[..., KeyboardUser]:
    return partial(opened, "--model", "demo", "--target", "sdxl", **LARGE)


def images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg"))


def search(user: KeyboardUser, text: str) -> None:
    user.press("/", "Control+a", "Delete")
    user.page.keyboard.type(text)
    user.press("Enter")


def test_the_search_takes_terms_and_says_what_is_wrong_with_one(folder, opened):
    user = opened()
    pngs = sum(path.suffix == ".png" for path in images(folder))
    box = user.find(".search input").first
    search(user, "caption name:*.png words>0")
    expect(user.counts).to_contain_text(f"of {pngs} shown")
    search(user, "caption state:opne")
    expect(user.find(".query-error")).to_contain_text("state:opne: give one of state:open")
    expect(user.counts).to_contain_text(f"of {pngs} shown")  # what was found before stays
    (folder / "zz.png").write_bytes(images(folder)[0].read_bytes())  # a change of the folder leaves what is typed
    user.page.wait_for_timeout(3500)  # until the folder is scanned
    expect(box).to_have_value("caption state:opne")
    (folder / "zz.png").unlink()
    search(user, "caption")
    expect(user.find(".query-error")).to_be_hidden()
    user.choose("state", "open")
    expect(box).to_have_value("caption state:open")
    user.choose("kind", "images")
    expect(box).to_have_value("caption state:open kind:image")
    user.find('[aria-label="words from"]').fill("20")
    expect(box).to_have_value("caption state:open kind:image words>=20")
    user.press("Enter", "Escape", "Escape", "Escape")
    expect(box).to_have_value("caption")
    expect(user.find("[aria-label=state]").first).to_have_value("any state")
    user.find(".add-term").click()
    user.find(".term:has-text('size<512')").click()
    expect(box).to_have_value("caption size<512")
    expect(user.counts).to_contain_text(f"of {NUM_IMAGES} shown")  # once their sizes are read
    user.page.evaluate("document.activeElement.blur()")
    user.press("g")  # reads the sizes again
    expect(user.counts).not_to_contain_text("reading sizes")
    expect(user.counts).to_contain_text(f"of {NUM_IMAGES} shown")
    search(user, "size>=512")
    expect(user.counts).to_contain_text(re.compile(r"\b0 shown"))
    search(user, "red mark:thing -number")
    expect(user.counts).to_contain_text(re.compile(r"\b0 shown"))
    search(user, "red mark:thing")
    expect(user.find(".tile").first.locator("mark")).to_have_text(["red", "thing"])
    user.choose("sort", "by time")
    expect(user.counts).to_contain_text(f"of {NUM_IMAGES} shown")


ROWS_IN_SIGHT = """() => [...document.querySelectorAll(".gallery.list .tile")].filter((row) => {
    const [box, at] = [document.querySelector(".gallery"), row].map((e) => e.getBoundingClientRect());
    return at.top >= box.top && at.bottom <= box.bottom && row.querySelector(".tile-caption").textContent.length > 20;
}).length"""


def test_captions_stand_in_the_grid_and_are_edited_in_the_list(folder, opened):
    user = opened()
    files = images(folder)
    first, second, third = (path.with_suffix(".txt") for path in files[:3])
    captions = user.find(".tile-caption")
    expect(captions.first).to_have_text(re.compile("^This is the caption number 0"))
    picture = user.find(".tile img").first
    assert picture.evaluate("image => getComputedStyle(image).objectFit") == "contain"
    before = picture.bounding_box()["height"]
    user.press("=", "=")
    expect(picture).to_have_attribute("src", re.compile("^/tile/"))
    assert picture.bounding_box()["height"] > 1.5 * before
    user.press("-", "-", "m")
    expect(user.find(".gallery.list")).to_be_visible()
    expect(user.find(".tile-caption").nth(9)).to_have_text(re.compile("number 9, of a red thing"))
    assert user.page.evaluate(ROWS_IN_SIGHT) >= 10
    user.page.reload()  # the view is kept
    expect(user.find(".gallery.list .tile-caption").nth(1)).to_have_text(re.compile("number 1,"))

    captions.nth(1).click()
    box = user.find(".tile-box")
    expect(box).to_be_focused()
    user.is_at(files[1].name)
    user.press("Control+a")
    user.page.keyboard.type("Edited in place.")
    expect(user.box).to_have_value("Edited in place.")  # one draft, wherever it is typed
    user.press("Tab")  # saves, and goes to the next caption
    expect(box).to_have_value(re.compile("number 2,"))
    user.is_at(files[2].name)
    expect(captions.nth(1)).to_have_text("Edited in place.")
    assert second.read_text() == "Edited in place."
    user.page.keyboard.type("Never mind.")
    user.press("Escape")
    expect(captions.nth(2)).to_have_text(re.compile("number 2,"))
    assert "Never" not in third.read_text()
    user.press("k")
    user.is_at(files[1].name)
    user.press("e")
    expect(box).to_be_focused()
    user.press("Control+a")
    user.page.keyboard.type("And approved.")
    user.press("Control+Enter")
    user.is_at(files[2].name)
    expect(user.counts).to_contain_text("1 approved")
    assert second.read_text() == "And approved."
    user.press("u")
    expect(captions.nth(1)).to_have_text("Edited in place.")
    assert second.read_text() == "Edited in place."

    user.press("Home", "e")
    expect(box).to_be_focused()
    user.page.keyboard.type("Mine ")
    first.write_text("Theirs.")
    user.press("Enter")
    expect(user.find(".sheet .side-label")).to_have_text(["On disk", "Yours"])
    user.press("Escape")
    expect(user.find(".sheet")).to_have_count(0)
    assert first.read_text() == "Theirs."
    expect(user.find(".tile-caption.unsaved")).to_have_count(1)  # nothing is lost
    user.press("e", "Enter")
    user.find(".sheet button:has-text('Save mine')").click()
    expect(user.find(".tile-caption.unsaved")).to_have_count(0)
    assert first.read_text().endswith("Mine")


def test_what_is_typed_in_a_list_outlives_its_tab(folder, opened):
    user = opened()
    user.press("m")
    expect(user.find(".gallery.list")).to_be_visible()  # the grid shows captions, too, and they cannot be edited there
    expect(user.find(".tile-caption").nth(3)).to_contain_text("number 3,")
    user.find(".tile-caption").nth(3).click()
    expect(user.find(".tile-box")).to_be_focused()
    user.page.keyboard.type("Typed, and not saved.")
    expect(user.box).to_have_value(re.compile("Typed, and not saved.$"))
    user.page.wait_for_timeout(300)
    user.page.close()
    other = opened()
    other.press("j", "j", "j")
    expect(other.box).to_have_value(re.compile("Typed, and not saved.$"))


def test_a_run_has_every_option_and_is_saved_as_a_setup(folder, opened):
    user = opened()
    user.press("3")
    command = user.find(".command-line")
    expect(command).to_have_text(f"gemma-captioner caption {folder} --target sdxl --model demo")
    user.page.get_by_label("Trigger", exact=True).fill("sks dog")
    user.find(".option-group:has-text('Images and clips')").click()
    user.page.get_by_label("Frames per second (fps)").fill("2.5")
    expect(command).to_contain_text("--fps 2.5")
    expect(command).to_contain_text("--trigger 'sks dog'")
    expect(user.find(".option-group").nth(2)).to_contain_text("1 option set")
    user.page.get_by_label("Frames", exact=True).fill("many")
    expect(user.find(".panel .fault").first).to_contain_text("--frames many: give a whole number")
    user.page.get_by_label("Frames", exact=True).fill("")
    user.page.get_by_label("Name of a setup", exact=True).fill("mine")
    user.enter(".do-save-setup")
    expect(user.find(".setup-status")).to_contain_text("--config")
    saved = folder / ".gemma-captioner" / "setups" / "mine.toml"
    assert 'trigger = "sks dog"' in saved.read_text()
    user.enter(".do-dry-run")
    expect(user.find(".setup-status")).to_contain_text("to caption", timeout=60_000)
    other = opened()
    other.press("3")
    other.page.get_by_role("combobox", name="Load a setup").click()
    other.find(".q-menu .q-item:has-text('mine')").click()
    expect(other.find(".command-line")).to_contain_text("--trigger 'sks dog'")
    expect(other.page.get_by_label("Trigger", exact=True)).to_have_value("sks dog")


def test_two_items_are_compared_and_a_selection_is_exported(folder, opened):
    user = opened()
    files = images(folder)
    user.press("v")
    expect(user.find(".compare .name")).to_have_text([files[0].name, files[1].name])
    user.find(".do-next-pair").click()
    expect(user.find(".compare .name")).to_have_text([files[0].name, files[2].name])
    expect(user.find(".compare .part-new").first).to_be_visible()
    user.press("Escape")
    expect(user.find(".q-dialog")).to_have_count(0)
    tiles = user.find(".tile")
    tiles.nth(4).click()
    tiles.nth(6).click(modifiers=["Control"])
    user.find(".selection-bar .do-compare").click()
    expect(user.find(".compare .name")).to_have_text([files[4].name, files[6].name])
    user.press("Escape")
    expect(user.find(".q-dialog")).to_have_count(0)
    user.find(".selection-bar .do-export_selection").click()
    expect(user.find(".sheet .sheet-title")).to_have_text("Export 2 captions (selected)")
    user.enter(".do-write-export")
    expect(user.find(".sheet .output")).to_contain_text("2 written", timeout=60_000)
    lines = (folder.parent / "set-selection.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["file_name", files[4].name, files[6].name]


def test_the_list_on_a_phone(folder, opened):
    user = opened(**PHONE)
    user.find(".do-list").tap()
    caption = user.find(".gallery.list .tile-caption").first
    expect(caption).to_have_text(re.compile("number 0"))
    caption.tap()
    expect(user.find(".tile-box")).to_be_focused()
    assert user.page.evaluate("document.documentElement.scrollWidth") <= 390
