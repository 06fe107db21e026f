"""Takes the screenshots of the review page in docs/review/, with drawn media and good and bad captions.

    python -m tools.review_pictures            the screenshots of the docs
    python -m tools.review_pictures FOLDER     all screenshots, light and dark

Requires chromium and the extras `review` and `test`.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from gemma_captioner import caption
from gemma_captioner.demo.samples import draw_samples
from tests.support.review_server import chromium, serving

_BAD = {
    2: "I'm sorry, but I cannot help with describing this image.",
    5: "A red circle, a red circle, a red circle, a red circle, a red circle, a red circle.",
    9: "Ein blauer Kreis liegt auf einem gelben Hintergrund, und nichts bewegt sich.",
    12: "star",
}
_DOCS = Path(__file__).parents[1] / "docs" / "review"
_IN_DOCS = ("captions-dark", "again-light", "overview-light", "run-dark")
_TALL_VIEWPORT, _WIDE_VIEWPORT = {"width": 820, "height": 1180}, {"width": 1280, "height": 720}
# Name -> (keys to press, selector that must be visible then).
_SCREENSHOTS: dict[str, tuple[Sequence[str], str]] = {
    "captions": (("End", "k", "k", "i"), ".frame-time"),
    "flagged": (("f",), ".detail .flag"),
    "again": (("Home",), ".proposal"),
    "bulk": (("Control+a", "b", "write:on a", "Tab", "write:before a"), ".sheet .part-new"),
    "overview": (("Home", "2"), ".chart"),
    "editing": (("Home", "e", "write: and then much more"), ".detail .count"),
    "nothing": (("/", "write:no such thing"), ".stage-state"),
    "help": (("?",), ".help dd"),
    "run": (("Home", "3", "click:.do-start", "await:.newest li >> nth=2", "click:.do-pause"), ".newest li >> nth=2"),
}


def dataset(folder: Path) -> None:
    truth = draw_samples(folder, images=30, clips=18, seed=23)
    names = sorted(truth)
    list(caption(folder, model="demo", exclude=["[23]*"]))
    for number, text in _BAD.items():
        (folder / names[number]).with_suffix(".txt").write_text(text, encoding="utf-8")


def prepare(page: Page) -> None:
    """Decide some items and caption one again."""
    page.keyboard.press("Home")
    for key in "aaarjaaaa":
        page.keyboard.press(key)
    expect(page.locator(".counts")).to_contain_text("7 approved")
    page.keyboard.press("Home")
    expect(page.locator(".caption-editor")).to_be_editable()
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("A circle, red, before something blue.")
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    page.locator(".do-again").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".run-line")).to_contain_text("finished", timeout=60_000)
    page.keyboard.press("Escape")


def take_screenshots(browser: Browser, address: str, to: Path) -> None:
    tablet = {"tablet": (("End", "k"), ".frame-time")}
    taken: set[str] = set()
    for scheme in ("light", "dark"):
        for name, (keys, seen) in (tablet | _SCREENSHOTS).items():
            if to != _DOCS or f"{name}-{scheme}" in _IN_DOCS:
                clicks = name not in taken  # the run starts once and stays paused
                keys = [key for key in keys if clicks or not key.startswith(("click:", "await:"))]
                taken.add(name)
                page = browser.new_page(
                    viewport=_TALL_VIEWPORT if name == "tablet" else _WIDE_VIEWPORT, color_scheme=scheme
                )
                _take_screenshot(page, address, keys, seen, to / f"{name}-{scheme}.png")


def _take_screenshot(page: Page, address: str, keys: Sequence[str], seen: str, to: Path) -> None:
    page.goto(address)
    expect(page.locator(".tile.current")).to_be_visible()
    for key in keys:
        if key.startswith("write:"):
            page.keyboard.type(key.removeprefix("write:"))
        elif key.startswith("click:"):
            page.click(key.removeprefix("click:"), timeout=60_000)
            continue
        elif key.startswith("await:"):
            expect(page.locator(key.removeprefix("await:"))).to_be_visible(timeout=60_000)
            continue
        else:
            page.keyboard.press(key)
        page.wait_for_timeout(400)  # let the page react before the next key
    expect(page.locator(seen).first).to_be_visible(timeout=60_000)
    page.wait_for_timeout(1500)  # images load
    page.screenshot(path=to)
    page.close()


def main(to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        folder = Path(temporary) / "garden walk"
        dataset(folder)
        options = ("--model", "demo", "--target", "sdxl", "--batch-size", "1")
        with serving(folder, *options, cache=Path(temporary)) as address:
            page = browser.new_page(viewport=_WIDE_VIEWPORT)
            page.goto(address)
            expect(page.locator(".tile.current")).to_be_visible()
            prepare(page)
            page.close()
            take_screenshots(browser, address, to)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _DOCS)
