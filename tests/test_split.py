"""Long videos cut into clips: at the scenes, whole, named so that they sort, and made once."""

import os
import re
from base64 import b64decode
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemma_captioner.errors import ItemError
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip, read_timeline
from gemma_captioner.split.scenes import split, split_scenes
from gemma_captioner.split.settings import SplitSettings
from tests.support.clips import frame_number, numbered_frame, set_display_matrix, write

STRIP = 16  # rows on top that hold the number: too few for a detector to take for a cut
COLORS = [(200, 30, 30), (30, 160, 40), (40, 60, 200), (220, 200, 40)]


def scenes(path: Path, lengths: list[int], *, gop: int = 250, fps: int = 24) -> Path:
    """Frames numbered through, each scene of its own color below the number; a keyframe at each cut if gop is 0."""
    with av.open(str(path), "w") as container:
        options = {"g": str(gop or 10_000)}
        if path.suffix != ".mpg":
            options |= {"crf": "8", "x264-params": "scenecut=0:open-gop=0"}
        stream = container.add_stream("mpeg2video" if path.suffix == ".mpg" else "libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 320, "yuv420p"
        number = 0
        for scene, length in enumerate(lengths):
            for i in range(length):
                pixels = np.full((320, 160, 3), COLORS[scene % 4], np.uint8)
                pixels[:STRIP] = numbered_frame(number, 160, STRIP)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                if gop == 0 and i == 0:
                    frame.pict_type = av.video.frame.PictureType.I
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode())
    return path


def numbers_in(clip: Path) -> list[int]:
    with av.open(str(clip)) as container:
        return [frame_number(frame.to_ndarray(format="rgb24")[:STRIP]) for frame in container.decode(video=0)]


@pytest.mark.parametrize("detector", ["adaptive", "content"])
@pytest.mark.parametrize("gop", [0, 250])
def test_clips_are_the_scenes(tmp_path, detector, gop):
    video = scenes(tmp_path / "film.mp4", [72, 96, 60], gop=gop)
    clips = list(split(video, tmp_path / "clips", SplitSettings(detector=detector)))
    assert [clip.name for clip in clips] == ["film-0001.mp4", "film-0002.mp4", "film-0003.mp4"]
    assert [numbers_in(clip) for clip in clips] == [[*range(72)], [*range(72, 168)], [*range(168, 228)]]
    assert {p.name for p in (tmp_path / "clips").iterdir()} == {".gemma-captioner", *(c.name for c in clips)}
    records = tmp_path / "clips" / ".gemma-captioner" / "split"
    assert len((records / "film.csv").read_text().splitlines()) == 4
    sheet = (records / "film.html").read_text()
    shown = [b64decode(picture) for picture in re.findall(r"base64,([\w+/=]+)", sheet)]
    assert len({Image.open(BytesIO(picture)).getpixel((20, 130)) for picture in shown}) == 3
    assert all(clip.name in sheet for clip in clips)


def test_what_lies_between_keyframes_is_copied_and_the_rest_encoded(tmp_path):
    video = scenes(tmp_path / "film.mp4", [72, 96, 60], gop=0)
    packets = {bytes(p) for p in av.open(str(video)).demux(video=0)}
    copied, *_ = split(video, tmp_path / "a", SplitSettings(detector="content"))
    assert {bytes(p) for p in av.open(str(copied)).demux(video=0)} <= packets
    cut, *_ = split(video, tmp_path / "b", SplitSettings(detector="none", min="1s", max="1.3s"))
    assert not {bytes(p) for p in av.open(str(cut)).demux(video=0) if p.size} <= packets


def test_long_scenes_are_cut_evenly_and_short_ones_left_out(tmp_path):
    video = scenes(tmp_path / "film.mp4", [240, 24])
    clips = list(split(video, tmp_path / "clips", SplitSettings(min="2s", max="4s")))
    assert [len(numbers_in(clip)) for clip in clips] == [80, 80, 80]


