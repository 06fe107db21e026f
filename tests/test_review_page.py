"""The review page in a browser, by keyboard alone, on real media captioned by the demo model."""

import http.client
import os
import re
import shutil
import signal
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from gemma_captioner import caption
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.review.page.keys import COMMANDS, SHORTCUTS
from tests.support.files import captions
from tests.support.review_server import KeyboardUser, serving


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
    expect(reader.find("text=/^saved/")).to_be_visible()
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

    for _ in range(5):  # undo all changes
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


@pytest.mark.prove
def test_keys_navigate(folder, opened):
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
    reader.press("j", "Escape")  # the help dialog has the focus
    expect(reader.find(".help")).to_have_count(0)
    reader.is_at(files[4])
    reader.press("t")
    expect(reader.find("body.body--dark")).to_be_visible()


OPENED = {"b": ".sheet input", "?": ".help dd", "c": ".sheet textarea", "2": ".chart", "3": ".do-start",
    "v": ".compare .name", "X": ".do-write-export",
}  # fmt: skip


@pytest.mark.prove
def test_every_key_does_something(opened):
    """An unknown command raises in the server, which fails the test."""
    reader = opened()
    for key in SHORTCUTS:
        for name in key.keys:
            reader.press(name.replace("Ctrl", "Control"))
            if name in OPENED:
                expect(reader.find(OPENED[name]).first).to_be_visible()
            reader.press("Escape")
            expect(reader.find(".q-dialog")).to_have_count(0)
    assert [key.command for key in SHORTCUTS] == list(dict.fromkeys(key.command for key in SHORTCUTS))
    assert sum(len(key.keys) for key in SHORTCUTS) == len(COMMANDS)


@pytest.mark.prove
def test_typed_text_stays_with_its_item(folder, opened):
    """However fast the keys are, the text of one item is never saved to the next one."""
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


@pytest.mark.long
def test_a_tab_that_is_closed_loses_nothing(folder, opened):
    reader = opened()
    path = folder / Path(names(folder)[0]).with_suffix(".txt")
    reader.write("Typed, and not saved.")
    expect(reader.find(".detail .count")).to_contain_text("4 words")
    reader.page.close()
    other = opened()
    expect(other.box).to_have_value("Typed, and not saved.")
    assert path.read_text() == "Typed, and not saved."


@pytest.mark.prove
def test_typed_text_survives_changes_by_other_programs(folder, opened):
    """Files are added and removed, the current one included, while the user types and saves."""
    reader = opened()
    files = names(folder)
    before = captions(folder)
    path = folder / Path(files[0]).with_suffix(".txt")
    reader.write("One")
    shutil.copy(folder / files[1], folder / "aa.png")
    expect(reader.counts).to_contain_text("9 shown")
    (folder / files[2]).unlink()
    expect(reader.counts).to_contain_text("8 shown")
    for word in (" two", " three"):
        reader.page.keyboard.type(word)
        reader.press("Control+s")
    reader.page.keyboard.type(" four")
    expect(reader.find("text=/^saved/").first).to_be_visible()
    expect(reader.box).to_have_value("One two three four")
    (folder / files[0]).unlink()
    expect(reader.counts).to_contain_text("7 shown")
    reader.page.keyboard.type(" five")
    reader.is_at(files[0])
    expect(reader.find("text=/^saved/")).to_have_count(0)
    reader.press("Enter")
    expect(reader.find("text=/^saved/").first).to_be_visible()
    assert path.read_text() == "One two three four five"
    reader.press("j")
    reader.is_at(files[1])
    reader.write("Dropped.")
    reader.press("Escape")
    (folder / files[1]).with_suffix(".txt").write_text("By an editor.")
    expect(reader.box).to_have_value("By an editor.")
    changed = {path.name, Path(files[1]).with_suffix(".txt").name}
    assert [name for name, text in captions(folder).items() if text != before.get(name)] == sorted(changed)


