"""Clips: each frame carries its own number, so that a test can read which frame it got."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gemma_captioner.errors import ItemError
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip
from tests.support.clips import frame_number, numbered_frame, set_display_matrix, write


def remux(path: Path, target: Path, movflags: str) -> Path:
    """The same packets in another mp4."""
    with av.open(str(path)) as source, av.open(str(target), "w", options={"movflags": movflags}) as to:
        stream = to.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                to.mux(packet)
    return target


def decoded(path: Path, frames: int = 12, rule: str = "midpoints", **sampling):
    got = decode_clip(path, (160, 64), DecodeSettings(frames=frames, sampling=rule, **sampling))
    return [frame_number(f) for f in got.pixels], got


CONTAINERS = [
    ("libx264", "mp4"), ("libx264", "mov"), ("libx264", "mkv"), ("libx264", "m4v"), ("libx265", "mp4"),
    ("libx265", "mkv"), ("libvpx-vp9", "webm"), ("libvpx-vp9", "mp4"), ("libvpx", "webm"), ("libsvtav1", "mkv"),
    ("libsvtav1", "mp4"), ("mpeg4", "avi"), ("mpeg4", "mp4"), ("mjpeg", "mov"), ("mjpeg", "avi"), ("prores_ks", "mov"),
    ("mpeg2video", "mpeg"), ("libx264", "avi"),
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


@pytest.mark.parametrize(
    ("codec", "container"), [("mpeg2video", "mpg"), ("libx264", "ts"), ("libx264", "mkv"), ("libx264", "avi")]
)
def test_a_long_clip_in_containers_that_seek_by_guess(tmp_path, codec, container):
    path = write(tmp_path / f"long.{container}", list(range(960)), gop=50, codec=codec)
    if container == "ts":
        path = path.rename(tmp_path / "long.mpg")  # by content, not by name
    assert decoded(path, frames=6)[0] == [80, 240, 400, 560, 720, 880]


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
    with pytest.raises(ItemError, match=r"(?i)replace or remove it"):
        decoded(path)


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ItemError, match="has no video"):
        decoded(path)


# The part of the clip


@pytest.mark.parametrize(
    ("span", "wanted"),
    [
        ("whole", [12, 36, 60, 84]),
        ("head:2", [6, 18, 30, 42]),
        ("middle:2", [30, 42, 54, 66]),
        ("1-3", [30, 42, 54, 66]),
        ("head:60", [12, 36, 60, 84]),
        ("3-60", [75, 81, 87, 93]),
    ],
)
def test_spans(tmp_path, span, wanted):
    path = write(tmp_path / "clip.mp4", list(range(96)))
    numbers, got = decoded(path, frames=4, span=span)
    assert numbers == wanted
    assert got.duration_s == pytest.approx(4, abs=0.01)


def test_a_span_after_the_end_fails(tmp_path):
    with pytest.raises(ItemError, match=r"outside this clip of 2\.00 s"):
        decoded(write(tmp_path / "clip.mp4", list(range(48))), span="3-4")


def test_frames_a_second_with_a_cap(tmp_path):
    path = write(tmp_path / "clip.mp4", list(range(96)))
    assert len(decoded(path, frames=12, fps=2)[0]) == 8
    assert len(decoded(path, frames=5, fps=2)[0]) == 5
    assert len(decoded(path, frames=12, fps=0.1)[0]) == 1


# What a person sees


CORNERS = np.zeros((64, 160, 3), np.uint8)
CORNERS[:32, :80], CORNERS[:32, 80:], CORNERS[32:, :80], CORNERS[32:, 80:] = 255, 170, 85, 0


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ((1, 0, 0, 1), CORNERS),
        ((0, 1, -1, 0), np.rot90(CORNERS, -1)),  # a quarter turn clockwise, as phones held upright write
        ((-1, 0, 0, -1), np.rot90(CORNERS, 2)),
        ((0, -1, 1, 0), np.rot90(CORNERS, 1)),
        ((-1, 0, 0, 1), CORNERS[:, ::-1]),
        ((1, 0, 0, -1), CORNERS[::-1]),
        ((0, 1, 1, 0), CORNERS.transpose(1, 0, 2)),
        ((0, -1, -1, 0), np.rot90(CORNERS, 2).transpose(1, 0, 2)),
    ],
)
def test_every_orientation(tmp_path, matrix, seen):
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(CORNERS, format="rgb24")))
        container.mux(stream.encode())
    height, width = seen.shape[:2]
    got = decode_clip(set_display_matrix(path, matrix), (width, height), DecodeSettings())
    assert np.abs(got.pixels[0].astype(int) - seen).mean() < 4


def flat(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((64, 160, 3), color, np.uint8)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le", "yuvj420p"])
@pytest.mark.parametrize("color", [(200, 60, 40), (30, 160, 90), (255, 255, 255), (0, 0, 0)])
def test_colors_survive(tmp_path, pix_fmt, color):
    path = tmp_path / "color.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 160, 64, pix_fmt
        container.mux(stream.encode(av.VideoFrame.from_ndarray(flat(color), format="rgb24")))
        container.mux(stream.encode())
    got = decode_clip(path, (64, 64), DecodeSettings())
    assert np.abs(got.pixels.mean(axis=(0, 1, 2)) - color).max() < 4


def srgb_to_linear(color) -> np.ndarray:
    c = np.array(color) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def pq(nits):
    y = (np.asarray(nits) / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(nits):
    """Gray on a display of 1000 nits -> signal."""
    e = (np.asarray(nits) / 1000) ** (1 / 1.2)
    return np.where(
        e <= 1 / 12, np.sqrt(3 * e), 0.17883277 * np.log(np.maximum(12 * e - 0.28466892, 1e-9)) + 0.55991073
    )


def hdr_clip(path: Path, signal: np.ndarray, trc: int) -> Path:
    """One flat color, R'G'B' `signal` 0..1 in BT.2020, as 10-bit HEVC."""
    kr, kb = 0.2627, 0.0593
    r, g, b = signal
    y = kr * r + (1 - kr - kb) * g + kb * b
    planes = [64 + 876 * y, 512 + 896 * (b - y) / (2 * (1 - kb)), 512 + 896 * (r - y) / (2 * (1 - kr))]
    frame = av.VideoFrame(160, 64, "yuv420p10le")
    for plane, value in zip(frame.planes, planes, strict=True):
        plane.update(np.full(plane.buffer_size // 2, round(value), "<u2").tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=24, options={"x265-params": "log-level=none:lossless=1"})
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p10le"
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, trc
        stream.codec_context.colorspace = 9
        frame.colorspace, frame.color_trc, frame.color_primaries = 9, trc, 9
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


SKIN, TO_2020 = (
    (224, 172, 105),
    np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]),
)


