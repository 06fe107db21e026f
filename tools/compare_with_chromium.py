"""Compares what we decode with what headless Chromium shows: every image of a folder, each in a decoder process.

python -m tools.compare_with_chromium FOLDER
python -m tools.compare_with_chromium FOLDER --sheet differences.html --json results.json

It reports the files that we refuse and Chromium shows, and those whose mean difference is above 4 of 255. The first
frame stands for an animated image, as in a browser's canvas. It shows no TIFF and no HEIC: these are only decoded.
"""

import argparse
import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Error, sync_playwright

from gemma_captioner.dataset.discover import EXTENSIONS
from gemma_captioner.media.decode import decode
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.workers import GIB, WorkerPool
from gemma_captioner.types import Failed, MediaItem, Pixels
from tools.browsers import find_browser

LIMIT = 4.0  # mean difference in levels of 0 to 255
MAX_EDGE = 1024  # larger images are compared at this size, and again at full size if they differ
FUZZED = re.compile(r"fuzz|crash|oom|corpus/|timeout-|minimized|imagetestsuite", re.IGNORECASE)
PAGE = "https://compare.test/"
# A browser fires `load` when the header can be read, and then shows the rows that it could decode.
RENDER = """async ([url, maxEdge]) => {
  const image = new Image();
  const loaded = await new Promise(resolve => {
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
    image.src = url;
  });
  if (!loaded || !image.naturalWidth) return null;
  const scale = Math.min(1, maxEdge / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let rows = 0;
  for (let y = 0; y < canvas.height; y++)
    for (let x = 0; x < canvas.width; x++)
      if (data[4 * (y * canvas.width + x) + 3]) { rows++; break; }
  const blob = await (await fetch(url)).blob();
  const whole = await createImageBitmap(blob).then(() => true, () => false);
  context.globalCompositeOperation = 'destination-over';
  context.fillStyle = 'white';
  context.fillRect(0, 0, canvas.width, canvas.height);
  return {size: [image.naturalWidth, image.naturalHeight], shown: rows / canvas.height, whole,
          png: canvas.toDataURL('image/png').split(',')[1]};
}"""


@dataclass
class Comparison:
    """One file. difference: mean, in levels; None if there is nothing to compare."""

    name: str
    error: str | None  # why we refuse it
    shown: bool  # by Chromium
    difference: float | None = None
    whole: bool = True  # Chromium decodes all of it
    flags: tuple[str, ...] = ()
    sizes: str = ""  # ours and Chromium's, where they differ
    fuzzed: bool = False  # a mutated file, by its path

    @property
    def refused(self) -> bool:
        return self.error is not None and self.shown

    @property
    def differs(self) -> bool:
        return self.difference is not None and self.difference > LIMIT


@dataclass(frozen=True)
class Rendered:
    pixels: Pixels  # uint8 [height, width, 3], on white
    size: tuple[int, int]  # (width, height) before it was reduced
    whole: bool


Renderer = Callable[[Path, int], Rendered | None]


@contextmanager
def chromium_renderer() -> Iterator[Renderer]:
    """Yield a function that renders (path, longest edge); it returns None if Chromium does not show the file."""
    current: list[Path] = []
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=flags)
        context = browser.new_context()
        number = 0

        def answer(route: Any) -> None:
            if route.request.url == PAGE:
                route.fulfill(body="<!DOCTYPE html>", content_type="text/html")
            else:
                route.fulfill(body=current[0].read_bytes(), content_type="application/octet-stream")

        context.route("**/*", answer)
        page = context.new_page()
        page.goto(PAGE)

        def render(path: Path, max_edge: int) -> Rendered | None:
            nonlocal number, page
            number += 1
            current[:] = [path]
            try:
                got = page.evaluate(RENDER, [f"{PAGE}{number}", max_edge])
            except Error:  # the page crashed
                page = context.new_page()
                page.goto(PAGE)
                return None
            if got is None or (got["shown"] == 0 and not got["whole"]):
                return None
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(got["png"]))).convert("RGB"))
            return Rendered(pixels, tuple(got["size"]), got["whole"])

        yield render
        browser.close()