@pytest.mark.prove
def test_letters_reach_the_item_of_the_keys_before_them(folder, opened):
    """However soon they are typed, they go into the text of that item or nowhere."""
    reader = opened()
    for way in (("a",), ("j", "k", "j"), ("End", "Home", "click"), ("e", "Control+Enter")):
        reader.press("Home")
        for number in range(1, 4):
            reader.is_at(names(folder)[number - 1])
            expect(reader.box).to_be_editable()
            for key in way:
                if key == "click":
                    reader.find(".tile").nth(number).click()
                else:
                    reader.press(key)
            reader.press("e")
            reader.page.keyboard.type(str(number) * 20)
            reader.press("Enter")
    reader.press("End")
    reader.is_at(names(folder)[-1])
    for number, text in enumerate(captions(folder).values()):
        assert {letter for letter in text if letter.isdigit()} <= {str(number)}, (number, text)


@pytest.mark.prove
def test_a_server_that_is_killed_loses_nothing(folder, browser, tmp_path, review_fork_server):
    """Text typed before and after: the page waits for the next server and sends it."""
    path = folder / Path(names(folder)[0]).with_suffix(".txt")
    with ExitStack() as stack:
        first = stack.enter_context(serving(folder, cache=tmp_path / "cache", fork_server=review_fork_server))
        reader = KeyboardUser(browser, first)
        reader.write("Typed before")
        os.kill(first.pid, signal.SIGKILL)
        reader.page.keyboard.type(" and after. ")
        reader.page.evaluate("document.execCommand('insertText', false, '\\ud83d')")  # half a character
        port = urlsplit(first).port
        stack.enter_context(serving(folder, cache=tmp_path / "cache", port=port, fork_server=review_fork_server))
        expect(reader.find("text=/^saved/").first).to_be_visible(timeout=30_000)
        reader.is_at(names(folder)[0])
        expect(reader.box).to_have_value("Typed before and after. \ufffd")
        assert path.read_text() == "Typed before and after. \ufffd"
        reader.page.reload()
        expect(reader.box).to_have_value("Typed before and after. \ufffd")
        expect(reader.find(".sheet")).to_have_count(0)
        reader.close()


@pytest.mark.long
def test_clips_play_with_the_frames_the_model_saw(folder, opened):
    reader = opened()
    reader.press("End")
    clip = names(folder)[-1]
    reader.is_at(clip)
    expect(reader.find(".frame-time")).to_have_count(12)
    reader.page.wait_for_function("document.querySelector('video').readyState >= 2")
    reader.page.wait_for_function("document.querySelector('video').currentTime > 0")
    assert reader.page.evaluate("document.querySelector('video').loop")
    expect(reader.find(".strip-label")).to_have_text("12 frames that the model saw")
    reader.enter(".frame-time >> nth=6")
    reader.page.wait_for_function("document.querySelector('video').paused")
    reader.page.wait_for_function("Math.abs(document.querySelector('video').currentTime - 0.5) < 0.002")
    reader.press("p")
    reader.page.wait_for_function("!document.querySelector('video').paused")
    reader.press("i")
    expect(reader.find(".provenance")).to_contain_text("Only describe movement as this will be very important")
    expect(reader.find(".provenance")).to_contain_text("demo")


@pytest.mark.long
def test_two_tabs_lose_nothing(folder, opened):
    """Both edit one caption: the second sees both texts and chooses one."""
    one, two = opened(), opened()
    path = folder / Path(names(folder)[0]).with_suffix(".txt")
    two.write("By the second.")
    one.write("By the first.")
    one.press("Enter")
    expect(one.find("text=/^saved/")).to_be_visible()
    two.press("Enter")
    expect(two.find(".sheet .part-gone")).to_contain_text(["first"])
    expect(two.find(".sheet .part-new")).to_contain_text(["second"])
    assert path.read_text() == "By the first."
    two.enter(".sheet button:has-text('Save mine')")
    expect(two.find(".sheet")).to_have_count(0)
    expect(one.box).to_have_value("By the second.")
    assert path.read_text() == "By the second."
    one.press("u")
    expect(one.find("text=the caption changed in the meantime: check it, then try again")).to_be_visible()
    assert path.read_text() == "By the second."
    two.press("u")
    expect(one.box).to_have_value("By the first.")


