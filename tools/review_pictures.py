"""The review page's screenshots in docs/: drawn media with captions good and bad, light and dark, at 1280 x 720.

    python tools/review_pictures.py [FOLDER]      (default docs/review)

Wants chromium and the extras `review` and `test`.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from playwright.sync_api import Browser, Page, expect

from gemma_captioner import caption
from gemma_captioner.demo.samples import draw_samples
from review_server import chromium, serving

_BAD = {
    2: "I'm sorry, but I cannot help with describing this image.",
    5: "A red circle, a red circle, a red circle, a red circle, a red circle, a red circle.",
    9: "Ein blauer Kreis liegt auf einem gelben Hintergrund, und nichts bewegt sich.",
    12: "star",
}
_TALL, _WIDE = {"width": 820, "height": 1180}, {"width": 1280, "height": 720}
# What each shows: its name, the keys that lead there, and what is to be seen by then.
_SHOTS: dict[str, tuple[Sequence[str], str]] = {
    "captions": (("End", "k", "k", "i"), ".frame-time"),
    "flagged": (("f",), ".detail .flag"),
    "again": (("Home",), ".offer"),
    "bulk": (("Control+a", "b", "write:on a", "Tab", "write:before a"), ".sheet .part-new"),
    "overview": (("Home", "2"), ".chart"),
    "run": (("Home", "3"), ".newest li"),
    "help": (("?",), ".help dd"),
}


def dataset(folder: Path) -> None:
    truth = draw_samples(folder, images=30, clips=18, seed=23)
    list(caption(folder, model="demo"))
    names = sorted(truth)
    for number, text in _BAD.items():
        (folder / names[number]).with_suffix(".txt").write_text(text, encoding="utf-8")


def prepare(page: Page) -> None:
    """Some are decided, one is captioned again."""
    page.keyboard.press("Home")
    for key in "aaarjaaaa":
        page.keyboard.press(key)
    page.keyboard.press("Home")
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("A circle, red, before something blue.")
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    page.locator(".do-again").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".run-line")).to_contain_text("finished", timeout=60_000)
    page.keyboard.press("Escape")


def shoot(browser: Browser, address: str, to: Path, scheme: str) -> None:
    for name, (keys, seen) in _SHOTS.items():
        page = browser.new_page(viewport=_WIDE, color_scheme=scheme)
        _take(page, address, keys, seen, to / f"{name}-{scheme}.png")
    tablet = browser.new_page(viewport=_TALL, color_scheme=scheme)
    _take(tablet, address, ("End", "k"), ".frame-time", to / f"tablet-{scheme}.png")


def _take(page: Page, address: str, keys: Sequence[str], seen: str, to: Path) -> None:
    page.goto(address)
    expect(page.locator(".tile.current")).to_be_visible()
    for key in keys:
        if key.startswith("write:"):
            page.keyboard.type(key.removeprefix("write:"))
        else:
            page.keyboard.press(key)
        page.wait_for_timeout(400)  # what a key leads to, before the next
    expect(page.locator(seen).first).to_be_visible()
    page.wait_for_timeout(1500)  # pictures
    page.screenshot(path=to)
    page.close()


def main(to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        folder = Path(temporary) / "garden walk"
        dataset(folder)
        with serving(folder, "--model", "demo", "--target", "sdxl", cache=Path(temporary)) as address:
            page = browser.new_page(viewport=_WIDE)
            page.goto(address)
            expect(page.locator(".tile.current")).to_be_visible()
            prepare(page)
            page.close()
            for scheme in ("light", "dark"):
                shoot(browser, address, to, scheme)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "review")