def compare(paths: list[Path], base: Path, thumbnail: Callable[[Comparison, Any, Any], None]) -> list[Comparison]:
    """Decode and render each file. thumbnail: receives each comparison with both pictures (arrays or None)."""
    settings = DecodeSettings(animated="first", exact_pixels=True, frames=1)
    comparisons = []
    workers = WorkerPool(1, 4 * GIB, settings.timeout_s)

    def ours(path: Path, size: tuple[int, int]) -> Any:
        item = MediaItem(path, "image", path.name, path.with_suffix(".txt"), path.parent)
        try:
            return workers.start(decode, item, size, settings).result()
        except Exception as error:
            return Failed(item, f"the decoder crashed ({type(error).__name__})")

    with chromium_renderer() as render:
        for path in paths:
            theirs = render(path, MAX_EDGE)
            frames = ours(path, theirs.pixels.shape[1::-1] if theirs else (256, 256))
            failed = isinstance(frames, Failed)
            done = Comparison(str(path.relative_to(base)), frames.error if failed else None, theirs is not None)
            done.fuzzed = FUZZED.search(done.name) is not None
            if not failed:
                done.flags = frames.flags
            if theirs and not failed:
                done.whole = theirs.whole
                done.difference = mean_difference(frames.pixels[0], theirs.pixels)
                if done.difference > LIMIT and max(theirs.size) > MAX_EDGE:  # two ways to reduce may differ
                    full = render(path, 1 << 14)
                    if full is not None and not isinstance(again := ours(path, full.size), Failed):
                        done.difference = mean_difference(again.pixels[0], full.pixels)
                if frames.source_size != theirs.size:
                    done.sizes = " and ".join(f"{w} x {h}" for w, h in (frames.source_size, theirs.size))
            comparisons.append(done)
            thumbnail(done, None if failed else frames.pixels[0], theirs.pixels if theirs else None)
    workers.close()
    return comparisons


def mean_difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


class Sheet:
    """Collects the pictures that differ, side by side."""

    def __init__(self) -> None:
        self._rows: list[str] = []

    def add(self, done: Comparison, ours: Any, theirs: Any) -> None:
        if done.refused or done.differs:
            says = done.error or f"mean difference {done.difference:.1f}"
            pictures = "".join(f"<td>{_picture(pixels)}</td>" for pixels in (ours, theirs))
            self._rows.append(f"<tr><td>{escape(done.name)}<br>{escape(says)}</td>{pictures}</tr>")

    def write(self, path: Path) -> None:
        head = "<!DOCTYPE html><meta charset=utf-8><title>Ours and Chromium's</title><table border=1>"
        rows = "".join(self._rows)
        path.write_text(f"{head}<tr><th>File<th>Ours<th>Chromium's</tr>{rows}</table>", encoding="utf-8")


def _picture(pixels: Any) -> str:
    if pixels is None:
        return "-"
    image = Image.fromarray(pixels)
    image.thumbnail((256, 256))
    image.save(file := io.BytesIO(), "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def reason(error: str) -> str:
    """The error without the library's words, which differ from file to file."""
    return re.sub(r"\s*\(.*?\)(?=:)", "", error).split(":")[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path, help="write an HTML page with the pictures that differ")
    parser.add_argument("--json", type=Path, help="write one record for each file")
    given = parser.parse_args()
    base = given.folder
    paths = sorted(p for p in base.rglob("*") if p.is_file() and EXTENSIONS.get(p.suffix.lower()[1:]) == "image")
    sheet = Sheet()
    comparisons = compare(paths, base, sheet.add)
    if given.sheet:
        sheet.write(given.sheet)
    if given.json:
        given.json.write_text(json.dumps([asdict(done) for done in comparisons], indent=1), encoding="utf-8")
    decoded = [done for done in comparisons if done.error is None]
    compared = [done for done in comparisons if done.difference is not None]
    refused = [done for done in comparisons if done.refused]
    different = [done for done in comparisons if done.differs]
    print(
        f"{len(comparisons)} files, {len(decoded)} decoded, {len(compared)} compared, {len(different)} differ, "
        f"{len(refused)} refused though shown ({sum(done.fuzzed for done in refused)} of them mutated)"
    )
    for done in refused:
        print(f"refused  {done.name}: {done.error}")
    for done in different:
        print(f"differs  {done.name}: {done.difference:.1f} {done.sizes} {' '.join(done.flags)}")
    for text, count in Counter(reason(done.error) for done in comparisons if done.error).most_common():
        print(f"{count:6d}  {text}")


if __name__ == "__main__":
    main()