@pytest.mark.long
def test_another_program_is_noticed(folder, opened):
    reader = opened()
    path = folder / Path(names(folder)[0]).with_suffix(".txt")
    path.write_text("By an editor.")
    expect(reader.box).to_have_value("By an editor.")
    reader.write("Mine.")
    path.write_text("By the editor again.")
    reader.press("Enter")
    expect(reader.find(".sheet")).to_contain_text("Not saved")
    reader.enter(".sheet button:has-text('Keep the caption on disk')")
    expect(reader.box).to_have_value("By the editor again.")
    assert path.read_text() == "By the editor again."


@pytest.mark.long
def test_finding_and_changing_many(folder, opened):
    reader = opened()
    before = captions(folder)
    reader.press("/")
    reader.page.keyboard.type("mp4")
    expect(reader.counts).to_contain_text("of 3 shown")
    reader.press("Escape", "b")
    expect(reader.find(".sheet input").first).to_be_visible()
    reader.page.keyboard.type("moves ")
    reader.press("Tab")
    reader.page.keyboard.type("drifts ")
    expect(reader.find(".sheet")).to_contain_text("3 captions would change")
    expect(reader.find(".sheet .part-new")).to_have_text(["drifts"] * 3)
    reader.enter(".do-apply")
    expect(reader.find("text=3 changed")).to_be_visible()
    after = captions(folder)
    assert [name for name in after if after[name] != before[name]] == [
        Path(name).with_suffix(".txt").name for name in names(folder) if name.endswith("mp4")
    ]
    expect(reader.find(".q-dialog")).to_have_count(0)
    reader.press("Escape")
    expect(reader.counts).to_contain_text("of 8 shown")
    reader.press("Home", "x", "Shift+ArrowRight", "Shift+J")
    expect(reader.find(".selection-count")).to_have_text("3 selected")
    reader.press("a")
    expect(reader.counts).to_contain_text("3 approved")
    reader.press("Control+a", "r")
    expect(reader.counts).to_contain_text("8 rejected")
    reader.press("u", "u", "u")
    expect(reader.counts).to_contain_text("0 approved")
    expect(reader.find("text=undone: 3 changed")).to_be_visible()
    assert captions(folder) == before


@pytest.mark.prove
def test_filters_and_orders(folder, opened):
    (folder / "more").mkdir()
    shutil.copy(folder / names(folder)[0], folder / "more" / "z.png")
    (folder / "more" / "z.txt").write_text("I cannot help with that.")
    reader = opened("--recursive")
    reader.press("r")
    expect(reader.counts).to_contain_text("1 rejected")
    for label, option, shown in (
        ("kind", "clips", 3), ("kind", "images", 6), ("flag", "refusal", 1), ("flag", "flagged", 1),
        ("folder", "more", 1), ("state", "rejected", 1), ("state", "by hand", 1), ("state", "open", 8),
    ):  # fmt: skip
        reader.choose(label, option)
        expect(reader.counts).to_contain_text(f"of {shown} shown")
        reader.press("Escape", "Escape")
        expect(reader.counts).to_contain_text("of 9 shown")
    reader.find('[aria-label="words to"]').focus()
    reader.page.keyboard.type("5")
    expect(reader.counts).to_contain_text("of 1 shown")
    reader.is_at("more/z.png")
    reader.press("Escape", "Escape")
    expect(reader.counts).to_contain_text("of 9 shown")
    reader.choose("sort", "by length")
    reader.press("Escape", "Home")
    reader.is_at("more/z.png")
    reader.find('[aria-label="Reverse order"]').focus()
    reader.press("Space", "Escape", "End")
    reader.is_at("more/z.png")


@pytest.mark.prove
def test_selecting_with_the_mouse(opened):
    reader = opened()
    tiles = reader.find(".tile")
    tiles.nth(1).click()
    tiles.nth(4).click(modifiers=["Shift"])
    expect(reader.find(".selection-count")).to_have_text("4 selected")
    tiles.nth(2).click(modifiers=["Control"])
    expect(reader.find(".selection-count")).to_have_text("3 selected")
    for button, said in (("reject", "3 rejected"), ("undo", "0 rejected"), ("approve", "3 approved")):
        reader.find(f".detail .do-{button}").click()
        expect(reader.counts).to_contain_text(said)
    reader.press("Escape")
    for button, said in (("trash", "of 7 shown"), ("undo", "of 8 shown")):
        reader.find(f".detail .do-{button}").click()
        expect(reader.counts).to_contain_text(said)
    reader.find(".detail .do-recaption").click()
    expect(reader.find(".sheet")).to_contain_text("Recaption")


