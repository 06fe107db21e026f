"""Clips: each frame carries its own number, so that a test can read which frame it got."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from gemma_captioner.errors import ItemError
from gemma_captioner.media.video import decode_clip
from gemma_captioner.settings import Sampling

BITS = 10


def numbered(number: int, width: int = 160, height: int = 64) -> np.ndarray:
    """A frame whose upper half shows `number` in binary: white and black fields, left to right."""
    frame = np.full((height, width, 3), 128, np.uint8)
    field = width // BITS
    for bit in range(BITS):
        frame[: height // 2, bit * field : (bit + 1) * field] = 255 if number >> bit & 1 else 0
    return frame


def number_of(frame: np.ndarray) -> int:
    field = frame.shape[1] // BITS
    fields = [frame[2 : frame.shape[0] // 2 - 2, i * field + 2 : (i + 1) * field - 2].mean() for i in range(BITS)]
    return sum(1 << bit for bit, brightness in enumerate(fields) if brightness > 128)


def write(path: Path, times: list[int], *, rate: int = 24, codec: str = "libx264", gop: int = 12) -> Path:
    """A clip of numbered frames; `times`: presentation times in units of 1 / rate seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"g": str(gop)} if codec != "mjpeg" else {})
        stream.width, stream.height = 160, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        for number, pts in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path, frames: int = 12, rule: str = "midpoints"):
    got = decode_clip(path, Sampling(frames=frames, sampling=rule), (160, 64))
    return [number_of(f) for f in got.pixels], got


CONTAINERS = [
    ("libx264", "mp4"), ("libx264", "mov"), ("libx264", "mkv"), ("libx264", "m4v"), ("libx265", "mp4"),
    ("libvpx-vp9", "webm"), ("libvpx", "webm"), ("libsvtav1", "mkv"), ("mpeg4", "avi"), ("mjpeg", "mov"),
    ("mpeg2video", "mpeg"),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "container"), CONTAINERS)
@pytest.mark.parametrize(("rule", "wanted"), [
    ("midpoints", [3, 9, 15, 21, 27, 33, 39, 45]),
    ("index", [0, 6, 12, 18, 24, 30, 36, 42]),
    ("ends", [0, 6, 13, 20, 26, 33, 40, 47]),
])  # fmt: skip
def test_the_frame_on_screen_at_the_wanted_time(tmp_path, codec, container, rule, wanted):
    path = write(tmp_path / f"clip.{container}", list(range(48)), codec=codec)
    numbers, got = decoded(path, frames=8, rule=rule)
    assert numbers == wanted
    assert got.times_s == pytest.approx([n / 24 for n in wanted], abs=0.002)


def test_variable_frame_rate_goes_by_time_and_not_by_number(tmp_path):
    times = [*range(24), 24, 48, 72, 96]  # a second of motion, then four frames of a second each
    numbers, got = decoded(write(tmp_path / "vfr.mp4", times), frames=5)
    assert numbers == [9, 24, 25, 26]  # on screen at 0.40, 1.21, 2.02 and 2.83, 3.64 s
    assert got.times_s == pytest.approx([9 / 24, 1, 2, 3])


def test_a_clip_that_does_not_begin_at_zero(tmp_path):
    path = write(tmp_path / "late.mkv", list(range(240, 288)))
    numbers, got = decoded(path, frames=4)
    assert numbers == [6, 18, 30, 42]
    assert got.times_s[0] == pytest.approx(6 / 24, abs=0.002)


@pytest.mark.parametrize("rule", ["midpoints", "index", "ends"])
@pytest.mark.parametrize("held", [1, 2, 5, 12])
def test_fewer_frames_than_asked_gives_all_of_them(tmp_path, held, rule):
    numbers, _ = decoded(write(tmp_path / "short.mkv", list(range(held))), frames=12, rule=rule)
    assert numbers == list(range(held))


def test_one_frame(tmp_path):
    path = write(tmp_path / "clip.mp4", list(range(48)))
    assert decoded(path, frames=1)[0] == [24]
    assert decoded(path, frames=1, rule="index")[0] == [0]


def test_a_long_clip_is_jumped_through(tmp_path):
    path = write(tmp_path / "long.mp4", list(range(960)), gop=24)
    assert decoded(path, frames=4)[0] == [120, 360, 600, 840]


def test_a_file_that_breaks_off(tmp_path):
    whole = write(tmp_path / "whole.mkv", list(range(240)))
    cut = tmp_path / "cut.mkv"
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 3 // 4])
    numbers, _ = decoded(cut, frames=8)
    assert numbers == sorted(set(numbers)) and len(numbers) >= 4
    cut.write_bytes(content[:200])
    with pytest.raises(ItemError):
        decoded(cut)


@pytest.mark.parametrize("content", [b"", b"junk" * 1000, b"\x00" * 5000])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(ItemError, match="replace or remove it"):
        decoded(path)


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ItemError, match="no video in it"):
        decoded(path)
