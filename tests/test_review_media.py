"""What a browser is shown of the media, without one: pictures, clips that it can play, the frames a model saw."""

import asyncio
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import Root
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.errors import ItemError
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.review.library import Library
from gemma_captioner.review.media import Media, MediaFile, _LifoSemaphore, _prune
from gemma_captioner.review.page.media_responses import media_response


def clip(path: Path, codec: str, pix_fmt: str = "yuv420p") -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=Fraction(8))
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        for n in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 30 * n, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    draw_samples(folder, images=1, clips=1, seed=7)
    clip(folder / "old.avi", "mpeg4")
    clip(folder / "ten.mp4", "libx264", "yuv420p10le")
    Image.new("RGB", (40, 30), "red").save(folder / "a.tiff")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.mp4").write_bytes(b"no clip")
    (folder / "page.jpg").write_text("<script>alert(1)</script>")
    return folder


@pytest.fixture
def media(folder, tmp_path) -> Iterator[Media]:
    library = Library(Root(folder, folder, folder), Settings())
    library.refresh()
    media = Media(library, DecodeSettings(), 1, tmp_path / "cache")
    media.number = {entry.name: entry.number for entry in library.entries}
    yield media
    media.close()


def codec_of(path: Path) -> tuple[str, str]:
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        return context.name, context.pix_fmt


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_what_a_browser_is_sent(media, folder):
    """Clips that it cannot play as H.264, made once; pictures that it cannot show as JPEG; what is broken told."""

    async def all_of_it() -> None:
        number = media.number
        drawn = next(name for name in number if name[0].isdigit() and name.endswith(".mp4"))
        assert await media.clip(number[drawn]) == MediaFile(folder / drawn, "video/mp4")
        for name in ("old.avi", "ten.mp4"):
            made = await media.clip(number[name])
            assert media.cache in made.path.parents and codec_of(made.path) == ("h264", "yuv420p")
            stamp = made.path.stat().st_mtime_ns
            assert await media.clip(number[name]) == made and made.path.stat().st_mtime_ns == stamp
        made = await media.picture(number["a.tiff"])
        assert made.type == "image/jpeg" and size_of(made.path) == (1600, 1200)
        strip, shown = await media.frame_strip(number["old.avi"], DecodeSettings(frames=4))
        assert len(shown.times_s) == 4
        width, height = size_of(strip.path)
        assert width == 4 * height
        assert (await media.picture(number["page.jpg"])).type == "image/jpeg"  # nosniff: never a page
        broken = media.thumb(number["broken.png"]), media.clip(number["broken.mp4"]), media.thumb(number["page.jpg"])
        for asked in broken:
            with pytest.raises(ItemError, match=r"replace|remove|download it again"):
                await asked
        for asked in (media.thumb(-1), media.picture(99)):
            with pytest.raises(LookupError):
                await asked

    asyncio.run(all_of_it())


def test_a_cache_that_cannot_be_written_is_told(media):
    media.cache.write_text("no folder")
    with pytest.raises(ItemError, match="XDG_CACHE_HOME"):
        asyncio.run(media.thumb(0))
    media.cache.unlink()
    assert asyncio.run(media.thumb(0)).path.exists()


def test_a_strip_that_was_pruned_is_made_again(media):
    """Also if another server pruned a part of it."""

    async def strip() -> object:
        return await media.frame_strip(media.number["old.avi"], DecodeSettings(frames=4))

    made = asyncio.run(strip())
    for file in media.cache.glob("??/*"):
        file.unlink()
        assert asyncio.run(strip()) == made and size_of(made[0].path)[0] > 0


def test_the_oldest_files_are_pruned(tmp_path, monkeypatch):
    """Not what another server has not finished. Some may vanish meanwhile."""
    monkeypatch.setattr("gemma_captioner.review.media._CACHE_BYTES", 15)
    cache = tmp_path / "aa"
    cache.mkdir()
    (cache / ".unfinished.jpg").write_bytes(b"0123456789")
    for age, name in enumerate(["new.jpg", "old.jpg", ".left.jpg"]):
        (cache / name).write_bytes(b"0123456789")
        os.utime(cache / name, (1000 - age, 1000 - age))
    (cache / "vanished.jpg").symlink_to(tmp_path / "nowhere")
    _prune(tmp_path)
    assert {path.name for path in cache.iterdir()} == {"new.jpg", ".unfinished.jpg", "vanished.jpg"}


def test_a_slot_that_was_given_to_a_canceled_waiter_is_passed_on():
    async def main() -> None:
        semaphore = _LifoSemaphore(1)

        async def wait_for_slot() -> None:
            async with semaphore.acquire():
                pass

        async with semaphore.acquire():
            waiting, canceled = (asyncio.create_task(wait_for_slot()) for _ in range(2))
            await asyncio.sleep(0)
        canceled.cancel()  # it is the latest, so it has the slot, but it has not run since
        await asyncio.wait_for(waiting, 5)
        assert canceled.cancelled()

    asyncio.run(main())


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = color if len(color) == 6 else "".join(2 * digit for digit in color)
    parts = (int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [":root", ".body--dark"])
def test_all_text_can_be_read(theme):
    """Contrast of 4.5 to 1, WCAG 2.2 at level AA."""
    css = files("gemma_captioner.review.page").joinpath("review.css").read_text(encoding="utf-8")
    [rule] = re.findall(rf"{re.escape(theme)} {{(.*?)}}", css, re.S)
    colors = {name: luminance(value) for name, value in re.findall(r"--(\w+): #(\w+)", rule)}
    pairs = [(ink, on) for ink in ("ink", "muted", "accent", "good", "bad", "warn") for on in ("ground", "raised")]
    for ink, on in [*pairs, ("ink", "gone"), ("ink", "new")]:
        dark, light = sorted((colors[ink], colors[on]))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, on)


@pytest.mark.parametrize(
    ("wanted", "status", "said", "body"),
    [
        (None, 200, None, b"0123456789"),
        ("bytes=0-", 206, "bytes 0-9/10", b"0123456789"),
        ("bytes=3-5", 206, "bytes 3-5/10", b"345"),
        ("bytes=8-99", 206, "bytes 8-9/10", b"89"),
        ("bytes=10-", 416, "bytes */10", b"no such part"),
        ("bytes=5-3", 416, "bytes */10", b"no such part"),
        ("bytes=-4", 200, None, b"0123456789"),
        ("bytes=0-1,4-5", 200, None, b"0123456789"),
        (f"bytes={10**18}-", 416, "bytes */10", b"no such part"),
        (f"bytes=5-{10**18}", 206, "bytes 5-9/10", b"56789"),
        (f"bytes={'9' * 5000}-", 200, None, b"0123456789"),
        (f"bytes=5-{'9' * 5000}", 200, None, b"0123456789"),
    ],
)
def test_a_file_is_sent_whole_or_in_part_though_it_moves_meanwhile(tmp_path, wanted, status, said, body):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"0123456789")
    answer = media_response(file, "video/mp4", wanted)
    file.rename(tmp_path / "trashed.mp4")
    messages: list[dict] = []

    async def send(message: dict) -> None:
        messages.append(message)

    asyncio.run(answer({"type": "http", "asgi": {"spec_version": "2.4"}}, None, send))
    headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    assert (messages[0]["status"], headers.get("content-range")) == (status, said)
    assert b"".join(message["body"] for message in messages[1:]) == body
    assert int(headers["content-length"]) == len(body)