@pytest.mark.prove
def test_the_grid_stays_where_one_looks(folder, opened):
    """A tile that is in sight is picked without a jump; what comes in meanwhile does not bring one back."""
    for n in range(80):
        shutil.copy(folder / names(folder)[0], folder / f"b{n:02}.png")
    reader = opened()
    scrolled = "document.querySelector('.q-virtual-scroll').scrollTop"
    reader.page.mouse.move(300, 500)
    reader.page.mouse.wheel(0, 1000)
    reader.page.wait_for_function(f"{scrolled} === 1000")
    shutil.copy(folder / names(folder)[0], folder / "zz.png")
    expect(reader.counts).to_contain_text("89 shown")
    assert reader.page.evaluate(scrolled) == 1000
    reader.page.mouse.click(300, 650)
    expect(reader.find(".detail .name")).to_contain_text("b")
    assert reader.page.evaluate(scrolled) == 1000
    reader.press("j", "a")  # no caption there: it is told, and nothing moves
    expect(reader.find("text=there is no caption to approve")).to_be_visible()
    reader.press("End")
    reader.is_at("zz.png")
    expect(reader.find(".tile.current")).to_be_in_viewport()
    reader.press("j")
    expect(reader.find("text=this is the last item")).to_be_visible()


@pytest.mark.prove
def test_captions_anew_are_taken_or_declined(folder, opened):
    reader = opened("--model", "demo")
    paths = [folder / Path(name).with_suffix(".txt") for name in names(folder)]
    right = [path.read_text() for path in paths]
    for path in paths[:2]:
        path.write_text("Old words.")
    expect(reader.box).to_have_value("Old words.")
    reader.press("x", "Shift+ArrowRight", "c")
    reader.find(".sheet textarea").first.focus()
    reader.page.keyboard.type("Say what is there.")
    reader.enter(".do-again")
    expect(reader.find(".run-line")).to_contain_text("finished", timeout=60_000)
    assert paths[0].read_text() == "Old words."
    reader.press("Escape", "Home")
    expect(reader.find(".proposal .side-gone p")).to_have_text("Old words.")
    expect(reader.find(".proposal .side-new p")).to_have_text(right[0])
    reader.press("y")
    reader.is_at(names(folder)[1])  # the next that has a new caption
    reader.press("k")
    expect(reader.box).to_have_value(right[0])
    expect(reader.find(".proposal")).to_be_hidden()
    reader.press("i")
    expect(reader.find(".provenance")).to_contain_text("demo")  # whose caption it is now
    expect(reader.find(".provenance")).to_contain_text("Say what is there.")
    reader.press("j")
    reader.enter(".do-keep")
    expect(reader.find("text=declined")).to_be_visible()
    assert [path.read_text() for path in paths[:2]] == [right[0], "Old words."]
    reader.press("u", "u")
    expect(reader.find(".tile .mark-p")).to_have_count(2)
    assert paths[0].read_text() == "Old words."
    paths[-1].write_text("Old words.")
    reader.press("End")
    expect(reader.box).to_have_value("Old words.")
    reader.press("c")
    reader.find(".sheet textarea").first.focus()
    reader.press("Control+a", "Delete")
    reader.choose("Preset", "wan")
    reader.enter(".do-again")
    expect(reader.find(".tile .mark-p")).to_have_count(3, timeout=60_000)
    expect(reader.find(".q-dialog")).to_have_count(0)  # until it has faded out, it has the keyboard
    expect(reader.find(".proposal .side-new")).to_be_visible()
    reader.press("y", "End")
    expect(reader.find(".provenance")).to_contain_text("Describe this in one paragraph of 80 to 100 words")


