"""The stage, the player, the splitter, the fields and the toolbar of the review page, in a browser with one server."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from gemma_captioner.dataset.sidecar import digest
from tests.support import sound
from tests.support.review_server import PHONE, Address, KeyboardUser, serving
from tests.test_review_facts import FLUX, H3

pytestmark = pytest.mark.long
NAMES = ("a-large.tiff", "b-edit.jpg", "c-fields.png", "d-loud.mp4", "day1/e.png")
WIDTH, HEIGHT = 2400, 1600


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A large picture, an edit, a structured caption, a clip with sound, and a picture in a subfolder."""
    folder = tmp_path_factory.mktemp("stage") / "garden walk"
    (folder / "day1").mkdir(parents=True)
    (folder.parent / "before").mkdir()
    steps = np.indices((HEIGHT, WIDTH)).sum(0).astype(np.uint8)
    Image.fromarray(np.stack([steps, steps[::-1], steps // 2], -1)).save(folder / NAMES[0])
    for path in (folder / NAMES[1], folder / NAMES[2], folder / NAMES[4], folder.parent / "before" / "b-edit.png"):
        Image.new("RGB", (320, 200), "teal").save(path)
    sound.write_clip(folder / NAMES[3], range(48), [("aac", 48_000, sound.bursts(2.0, [0.5, 1.5]))])
    for name in NAMES:
        (folder / name).with_suffix(".txt").write_text(f"The caption of {Path(name).stem}, to be reviewed.")
    (folder / NAMES[4]).with_suffix(".txt").write_text(H3)
    (folder / NAMES[2]).with_suffix(".txt").write_text(json.dumps(FLUX | {"camera": {"lens": "35 mm"}}))
    return folder


@pytest.fixture(scope="module")
def address(folder, review_fork_server, tmp_path_factory) -> Iterator[Address]:
    options = ("--recursive", "--span", "0.5-1.5", "--frames", "5", "--control", str(folder.parent / "before"))
    with serving(folder, *options, cache=tmp_path_factory.mktemp("cache"), fork_server=review_fork_server) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser, address) -> Iterator[KeyboardUser]:
    user = KeyboardUser(browser, address)
    yield user
    user.close()


@pytest.fixture
def user(page) -> KeyboardUser:
    """At the first item. The tests share a page, because loading it is most of their time."""
    page.page.evaluate("document.activeElement.blur()")
    page.press("Escape", "Home")
    page.is_at(NAMES[0])
    return page


def measure(element: Locator, what: str) -> float:
    return float(element.evaluate(f"e => e.{what}"))


def test_looking_closely(folder, user):
    """Zoom at the pointer, drag, 1:1 with all pixels, full screen; the facts of the file; the splitter."""
    view, picture = user.find(".stage-view"), user.find(".stage img")
    expect(user.find(".facts")).to_contain_text(f"{WIDTH} \u00d7 {HEIGHT} \u00b7 ")
    expect(user.find(".facts")).to_contain_text(" MB")
    user.page.wait_for_function("document.querySelector('.stage img').naturalWidth === 1697")  # the small copy
    fitting = user.find(".stage-zoom").inner_text()
    user.press("z")
    expect(user.find(".stage-zoom")).to_have_text("100%")
    user.page.wait_for_function(f"document.querySelector('.stage img').naturalWidth === {WIDTH}")  # all pixels
    assert measure(picture, "getBoundingClientRect().width") == pytest.approx(WIDTH, abs=0.5)
    user.find(".do-zoom").click()
    expect(user.find(".stage-zoom")).to_have_text(fitting)
    box = view.bounding_box()
    at = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4
    user.page.mouse.move(*at)

    def under_pointer() -> list[float]:  # as shares of the picture
        place = picture.bounding_box()
        return [(at[0] - place["x"]) / place["width"], (at[1] - place["y"]) / place["height"]]

    before = under_pointer()
    user.page.mouse.wheel(0, -500)
    expect(user.find(".stage-zoom")).not_to_have_text(fitting)
    assert under_pointer() == pytest.approx(before, abs=0.01)
    left = picture.bounding_box()["x"]
    user.page.mouse.down()
    user.page.mouse.move(at[0] - 30, at[1], steps=3)
    user.page.mouse.up()
    assert picture.bounding_box()["x"] == pytest.approx(left - 30, abs=1)
    view.dblclick(position={"x": 50, "y": 50})
    expect(user.find(".stage-zoom")).to_have_text(fitting)
    user.press("Shift+Enter")
    expect(user.find(".stage.maximized")).to_be_visible()
    assert user.find(".stage").bounding_box() == {"x": 0, "y": 0, **user.page.viewport_size}
    user.press("Escape")
    expect(user.find(".stage.maximized")).to_have_count(0)
    user.press("Shift+Enter", "e")  # who edits must see the caption
    expect(user.find(".stage.maximized")).to_have_count(0)
    expect(user.box).to_be_focused()
    user.press("Escape", "z", "j")
    user.is_at(NAMES[1])
    expect(user.find(".stage-view.zoomed")).to_have_count(0)

    splitter, detail = user.find(".splitter"), user.find(".detail")
    width = detail.bounding_box()["width"]
    handle = splitter.bounding_box()
    user.page.mouse.move(handle["x"] + 3, 300)
    user.page.mouse.down()
    user.page.mouse.move(handle["x"] - 147, 300, steps=2)
    user.page.mouse.up()
    assert detail.bounding_box()["width"] == pytest.approx(width + 150, abs=8)
    user.press("ArrowRight")  # the line has the keyboard
    user.is_at(NAMES[1])
    moved = detail.bounding_box()["width"]
    assert moved < width + 150
    user.page.reload()
    expect(user.counts).to_contain_text("shown")
    assert detail.bounding_box()["width"] == pytest.approx(moved, abs=2)


def test_the_source_of_an_edit_is_beside_it(folder, user):
    expect(user.find(".source-fault")).to_contain_text("has no source image")
    expect(user.find(".pane")).to_have_count(1)
    user.press("j")
    expect(user.find(".pane figcaption")).to_have_text(["Source: b-edit.png", f"Target: {NAMES[1]}"])
    expect(user.find(".source-fault")).to_be_hidden()
    user.page.wait_for_function("[...document.querySelectorAll('.stage img')].every((e) => e.naturalWidth === 320)")
    assert [image.get_attribute("src").split("?")[0] for image in user.find(".stage img").all()] == [
        "/picture/1/0",
        "/picture/1",
    ]
    one, two = (pane.bounding_box() for pane in user.find(".pane").all())
    assert one["y"] == two["y"] and one["width"] == pytest.approx(two["width"], abs=1)
    user.press("z")
    widths = {round(image.bounding_box()["width"]) for image in user.find(".stage img").all()}
    assert len(widths) == 1  # both are zoomed alike


def test_a_clip_with_its_frames_and_its_sound(folder, user):
    user.press("j", "j", "j")
    user.is_at(NAMES[3])
    expect(user.find(".facts")).to_contain_text("2.00 s \u00b7 24 fps \u00b7 48 frames")
    expect(user.find(".facts")).to_contain_text("sound: 48 kHz stereo")
    expect(user.find(".strip-label")).to_have_text("5 frames that the model would see, of 0.50 to 1.50 s")
    assert measure(user.find(".strip img"), "clientHeight") >= 72
    user.page.wait_for_function("document.querySelector('video').currentTime > 0")
    user.find(".frame-time").nth(2).click()
    user.page.wait_for_function("document.querySelector('video').paused")
    shown = user.find(".frame-time").nth(2).inner_text()
    user.page.wait_for_function(f"Math.abs(document.querySelector('video').currentTime - {shown}) < 0.01")
    track = user.find(".track").bounding_box()
    span = user.find(".track .span").bounding_box()
    assert (span["x"] - track["x"]) / track["width"] == pytest.approx(0.25, abs=0.02)
    assert span["width"] / track["width"] == pytest.approx(0.5, abs=0.02)
    assert user.find(".waveform path").get_attribute("d").count(",-0.02") > 700  # it is mostly silent, not all of it
    assert user.find(".waveform path").get_attribute("d").count(",-0.02") < 800
    assert user.page.evaluate("document.querySelector('video').muted")
    user.find(".do-mute").click()
    assert not user.page.evaluate("document.querySelector('video').muted")
    user.find(".track").focus()
    user.press("ArrowRight")
    user.is_at(NAMES[3])
    user.page.wait_for_function(f"document.querySelector('video').currentTime > {shown} + 0.01")
    user.find(".stage-view").click(position={"x": 100, "y": 60})
    user.page.wait_for_function("!document.querySelector('video').paused")


def test_a_clip_whose_header_has_no_duration_can_be_moved(user):
    """As Chromium shows a WebM without one."""
    user.press("j", "j", "j")
    user.is_at(NAMES[3])
    user.page.wait_for_function("document.querySelector('video').readyState > 0")
    user.page.evaluate("""() => {
        const clip = document.querySelector("video");
        Object.defineProperty(clip, "duration", { get: () => Infinity });
        clip.pause();
        clip.dispatchEvent(new Event("loadedmetadata"));
    }""")
    expect(user.find(".player .time")).to_contain_text("/ 2.00 s")
    user.find(".track").click()  # its middle
    user.page.wait_for_function("Math.abs(document.querySelector('video').currentTime - 1) < 0.05")
    assert user.page_errors == []


def test_the_preview_of_many_names_what_it_leaves_out(user):
    user.press("b")
    user.find(".sheet [aria-label=Find]").fill('"')
    expect(user.find(".sheet [role=status]")).to_contain_text(
        f"0 captions would change; left out: 1 structured caption ({NAMES[2]}: the result is not valid JSON)"
    )
    expect(user.find(".sheet .do-apply")).to_be_disabled()
    user.find(".sheet [aria-label=Find]").fill("caption of")
    expect(user.find(".sheet .do-apply")).to_have_text("Change 3 captions")
    expect(user.find(".sheet .do-apply")).to_be_enabled()
    user.press("Escape")
    expect(user.find(".q-dialog")).to_have_count(0)


def test_structured_captions_are_fields(folder, user):
    """What is typed in a field is saved as any text is; the rest of the caption stays as it was; `u` takes it back."""
    path = (folder / NAMES[2]).with_suffix(".txt")
    before = path.read_text()
    user.press("j", "j")
    user.is_at(NAMES[2])
    expect(user.box).to_be_hidden()
    expect(user.find(".fields-head")).to_contain_text("flux2")
    field = user.page.get_by_label("subjects[0].description", exact=True)
    expect(field).to_have_value("a boat")
    field.fill("a red boat")
    changed = FLUX | {"subjects": [{"description": "a red boat"}], "camera": {"lens": "35 mm"}}
    expect(user.box).to_have_value(json.dumps(changed, separators=(",", ":")))
    field.press("Enter")
    expect(user.find("text=/^saved/")).to_be_visible()
    assert json.loads(path.read_text()) == changed
    user.press("e")  # the first field
    expect(user.page.get_by_label("scene", exact=True)).to_be_focused()
    user.press("Control+a", "Delete")
    expect(user.find(".fields-head .problem")).to_contain_text("scene: '' should be non-empty")
    expect(user.find(".field-input.wrong")).to_have_count(1)
    user.press("Escape")
    expect(user.find(".fields-head .problem")).to_have_text("")
    mood = user.page.get_by_label("mood", exact=True)
    mood.fill("calm")
    user.find(".do-raw").click()  # which leaves the field
    expect(user.box).to_be_visible()
    calm = json.dumps(changed, separators=(",", ":")).replace('"background"', '"mood":"calm","background"')
    expect(user.box).to_have_value(calm)  # where the format has it
    user.find(".do-raw").click()
    expect(mood).to_have_value("calm")
    expect(user.box).to_have_attribute("data-base", digest(calm.encode()))  # it is saved
    assert path.read_text() == calm
    user.press("u", "u")
    expect(field).to_have_value("a boat")
    expect(mood).to_have_value("")
    assert path.read_text() == before
    for way, shown in (("k", user.box), ("j", user.page.get_by_label("scene", exact=True))):
        user.press(way, "e", "End")  # the editor or a field has the keyboard, whichever comes
        user.page.keyboard.type("dd")  # else `d` would be a command
        expect(shown).to_be_focused()
        user.press("Escape")
        expect(user.counts).to_contain_text("5 shown")
    user.press("k")
    expect(user.box).to_be_visible()
    expect(user.find(".caption-fields")).to_be_hidden()


def test_labeled_paragraphs_are_fields(folder, user):
    path = (folder / NAMES[4]).with_suffix(".txt")
    user.press("End")
    user.is_at(NAMES[4])
    sounds = user.page.get_by_label("overall_soundscape", exact=True)
    expect(sounds).to_have_value("Waves.")
    sounds.fill("Waves, and <d>[English] hello</d>.")
    expect(user.find(".fields-head .problem")).to_contain_text("overall_soundscape: no <d> here")
    sounds.fill("Waves and gulls.")
    expect(user.find(".fields-head .problem")).to_have_text("")
    sounds.press("Enter")
    changed = H3.replace("Waves.", "Waves and gulls.")
    expect(user.box).to_have_attribute("data-base", digest(changed.encode()))
    assert path.read_text() == changed
    user.press("u")
    expect(sounds).to_have_value("Waves.")
    assert path.read_text() == H3


def test_the_toolbar(folder, user):
    expect(user.find(".tabs .folder")).to_have_text("garden walk")
    expect(user.find(".reviewed")).to_contain_text("0 of 5 reviewed")
    user.press("a")
    expect(user.find(".reviewed")).to_contain_text("1 of 5 reviewed")
    expect(user.find(".reviewed [role=progressbar]")).to_have_attribute("aria-valuenow", "0.2")
    user.press("u")
    expect(user.find(".reviewed")).to_contain_text("0 of 5 reviewed")
    user.find(".do-change").click()
    expect(user.find(".folders")).to_contain_text("gemma-captioner review FOLDER")
    user.find(".folders button:has-text('garden walk/day1')").click()
    expect(user.find(".tabs .folder")).to_have_text("garden walk/day1")
    user.is_at(NAMES[4])
    expect(user.counts).to_contain_text("1 shown")
    user.find(".do-change").click()
    user.find(".folders button").first.click()
    expect(user.counts).to_contain_text("5 shown")
    user.find(".tabs .do-dark").click()
    expect(user.find("body.body--dark")).to_have_count(1)
    user.find(".tabs .do-recaption").click()
    expect(user.find(".sheet-title")).to_have_text("Recaption")
    user.press("Escape")
    expect(user.find(".q-dialog")).to_have_count(0)


def test_on_a_phone_two_fingers_zoom(browser, address):
    user = KeyboardUser(browser, address, **PHONE)
    user.page.wait_for_function("document.querySelector('.stage img').naturalWidth > 0")
    expect(user.find(".splitter")).to_be_hidden()
    view = user.find(".stage-view").bounding_box()
    x, y = view["x"] + view["width"] / 2, view["y"] + view["height"] / 2
    touch = user.context.new_cdp_session(user.page)
    for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 60), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(user.find(".stage-view.zoomed")).to_be_visible()
    user.find(".do-zoom").tap()
    expect(user.find(".stage-view.zoomed")).to_have_count(0)
    user.close()