@pytest.mark.parametrize("color", [SKIN, (92, 51, 23), (128, 128, 128), (30, 60, 110)])
def test_pq_keeps_a_face_a_face(tmp_path, color):
    light = TO_2020 @ srgb_to_linear(color) * 203
    got = decode_clip(hdr_clip(tmp_path / "pq.mkv", pq(light), 16), (64, 64), DecodeSettings())
    assert np.abs(got.pixels.mean(axis=(0, 1, 2)) - color).max() < 8


@pytest.mark.parametrize(("transfer", "trc"), [(pq, 16), (hlg, 18)])
def test_hdr_grays_rise_and_highlights_do_not_clip(tmp_path, transfer, trc):
    grays = []
    for number, nits in enumerate([5, 50, 100, 203, 400, 1000]):
        path = hdr_clip(tmp_path / f"{number}.mkv", np.full(3, float(transfer(nits))), trc)
        pixels = decode_clip(path, (32, 32), DecodeSettings()).pixels
        assert np.ptp(pixels.mean(axis=(0, 1, 2))) < 4  # gray stays gray
        grays.append(pixels.mean())
    assert grays == sorted(grays)
    expected = 255 * (1.055 * (100 / 203) ** (1 / 2.4) - 0.055)
    assert grays[2] == pytest.approx(expected, abs=6)
    assert grays[3] > 225 and grays[5] < 256 and grays[5] - grays[3] > 8