@pytest.mark.long
def test_a_run_is_started_watched_paused_and_stopped(folder, opened, script):
    shutil.rmtree(folder)
    draw_samples(folder, images=86, clips=4, seed=8)  # enough for a pause to come in time
    (folder / "00.png").write_bytes(b"no picture")
    reader = opened("--engine", "scripted", "--model", str(script(delay_s=0.1, batch_size=1)))
    expect(reader.box).to_have_value("")
    reader.press("3")
    reader.enter(".do-start")
    expect(reader.find(".newest li").first).to_be_visible(timeout=60_000)
    reader.enter(".do-pause")
    expect(reader.find(".run-state")).to_contain_text("paused")
    done = len(captions(folder))
    reader.page.wait_for_timeout(1500)
    assert len(captions(folder)) <= done + 1  # the one that was on its way
    expect(reader.find(".newest li .fault")).to_contain_text("cannot read this image")
    assert reader.page.evaluate("document.querySelector('.panel [role=progressbar]').clientHeight") > 1  # not squeezed
    reader.press("Enter")  # go on
    expect(reader.find(".run-state")).to_contain_text("running: captioning set")
    reader.enter(".do-stop")
    expect(reader.find(".run-state")).to_contain_text("stopped: captioning set, ")
    assert done < len(captions(folder)) < 90
    reader.enter(".do-start")
    expect(reader.find(".run-state")).to_contain_text("finished: captioning set, ", timeout=60_000)
    assert len(captions(folder)) == 90
    reader.press("1", "Home", "j")
    expect(reader.box).to_have_value(captions(folder)[Path(names(folder)[1]).with_suffix(".txt").name])
    reader.press("u")
    expect(reader.find("text=nothing to undo")).to_be_visible()


@pytest.mark.prove
def test_the_overview_leads_to_the_items(folder, opened):
    for name in names(folder)[:2]:
        (folder / name).with_suffix(".txt").write_text("The same words twice.")
    reader = opened()
    reader.press("2")
    expect(reader.find(".chart")).to_contain_text(
        ["State", "Caption length in words", "Same text", "Openings", "Words"]
    )
    reader.enter(".bar:has-text('the same words')")
    expect(reader.counts).to_contain_text("of 2 shown")
    reader.press("2")
    reader.enter(".chart:has-text('Same text') .bar")
    expect(reader.counts).to_contain_text("2 captions with the same text")
    reader.press("2")
    reader.enter(".do-export")
    expect(reader.find(".output")).to_contain_text("8 written", timeout=60_000)
    assert (folder.parent / "set.csv").read_text().count("The same words twice.") == 2
    reader.enter("button:has-text('Check')")
    expect(reader.find(".output")).to_contain_text("duplicate", timeout=60_000)


HOSTILE = "<img src=x onerror=\"window.harmed='caption'\"><script>window.harmed='script'</script>{{ 7 * 7 }}"


@pytest.mark.long
def test_captions_names_and_prompts_are_text(folder, opened):
    """Everywhere: tile, detail, provenance, difference, search, notices, the overview, what a run tells."""
    (folder / "<img src=x onerror=window.harmed=1>").mkdir()
    name = "<img src=x onerror=window.harmed=2>{{ 7 * 7 }}.png"
    first = names(folder)[0]
    shutil.copy(folder / first, folder / name)
    shutil.copy(folder / first, folder / "<img src=x onerror=window.harmed=1>" / "a.png")
    (folder / name).with_suffix(".txt").write_text("")
    settings = {"prompt": HOSTILE.replace("{", "{{").replace("}", "}}"), "include": "<img*"}
    list(caption(folder, model="demo", recursive=True, **settings))
    reader = opened("--recursive", "--model", "demo")
    reader.press("/")
    reader.page.keyboard.type("harmed=2")
    reader.is_at(name)
    expect(reader.box).to_have_value((folder / name).with_suffix(".txt").read_text())  # it comes after the name
    reader.press("Escape")
    reader.write(HOSTILE)
    reader.press("Enter", "i")
    expect(reader.find("text=/^saved/")).to_be_visible()
    expect(reader.box).to_have_value(HOSTILE)
    reader.press("u")
    expect(reader.find(".provenance")).to_contain_text("<script>window.harmed='script'</script>")  # the prompt
    reader.press("Shift+U", "b")
    reader.enter(".sheet input >> nth=1")
    reader.page.keyboard.type("<")
    expect(reader.find(".sheet .part-gone").first).to_have_text("<")
    reader.press("Escape", "d")
    expect(reader.find(".sheet")).to_have_count(0)
    reader.press("2")
    expect(reader.find(".chart").first).to_be_visible()
    (folder / "<img src=x onerror=window.harmed=3>.png").write_bytes(b"no picture")
    reader.press("3")
    reader.enter(".do-start")
    expect(reader.find(".newest .fault")).to_contain_text("cannot read this image", timeout=60_000)
    expect(reader.find(".newest .change-name").first).to_contain_text("<img src=x")
    assert reader.page.evaluate("window.harmed") is None
    assert reader.find("img[src=x]").count() == 0 and reader.find("text=/^49/").count() == 0


