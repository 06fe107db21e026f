"""Measures the review page with many files: time to the first thumbnails and to the end of the list, memory.

    python -m benchmarks.review [--items 20000] [--folder DIR]

Prints one JSON object. Requires chromium and the extras `review` and `test`. With --folder, the drawn images and
captions are kept and used again.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from random import Random

import psutil
from PIL import Image

from gemma_captioner.dataset import sidecar
from gemma_captioner.dataset.journal import Journal, new_run_id
from gemma_captioner.demo.drawing import draw, random_scene
from tests.support.review_server import chromium, serving

_SIZE = (768, 512)
_SEEN = """() => [...document.querySelectorAll('.tile img')].filter(image => {
    const at = image.getBoundingClientRect();
    return at.top < innerHeight && at.bottom > 0;
})"""
_ALL_LOADED = f"() => {{ const seen = ({_SEEN})(); return seen.length > 10 && seen.every(i => i.naturalWidth > 0); }}"


def make(folder: Path, items: int) -> None:
    """Draw images of 768 x 512 pixels, with captions of a few sentences and a journal, as a run writes them."""
    rng = Random(1)
    journal = Journal(new_run_id(), {"version": "benchmark", "settings": {}})
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(items):
        scene = random_scene(rng, clip=False)
        path = folder / f"{number:05d}.jpg"
        Image.fromarray(draw(scene)[0]).resize(_SIZE).save(path, quality=85)
        caption = " ".join([scene.caption, *(random_scene(rng, clip=True).caption for _ in range(4))]).encode()
        path.with_suffix(".txt").write_bytes(caption)
        line = {
            "kind": "caption", "path": path.name, "caption_file": f"{path.stem}.txt", "digest": sidecar.digest(caption),
            "recipe": "", "replaced": None, "prompts": ["Describe it."], "flags": [] if number % 17 else ["too_long"],
            "raw": [caption.decode()], "captions": [caption.decode()], "model": "benchmark",
        }  # fmt: skip
        journal.append(folder, line, sync=False)
    journal.close()


def measure(folder: Path, items: int, cache: Path) -> dict[str, float]:
    began = time.monotonic()
    with serving(folder, cache=cache) as address, chromium() as browser:
        found = {"items": items, "server_start_s": time.monotonic() - began}
        page = browser.new_page(viewport={"width": 1280, "height": 720})

        def until(condition: str, name: str) -> None:
            page.wait_for_function(condition, timeout=60_000)
            found[name] = time.monotonic() - began

        began = time.monotonic()
        page.goto(address)
        until(_ALL_LOADED, "first_thumbnails_s")
        began = time.monotonic()
        page.keyboard.press("End")
        until(f"() => document.querySelector('.detail .name').textContent === '{items - 1:05d}.jpg'", "end_shown_s")
        until(f"() => document.querySelector('#tile-{items - 1}') && ({_ALL_LOADED})()", "end_thumbnails_s")
        began = time.monotonic()
        page.keyboard.press("j")
        page.keyboard.press("k")
        until(f"() => document.querySelector('.detail .name').textContent === '{items - 2:05d}.jpg'", "next_item_s")
        began = time.monotonic()
        page.keyboard.press("/")
        page.keyboard.type("purple star on a black")
        until(f"() => !document.querySelector('.counts').textContent.includes('of {items:,}')", "search_s")
        found["images_in_page"] = page.evaluate("document.querySelectorAll('.tile img').length")
        found["page_mib"] = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
        [server] = [child for child in psutil.Process().children() if "review" in child.cmdline()]
        found["server_mib"] = server.memory_info().rss / 2**20
    return {name: round(value, 2) for name, value in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary) / "media"
        if not folder.exists():
            make(folder, chosen.items)
        print(json.dumps(measure(folder, chosen.items, Path(temporary) / "cache"), indent=2))