def test_a_turned_video_is_encoded_upright(tmp_path):
    video = set_display_matrix(scenes(tmp_path / "phone.mp4", [60]), (0, 1, -1, 0))
    [clip] = split(video, tmp_path / "clips", SplitSettings(detector="none", max="9s"))
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))
        matrix = frame.side_data.get("DISPLAYMATRIX")
        assert (frame.width, frame.height) == (320, 160) or matrix is not None


@pytest.mark.parametrize("container", ["mkv", "mpg", "avi", "mov"])
def test_every_frame_is_kept_whatever_the_container(tmp_path, container):
    video = scenes(tmp_path / f"film.{container}", [240], gop=48)
    clips = list(split(video, tmp_path / "clips", SplitSettings(detector="none", min="0.5s", max="2s")))
    assert [numbers_in(clip) for clip in clips] == [list(range(a, a + 48)) for a in range(0, 240, 48)]


@pytest.mark.parametrize(("codec", "container", "options"), [
    ("libx265", "mp4", {"x265-params": "open-gop=1:keyint=48:min-keyint=48:scenecut=0:log-level=none"}),
    ("mpeg4", "avi", {"bf": "2", "g": "48"}),
    ("libx264", "mkv", {"x264-params": "open-gop=1:keyint=48:min-keyint=48:scenecut=0"}),
])  # fmt: skip
def test_frames_that_refer_across_the_cut_are_kept(tmp_path, codec, container, options):
    video = write(tmp_path / f"film.{container}", list(range(240)), codec=codec, options=options)
    clips = list(split(video, tmp_path / "clips", SplitSettings(detector="none", min="0.5s", max="2s")))
    with_numbers = []
    for clip in clips:
        with av.open(str(clip)) as opened:
            with_numbers.append([frame_number(f.to_ndarray(format="rgb24")) for f in opened.decode(video=0)])
    assert with_numbers == [list(range(a, a + 48)) for a in range(0, 240, 48)]


def test_clips_of_another_split_are_never_mixed_in(tmp_path):
    video = scenes(tmp_path / "film.mp4", [240])
    list(split(video, tmp_path / "clips", SplitSettings(detector="none")))
    with pytest.raises(ItemError, match="another split of film"):
        list(split(video, tmp_path / "clips", SplitSettings(detector="none", max="3s")))
    other = scenes(tmp_path / "other.mp4", [120]).rename(tmp_path / "film.mp4")
    with pytest.raises(ItemError, match="another split of film"):
        list(split(other, tmp_path / "clips", SplitSettings(detector="none")))


def test_nothing_is_made_twice_and_what_is_missing_is_made(tmp_path):
    video = scenes(tmp_path / "film.mp4", [72, 96, 60])
    clips = list(split(video, tmp_path / "clips", SplitSettings()))
    times = [clip.stat().st_mtime_ns for clip in clips]
    clips[1].unlink()
    again = list(split(video, tmp_path / "clips", SplitSettings()))
    assert again == clips
    assert [c.stat().st_mtime_ns == t for c, t in zip(clips, times, strict=True)] == [True, False, True]


@given(
    st.lists(st.floats(0.05, 60), min_size=1, max_size=8),
    st.floats(0.1, 5),
    st.floats(1, 3),
)
def test_pieces_lie_within_their_scenes_and_bounds(lengths, shortest, factor):
    edges = np.cumsum([0.0, *lengths])
    found = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    segments = split_scenes(found, shortest, shortest * factor)
    assert [p.number for p in segments] == list(range(1, len(segments) + 1))
    for segment in segments:
        assert shortest - 1e-6 <= segment.end - segment.start <= shortest * factor + 1e-6
        assert any(a - 1e-6 <= segment.start and segment.end <= b + 1e-6 for a, b in found)


def test_the_command_and_then_caption(command, tmp_path, script):
    scenes(tmp_path / "film.mkv", [72, 96, 60])
    done = command("split", tmp_path / "film.mkv", "--output", tmp_path / "clips")
    assert done.code == 0, done.err
    assert "3 clips" in done.out
    captioned = command("caption", tmp_path / "clips", "--engine", "scripted", "--model", script(), "--json")
    assert captioned.json["captioned"] == 3
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    bad = command("split", tmp_path / "bad.mp4", tmp_path / "film.mkv", "--output", tmp_path / "clips")
    assert bad.code == 3 and "bad.mp4" in bad.err and "3 clips" in bad.out