@pytest.mark.prove
def test_what_is_not_there_or_broken_is_told(opened, folder):
    """Nothing at all, nothing that matches, what cannot be shown; each with what to do."""
    kept = folder.parent / "kept"
    folder.rename(kept)
    folder.mkdir()
    reader = opened()
    expect(reader.find(".stage-state")).to_contain_text("No images or clips in")
    expect(reader.find(".stage-state")).to_contain_text("--recursive")
    reader.press("a", "d", "End", "j", "f", "o", "x", "u", "i")  # nothing to do any of it to
    (folder / "b2.png").write_bytes(b"no picture")
    (folder / "b1.mp4").write_bytes(b"no clip")
    expect(reader.counts).to_contain_text("2 shown")
    for key, name in (("Home", "b1.mp4"), ("End", "b2.png")):
        reader.press(key)
        reader.is_at(name)
        expect(reader.find(".stage-state")).to_contain_text("Cannot display this file: ")
        expect(reader.find(".stage-state")).to_contain_text(re.compile("replace", re.IGNORECASE))
    for path in kept.iterdir():
        if path.is_file():
            shutil.move(path, folder)
    expect(reader.counts).to_contain_text("10 shown")
    reader.press("/")
    reader.page.keyboard.type("no such thing")
    expect(reader.find(".stage-state")).to_contain_text("No item matches the filter. Press Esc to clear it.")
    reader.press("Escape", "Escape")
    expect(reader.counts).to_contain_text("10 shown")
    reader.press("/")
    reader.page.keyboard.type("(")
    expect(reader.counts).to_contain_text(re.compile(r"\b0 shown"))  # not 10
    reader.press("Tab", "Tab", "Space")  # over the button that clears the search
    expect(reader.find("text=is not a valid regular expression")).to_be_visible()


NAMELESS = """() => [...document.querySelectorAll("button, a, input, textarea, img, video, [tabindex='0']")]
    .filter((e) => e.checkVisibility() && e.alt !== "" && !e.closest("[aria-hidden=true], [aria-label], label")
                   && !e.labels?.length && !(e.innerText || e.alt || "").trim())
    .map((e) => e.outerHTML.slice(0, 200))"""


@pytest.mark.long
def test_everything_that_takes_the_focus_has_a_name(opened):
    reader = opened("--model", "demo")
    for key, opened_by_it in {"End": ".detail video", **OPENED}.items():
        reader.press(key)
        expect(reader.find(opened_by_it).first).to_be_visible()
        assert reader.page.evaluate(NAMELESS) == [], key
        reader.press("Escape")
        expect(reader.find(".q-dialog")).to_have_count(0)
    reader.page.evaluate("document.body.append(document.createElement('button'))")
    assert reader.page.evaluate(NAMELESS) == ["<button></button>"]  # it can be seen


ODD_PATHS = (
    "/picture/../../../etc/passwd", "/picture/..%2f..%2fetc%2fpasswd", "/picture/%2e%2e/%2e%2e/etc/passwd",
    "/picture//etc/passwd", "/picture/%00", "/picture/-1", "/picture/1e3", "/picture/99999", "/thumb/0.png",
    "/picture/0/../../../etc/passwd", "/strip/99999", "/clip/-1", "//etc/passwd", "/picture/secret.png",
    "/_nicegui_ws/../../etc/passwd", "/picture/%u002e", "/picture/%ef%bc%90x", "/docs", "/openapi.json",
    "/full/-1", "/full/99999", "/full/..%2f..%2fetc%2fpasswd", "/picture/0/0", "/clip/0/-1", "/full/0/secret.png",
    "/picture/0/..%2f..%2fetc%2fpasswd",
)  # fmt: skip