def test_alpha_is_laid_on_the_background(tmp_path):
    path = tmp_path / "alpha.mov"
    drawn = np.zeros((64, 160, 4), np.uint8)
    drawn[:, 80:] = (255, 0, 0, 255)  # left half transparent, black beneath
    with av.open(str(path), "w") as container:
        stream = container.add_stream("prores_ks", rate=24, options={"profile": "4"})
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuva444p10le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgba")))
        container.mux(stream.encode())
    for background, color in (("white", (255, 255, 255)), ("#00ff00", (0, 255, 0))):
        pixels = decode_clip(path, (160, 64), DecodeSettings(background=background)).pixels[0]
        assert np.abs(pixels[:, :70].mean(axis=(0, 1)) - color).max() < 6
        assert np.abs(pixels[:, 90:].mean(axis=(0, 1)) - (255, 0, 0)).max() < 6


def test_webm_alpha(tmp_path):
    path = tmp_path / "alpha.webm"
    drawn = np.zeros((64, 160, 4), np.uint8)
    drawn[:, 80:] = (255, 0, 0, 255)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuva420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgba")))
        container.mux(stream.encode())
    got = decode_clip(path, (160, 64), DecodeSettings(frames=3))
    assert len(got.times_s) == 3
    assert got.pixels[0][:, :70].min() > 240
    assert np.abs(got.pixels[0][:, 90:].mean(axis=(0, 1)) - (255, 0, 0)).max() < 12


def test_interlaced_shows_one_moment(tmp_path):
    woven = np.zeros((64, 160, 3), np.uint8)
    woven[::2, :80], woven[1::2, 80:] = 255, 255  # a white block that jumps from left to right between the fields
    path = tmp_path / "interlaced.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1", "x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv444p"
        stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        container.mux(stream.encode(av.VideoFrame.from_ndarray(woven, format="rgb24")))
        container.mux(stream.encode())
    pixels = decode_clip(path, (160, 64), DecodeSettings()).pixels[0]
    assert pixels[:, 10:70].min() > 200 and pixels[:, 90:150].max() < 55


def test_open_gop_and_b_frames(tmp_path):
    options = {"x264-params": "open-gop=1:bframes=3:scenecut=0:min-keyint=24"}
    path = write(tmp_path / "open.mkv", list(range(480)), gop=24, options=options)
    for wanted in (3, 5, 7):
        numbers, _ = decoded(path, frames=wanted)
        assert numbers == [int((i + 0.5) * 480 / wanted) for i in range(wanted)]