def test_open_groups_of_pictures_are_not_copied_with_their_last_frames_broken(tmp_path):
    """Frames before the next keyframe may refer to it: FFmpeg hides that it is gone, and shows something else."""
    video = tmp_path / "open.mp4"
    options = {"x264-params": "open-gop=1:keyint=25:min-keyint=25:scenecut=0:bframes=3"}
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(100):
            pixels = np.full((96, 160, 3), 60, np.uint8)
            pixels[30:70, i : i + 40] = (200, 90, 60)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())

    def pictures(path):
        with av.open(str(path)) as opened:
            return [f.to_ndarray(format="rgb24").astype(int) for f in opened.decode(video=0)]

    clips = list(split(video, tmp_path / "clips", SplitSettings(detector="none", min="0.2s", max="1s")))
    cut = [picture for clip in clips for picture in pictures(clip)]
    assert len(cut) == 100
    assert max(np.abs(a - b).mean() for a, b in zip(cut, pictures(video), strict=True)) < 4


@pytest.mark.parametrize("lines", [360, 720])
def test_what_is_encoded_anew_keeps_its_colors(tmp_path, lines):
    colors = [(200, 30, 30), (30, 160, 40), (30, 40, 200), (230, 180, 150)]
    bars = np.repeat(np.array(colors, np.uint8)[None], 160, axis=1).reshape(1, 640, 3).repeat(lines, axis=0)
    video = tmp_path / "bars.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "1000", "crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 640, lines, "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_range = 1
        for _ in range(30):
            drawn = av.VideoFrame.from_ndarray(bars, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
            container.mux(stream.encode(drawn))
        container.mux(stream.encode())

    def seen(path):
        pixels = decode_clip(path, (64, 64), DecodeSettings(frames=1)).pixels[0]
        return np.array([pixels[32, 8 + 16 * i] for i in range(4)], int)

    assert np.abs(seen(video) - colors).max() < 5
    *_, encoded = split(video, tmp_path / "clips", SplitSettings(detector="none", min="0.2s", max="0.5s"))
    assert np.abs(seen(encoded) - colors).max() < 6


@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {"bf": "2", "b": "4M"}), ("libx264", {})])
def test_cuts_of_an_avi_with_b_frames_are_where_they_are_seen(tmp_path, codec, options):
    video = tmp_path / "film.avi"
    with av.open(str(video), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for i in range(240):
            pixels = np.full((192, 320, 3), COLORS[i // 80], np.uint8)
            pixels[:, i : i + 6] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    held = []
    for clip in split(video, tmp_path / "clips", SplitSettings(min="0.2s", max="60s")):
        with av.open(str(clip)) as opened:
            corners = [f.to_ndarray(format="rgb24")[5, -5].astype(int) for f in opened.decode(video=0)]
        held.append([int(np.argmin([np.abs(c - color).sum() for color in COLORS])) for c in corners])
    assert held == [[0] * 80, [1] * 80, [2] * 80]


def test_a_picture_that_is_held_is_held_in_the_clips_too(tmp_path):
    video = write(tmp_path / "slides.mp4", [0, 144, 288, 432])  # a picture each six seconds
    clips = list(split(video, tmp_path / "clips", SplitSettings(detector="none", min="1s", max="3s")))
    assert len(clips) == 8
    shown = [decode_clip(clip, (160, 64), DecodeSettings(frames=1)) for clip in clips]
    assert [frame_number(frames.pixels[0]) for frames in shown] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [frames.duration_s for frames in shown] == pytest.approx([3] * 8)


def test_an_empty_clip_is_made_again_and_lengths_that_exclude_each_other_are_refused(command, tmp_path):
    video = scenes(tmp_path / "film.mp4", [72, 96, 60])
    clips = list(split(video, tmp_path / "clips", SplitSettings()))
    clips[1].write_bytes(b"")
    assert list(split(video, tmp_path / "clips", SplitSettings())) == clips and clips[1].stat().st_size
    for lengths in (("--min", "5s", "--max", "2s"), ("--min", "0s", "--max", "0s")):
        done = command("split", video, "--output", tmp_path / "other", *lengths)
        assert done.code == 2 and "--max" in done.err and "Traceback" not in done.err
    gone = command("split", tmp_path / "nope.mp4", "--output", tmp_path / "other")
    assert gone.code == 3 and "no such file" in gone.err


@pytest.mark.parametrize(
    ("target", "frames", "step", "rate", "expected"),
    [
        # At 16 a second, the first scene (60 frames, 2.5 s) has 40 steps: 17 + 17 fit, 6 remain. The second (30 frames)
        # has 20 steps: 17 fit. Step i shows frame floor(1.5 i) of the scene.
        ("musubi:wan", "17", 1.5, 16, [(0, 17), (25.5, 17), (60, 17)]),
        # 18 is no 4n+1 and is rounded to 17; of the 6 and 3 steps that remain, 5 fit once.
        ("musubi:wan", "18,5", 1.5, 16, [(0, 17), (25.5, 17), (51, 5), (60, 17)]),
        # LTX-2 has no rate of its own, so the frames of the file are kept.
        ("ltx:ltx2", "25", 1, 24, [(0, 25), (25, 25), (60, 25)]),
    ],
)
def test_clips_for_training_have_exactly_the_frames_and_the_rate(
    command, tmp_path, target, frames, step, rate, expected
):
    scenes(tmp_path / "film.mp4", [60, 30])
    words = ("split", tmp_path / "film.mp4", "-o", tmp_path / "clips", "--detector", "content")
    done = command(*words, "--for", target, "--train-frames", frames)
    assert done.code == 0, done.err
    clips = sorted((tmp_path / "clips").glob("*.mp4"))
    assert [numbers_in(clip) for clip in clips] == [
        [int(first + i * step + 1e-6) for i in range(count)] for first, count in expected
    ]
    for clip, (_, count) in zip(clips, expected, strict=True):
        timeline = read_timeline(clip)
        assert timeline.duration == pytest.approx(count / rate, abs=0.002)
        assert np.diff(timeline.times) == pytest.approx(1 / rate, abs=0.001)
    assert command(*words, "--for", target, "--train-frames", "9").code == 3  # another split


def test_clips_for_training_need_both_options_and_no_other_length(command, tmp_path):
    words = ("split", tmp_path / "film.mp4", "-o", tmp_path)
    for flags in (("--for", "musubi:wan"), ("--for", "musubi:wan", "--train-frames", "81", "--max", "3s")):
        assert command(*words, *flags).code == 2


def test_a_name_that_is_not_utf8_ends_no_other_split(command, tmp_path):
    for name in (b"a\xff.mp4", b"b.mp4"):
        scenes(tmp_path / "film.mp4", [30]).rename(tmp_path / os.fsdecode(name))
    done = command("split", tmp_path, "--output", tmp_path / "clips", "--min", "1s", "--detector", "none")
    assert done.code == 0
    assert sorted(os.fsencode(path.name) for path in (tmp_path / "clips").glob("*.mp4")) == [
        b"a\xff-0001.mp4",
        b"b-0001.mp4",
    ]


def test_a_video_without_a_clip_says_why(command, tmp_path):
    scenes(tmp_path / "film.mp4", [30])
    done = command("split", tmp_path / "film.mp4", "--output", tmp_path / "clips", "--detector", "none")
    assert done.code == 0 and done.out.endswith(": no clips, because no scene is as long as --min 2s\n")
    training = ("--for", "musubi:wan", "--train-frames", "81", "--detector", "none")
    done = command("split", tmp_path / "film.mp4", "--output", tmp_path / "clips", *training)
    assert done.out.endswith(": no clips, because no scene has 81 frames at 16 per second (--train-frames)\n")