@pytest.mark.long
def test_only_media_and_captions_of_the_folder_are_to_be_had(folder, browser, tmp_path, review_fork_server):
    """By the addresses themselves, as they are sent; files that are links out, or change into one."""
    secret = tmp_path / "secret.png"
    shutil.copy(folder / names(folder)[0], secret)
    (folder / "link.png").symlink_to(secret)
    (folder / "link.txt").symlink_to("/etc/hostname")
    (folder / "txt.png").write_bytes(secret.read_bytes())
    (folder / "txt.txt").symlink_to("/etc/hostname")
    with ExitStack() as stack:
        address = stack.enter_context(serving(folder, cache=tmp_path / "cache", fork_server=review_fork_server))
        connection = stack.enter_context(closing(http.client.HTTPConnection(urlsplit(address).netloc)))

        def get(path: str) -> tuple[int, str, bytes]:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()

        for path in ODD_PATHS:
            status, kind, body = get(path)
            assert status in (404, 422) and b"root:" not in body and not kind.startswith("image/"), path
        numbers = {name: number for number, name in enumerate(names(folder))}
        assert get(f"/picture/{numbers['txt.png']}") == (200, "image/png", secret.read_bytes())
        for kind in ("picture", "thumb"):
            status, _, body = get(f"/{kind}/{numbers['link.png']}")
            assert status == 422 and b"outside the folder" in body
        (folder / "txt.png").unlink()
        (folder / "txt.png").symlink_to("/etc/passwd")
        status, _, body = get(f"/picture/{numbers['txt.png']}")
        assert status == 422 and b"root:" not in body
        reader = KeyboardUser(browser, address)
        host = Path("/etc/hostname").read_text()
        reader.press("End")
        reader.is_at("txt.png")
        expect(reader.find(".fault")).to_contain_text("outside the folder")
        expect(reader.box).not_to_be_editable()
        assert host.strip() not in reader.box.input_value()
        reader.press("a", "d")
        assert Path("/etc/hostname").read_text() == host and (folder / "txt.png").is_symlink()
        reader.close()


@pytest.mark.long
def test_beyond_this_machine_there_is_a_token(folder, browser, tmp_path, review_fork_server):
    with serving(folder, "--host", "127.0.0.1", cache=tmp_path / "cache", fork_server=review_fork_server) as address:
        bare = address.partition("?")[0]
        stranger = browser.new_context(base_url=bare)
        assert {stranger.request.get(path).status for path in ("/", "/picture/0", "/_nicegui_ws/socket.io/")} == {403}
        stranger.close()
        reader = KeyboardUser(browser, address)
        assert reader.page.url == bare
        [cookie] = reader.context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["value"] not in address
        reader.write("Written with a token.")
        reader.press("Enter")
        expect(reader.find("text=/^saved/")).to_be_visible()
        reader.close()


@pytest.mark.long
def test_a_page_of_another_site_reaches_nothing(folder, browser, tmp_path, review_fork_server):
    """From another port of this machine, whose cookies are ours: by script, by picture, by websocket."""
    with (
        serving(folder, cache=tmp_path / "a", fork_server=review_fork_server) as address,
        serving(folder, cache=tmp_path / "b", fork_server=review_fork_server) as other,
    ):
        reader = KeyboardUser(browser, other)
        assert reader.page.evaluate(REACH, other) == ["fetched", "socket", "image"]  # its own server
        assert reader.page.evaluate(REACH, address) == ["", "", ""]
        reader.close()


REACH = """async (address) => {
    const socket = new WebSocket(address.replace("http", "ws") + "_nicegui_ws/socket.io/?EIO=4&transport=websocket");
    const image = new Image();
    image.src = address + "picture/0";
    return await Promise.all([
        fetch(address, { mode: "no-cors", credentials: "include" }).then(() => "fetched", () => ""),
        new Promise((done) => { socket.onmessage = () => done("socket"); socket.onerror = () => done(""); }),
        new Promise((done) => { image.onload = () => done("image"); image.onerror = () => done(""); }),
    ]);
}"""