def test_an_edit_list_that_drops_the_beginning(tmp_path):
    """A cut without re-encoding keeps the keyframe before the cut and hides what lies between by an edit list."""
    whole = write(tmp_path / "whole.mp4", list(range(96)), gop=96, options={"bf": "0"})
    path = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            shift = int(1 / packet.time_base)  # a second earlier: the first 24 frames get negative times
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
            target.mux(packet)
    with av.open(str(path)) as container:
        shown = [frame_number(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    numbers, got = decoded(path, frames=4)
    assert set(numbers) <= set(shown) and len(numbers) == 4
    assert got.times_s[0] >= 0 and got.duration_s == pytest.approx(len(shown) / 24, abs=0.05)


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(1), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(ItemError, match=r"cannot read this video|no readable video|has no video"):
        decoded(path)


def test_a_cut_file_gives_what_it_has_and_says_so(tmp_path):
    whole = write(tmp_path / "whole.mkv", list(range(240)))
    content = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(content[: len(content) * 3 // 4])
    numbers, got = decoded(cut, frames=8)
    assert got.flags == ("partial_video",)
    assert numbers == [15, 45, 75, 105, 135, 165][: len(numbers)] and 4 <= len(numbers) < 8
    cut.write_bytes(content[: len(content) // 3])
    with pytest.raises(ItemError, match="truncated"):
        decoded(cut, frames=8)
    faststart = write(tmp_path / "fast.mp4", list(range(240)))
    content = remux(faststart, tmp_path / "f.mp4", "faststart").read_bytes()
    (tmp_path / "f.mp4").write_bytes(content[: len(content) * 3 // 4])
    numbers, got = decoded(tmp_path / "f.mp4", frames=8)
    assert got.flags == ("partial_video",) and 4 <= len(numbers) < 8


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize(("codec", "container"), [("libx264", "ts"), ("mpeg2video", "mpg")])
@pytest.mark.parametrize("starts", [(2400, 0), (0, 0)])
def test_recordings_joined_end_to_end_are_one(tmp_path, codec, container, starts):
    """The clock is set anew in the middle: what comes after it comes after it."""
    parts = []
    for number, start in enumerate(starts):
        part = tmp_path / f"part{number}.{container}"
        with av.open(str(part), "w") as target:
            stream = target.add_stream(codec, rate=24, options={"g": "12"})
            stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
            for i in range(96):
                frame = av.VideoFrame.from_ndarray(numbered_frame(96 * number + i), format="rgb24")
                frame.pts, frame.time_base = start + i, Fraction(1, 24)
                target.mux(stream.encode(frame))
            target.mux(stream.encode())
        parts.append(part)
    numbers, got = decoded(joined(tmp_path / "both.mpg", *parts), frames=8)
    assert np.abs(np.array(numbers) - [12, 36, 60, 84, 108, 132, 156, 180]).max() <= 1
    assert got.duration_s == pytest.approx(8, abs=0.1) and got.flags == ()


def test_moments_that_are_told_twice_count_once(tmp_path):
    path = write(tmp_path / "twice.mkv", list(range(50)), rate=2000, codec="mjpeg")  # Matroska counts milliseconds
    numbers, got = decoded(path, frames=100)
    assert got.flags == () and len(numbers) == len(set(got.times_s))


def test_a_fragmented_file_that_breaks_off_early_says_so(tmp_path):
    path = write(tmp_path / "whole.mp4", list(range(50)), gop=50)
    content = remux(path, tmp_path / "fragments.mp4", "frag_keyframe+empty_moov").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 3 // 10])
    with pytest.raises(ItemError, match=r"truncated|cannot read this video|no readable video"):
        decoded(tmp_path / "cut.mp4")


def test_a_playlist_does_not_open_other_files(tmp_path):
    write(tmp_path / "other.mp4", list(range(3)))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(ItemError, match="cannot read this video"):
        decoded(tmp_path / "list.mp4")


def test_a_large_file_is_read_by_its_index(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", list(range(48)))
    by_packets, got = decoded(path, frames=6)
    monkeypatch.setattr("gemma_captioner.media.video._MAX_FULL_SCAN_BYTES", 0)
    assert decoded(path, frames=6)[0] == by_packets
    assert decoded(path, frames=6)[1].duration_s == pytest.approx(got.duration_s, abs=1e-3)


def test_wide_gamut_without_high_dynamic_range_is_brought_to_srgb(tmp_path):
    color = (180, 90, 60)
    wide = np.clip(TO_2020 @ srgb_to_linear(color), 0, 1)
    signal = np.where(wide <= 0.0031308, 12.92 * wide, 1.055 * wide ** (1 / 2.4) - 0.055) * 255
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=24, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        stream.codec_context.color_primaries = 9
        pixels = np.full((64, 64, 3), np.rint(signal), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    got = decode_clip(path, (64, 64), DecodeSettings()).pixels.mean(axis=(0, 1, 2))
    assert np.abs(got - color).max() < 3


@pytest.mark.parametrize(
    ("pix_fmt", "shape"), [("yuv420p", (1280, 720)), ("yuv444p", (320, 240)), ("yuv420p", (64, 64))]
)
def test_converting_and_resizing_at_once_is_within_a_level(tmp_path, pix_fmt, shape):
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (shape[1] // 8, shape[0] // 8, 3), np.uint8))
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = *shape, pix_fmt
        container.mux(stream.encode(av.VideoFrame.from_image(coarse.resize(shape))))
        container.mux(stream.encode())
    for size in ((64, 64), (896, 896)):
        once = decode_clip(path, size, DecodeSettings()).pixels.astype(int)
        exact = decode_clip(path, size, DecodeSettings(exact_pixels=True)).pixels
        assert np.abs(once - exact).mean() < 1


@pytest.mark.parametrize(("codec", "container"), [("libx264", "mp4"), ("libx265", "mp4"), ("libsvtav1", "mkv")])
def test_ten_bits_and_high_dynamic_range_give_the_right_frames(tmp_path, codec, container):
    options = {"x265-params": "colorprim=9:transfer=16:colormatrix=9:log-level=none"} if codec == "libx265" else {}
    path = write(
        tmp_path / f"deep.{container}", list(range(96)), codec=codec, pix_fmt="yuv420p10le", options=options, gop=48
    )
    assert decoded(path, frames=8)[0] == [6, 18, 30, 42, 54, 66, 78, 90]
