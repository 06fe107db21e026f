"""Sound of clips: decoded in step with the frames, and sent where the model and the target have to do with it.

Bursts of sound begin at a known frame. tests/test_gemma4.py has the local engine, tests/test_server_sound.py servers.
"""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from gemma_captioner.config.settings import Settings
from gemma_captioner.config.targets import all_targets, trains_on_sound
from gemma_captioner.engines.base import EngineSpec
from gemma_captioner.engines.sound import max_span_s, plan_sound
from gemma_captioner.errors import UsageError
from gemma_captioner.media.pool import DecodePool
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip
from gemma_captioner.types import Audio, Failed, Frames, MediaItem
from tests.support.clips import frame_number, write
from tests.support.sound import FPS, burst_time_s, bursts, write_clip

LOUD = 100  # the frame at which the burst begins
SYNC_S = 0.042  # the goal: one frame, or 40 ms if that is more
PAIRS = [
    ("mp4", "libx264", "aac", 44_100), ("mp4", "libx264", "libmp3lame", 44_100), ("mp4", "libx264", "libopus", 48_000),
    ("mp4", "libx264", "flac", 44_100), ("m4v", "libx264", "ac3", 48_000), ("mov", "libx264", "pcm_s16le", 48_000),
    ("mov", "libx264", "alac", 44_100), ("mkv", "libx264", "libopus", 48_000), ("mkv", "libx264", "flac", 96_000),
    ("mkv", "libx264", "eac3", 48_000), ("mkv", "libx264", "aac", 22_050), ("webm", "libvpx-vp9", "libopus", 48_000),
    ("webm", "libvpx", "vorbis", 48_000), ("avi", "mpeg4", "libmp3lame", 44_100), ("avi", "libx264", "ac3", 48_000),
    ("avi", "mpeg4", "pcm_s16le", 8_000), ("mpg", "mpeg2video", "mp2", 48_000),
]  # fmt: skip


def item(path: Path) -> MediaItem:
    return MediaItem(path, "clip", path.name, path.with_suffix(".txt"), path.parent)


def decoded(path: Path, **how) -> Frames:
    return decode_clip(path, (160, 64), DecodeSettings(**{"frames": 2, "max_audio_s": 30.0} | how))


def off_s(path: Path, span: str = "whole") -> float:
    """How much later than its frame the burst is heard."""
    got = decoded(path, frames=400, span=span)
    shown = got.times_s[[frame_number(frame) for frame in got.pixels].index(LOUD)]
    begin = 0.0 if span == "whole" else float(span.partition("-")[0])
    assert got.audio is not None and "silent" not in got.flags
    return burst_time_s(got.audio.samples) - (shown - begin)


def clip(path: Path, *, seconds: float = 6.0, sound: float | None = None, codec: str = "aac", **how) -> Path:
    """A clip whose burst begins at frame LOUD."""
    tracks = [(codec, 48_000, bursts(seconds if sound is None else sound, [LOUD / FPS]))]
    return write_clip(path, range(round(seconds * FPS)), how.pop("tracks", tracks), **how)


# In step with the frames


@pytest.mark.long
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(map(str, pair)))
def test_a_burst_is_heard_at_its_frame(pair, tmp_path):
    container, codec, sound, rate = pair
    path = tmp_path / f"clip.{container}"
    write_clip(path, range(6 * FPS), [(sound, rate, bursts(6, [LOUD / FPS], rate))], codec=codec)
    assert abs(off_s(path)) < SYNC_S and abs(off_s(path, "3-5.5")) < SYNC_S


@pytest.mark.parametrize(("video", "audio"), [(24, 0.0), (0, 0.7)])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_tracks_that_begin_at_different_times(container, video, audio, tmp_path):
    samples = bursts(8, [(LOUD + video) / FPS - audio])
    path = write_clip(
        tmp_path / f"clip.{container}", range(6 * FPS), [("aac", 48_000, samples)], video_start=video,
        audio_start_s=audio,
    )  # fmt: skip
    assert abs(off_s(path)) < 0.005 and abs(off_s(path, "3-5.5")) < 0.005


def test_an_edit_list_that_cuts_the_beginning(tmp_path):
    path, cut = clip(tmp_path / "whole.mp4"), tmp_path / "cut.mp4"
    with (
        av.open(str(path)) as source,
        av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as to,
    ):
        streams = {s.index: to.add_stream_from_template(s) for s in (source.streams.video[0], source.streams.audio[0])}
        for packet in source.demux():
            if packet.dts is not None:
                shift = round(1.25 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream.index]
                to.mux(packet)
    assert abs(off_s(cut)) < 0.005 and decoded(cut).duration_s == pytest.approx(4.75, abs=0.01)


def test_a_variable_frame_rate(tmp_path):
    times = [*range(LOUD), 130, 160, 190]  # the frame of the burst comes a second late, and stays
    path = write_clip(tmp_path / "vfr.mp4", times, [("aac", 48_000, bursts(8.5, [130 / FPS]))])
    assert abs(off_s(path)) < 0.005


def test_recordings_joined_by_their_bytes(tmp_path):
    parts = [write_clip(tmp_path / f"{n}.ts", range(LOUD + 24), [("aac", 48_000, bursts(5, [LOUD / FPS] * n))])
             for n in range(2)]  # fmt: skip
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    got = decoded(joined, frames=400)
    numbers = [frame_number(frame) for frame in got.pixels]
    shown = got.times_s[len(numbers) - 1 - numbers[::-1].index(LOUD)]
    assert abs(burst_time_s(got.audio.samples) - shown) < SYNC_S


# What is decoded


def test_the_sound_is_that_of_the_part_that_is_captioned_and_30_s_at_most(tmp_path):
    path = clip(tmp_path / "a.mp4")
    whole = decoded(path).audio.samples
    assert whole.dtype == np.float32 and len(whole) == 6 * 16_000
    part = decoded(path, span="3.5-5").audio.samples
    assert len(part) == 1.5 * 16_000 and np.abs(part - whole[56_000:80_000]).max() < 0.01
    for mode, span in (("head", "0-2"), ("middle", "2-4")):
        assert np.array_equal(decoded(path, span=f"{mode}:2").audio.samples, decoded(path, span=span).audio.samples)
    cut = decoded(path, max_audio_s=4.5)
    assert cut.flags == ("partial_audio",) and np.array_equal(cut.audio.samples, whole[:72_000])


def test_channels_are_averaged_and_never_exceed_full_scale(tmp_path):
    tone = np.sin(np.arange(48_000) / 8).astype(np.float32)
    for channels in (1, 2, 6):
        path = write_clip(tmp_path / f"{channels}.mkv", range(24), [("flac", 48_000, tone)], channels=channels)
        samples = decoded(path).audio.samples
        assert 0.95 < np.abs(samples[4000:12_000]).max() <= 1.0, channels


def test_what_is_not_sent_is_not_decoded(tmp_path):
    got = decoded(clip(tmp_path / "a.mp4"), max_audio_s=0.0)
    assert got.audio is None and got.flags == ()


def test_without_a_track_and_with_a_silent_one(tmp_path):
    got = decoded(write(tmp_path / "deaf.mp4", list(range(24))))
    assert got.audio is None and got.flags == ("no_audio",) and len(got.times_s) == 2
    quiet = np.full(48_000, 10 ** (-62 / 20), np.float32)
    got = decoded(write_clip(tmp_path / "quiet.mkv", range(24), [("flac", 48_000, quiet)]))
    assert got.flags == ("silent",) and len(got.audio.samples) == pytest.approx(16_000, abs=20)
    got = decoded(write_clip(tmp_path / "low.mkv", range(24), [("flac", 48_000, quiet * 2)]))
    assert got.flags == ()


def test_of_several_tracks_the_default_one_is_heard(tmp_path):
    tracks = [("flac", 48_000, bursts(6, [at])) for at in (1.0, 2.0, 3.0)]
    for default in range(3):
        path = write_clip(tmp_path / f"{default}.mkv", range(6 * FPS), tracks, default=default)
        assert burst_time_s(decoded(path).audio.samples) == pytest.approx(default + 1, abs=0.005)


def test_a_track_that_ends_early_or_is_damaged_is_used_as_far_as_it_goes(tmp_path):
    got = decoded(clip(tmp_path / "short.mp4", sound=4.6))
    assert got.flags == ("partial_audio",) and len(got.audio.samples) == 96_000
    assert np.abs(got.audio.samples[76_000:]).max() == 0
    tone = 0.3 * np.sin(np.arange(2 * 48_000) / 20).astype(np.float32)
    path = write_clip(tmp_path / "broken.mkv", range(48), [("flac", 48_000, tone)])
    assert decoded(path).flags == ()
    damaged(path, keep=lambda n: n % 4 == 0)
    got = decoded(path)
    assert got.flags == ("partial_audio",) and 0.2 < (got.audio.samples != 0).mean() < 0.3 and len(got.times_s) == 2
    damaged(path, keep=lambda n: False)
    got = decoded(path)
    assert got.audio is None and got.flags == ("no_audio",) and len(got.times_s) == 2


def damaged(path: Path, keep) -> None:
    """Overwrite the sound's packets with noise, except those whose number is to be kept."""
    content, rng = bytearray(path.read_bytes()), np.random.default_rng(1)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    at = 0
    for number, packet in enumerate(packets):
        at = content.index(packet, at)
        if not keep(number):
            content[at : at + len(packet)] = b"\xff" + rng.integers(0, 256, len(packet) - 1, np.uint8).tobytes()
        at += len(packet)
    path.write_bytes(content)


def test_samples_go_through_shared_memory(tmp_path):
    paths = [clip(tmp_path / f"{seconds}.mp4", seconds=seconds) for seconds in (5, 6)]
    settings = DecodeSettings(frames=3, max_audio_s=5.5)
    with DecodePool((15, 15), settings, clip_size=(15, 15), workers=1, pixel_bytes=0) as pool:  # room for one clip
        for path in paths:
            task = pool.start(item(path))
            assert pool.start(item(path)) is None
            got, expected = task.wait(), decode_clip(path, (15, 15), settings)
            assert not isinstance(got, Failed) and np.array_equal(got.pixels, expected.pixels)
            assert np.array_equal(got.audio.samples, expected.audio.samples) and got.flags == expected.flags
            assert got.audio.samples.flags.aligned
            task.release()


@pytest.mark.parametrize("samples", [
    np.zeros(3, np.float64), np.zeros((2, 3), np.float32), np.zeros(0, np.float32), np.full(3, 1.5, np.float32),
    np.full(3, np.nan, np.float32),
])  # fmt: skip
def test_a_record_refuses_what_is_no_sound(samples):
    with pytest.raises(ValueError, match="samples must be"):
        Audio(samples)


# Whether it is sent


SPEC = EngineSpec(
    (64, 64), {"image": 20, "clip": 20}, 4096, "gemma", None, max_audio_s=30.0, audio_tokens_per_second=25
)
DEAF = EngineSpec((64, 64), {"image": 20, "clip": 20}, 4096, "gemma-3", None)


@pytest.mark.parametrize(("given", "spec", "max_s", "said"), [
    ({}, DEAF, 0, ""),
    ({}, SPEC, 0, "not sent, because no --for names a target that trains on it (--audio on sends it)"),
    ({"for": "musubi:wan"}, SPEC, 0, "because musubi:wan does not train on it"),
    ({"for": "diffusion-pipe:ltx2"}, SPEC, 0, "because diffusion-pipe:ltx2 does not train on it"),
    ({"for": "ltx:ltx2.5"}, SPEC, 30, "up to 30 s (the first 30 s of longer ones, flagged `partial_audio`); "
     "at most 754 tokens each"),
    ({"for": "ltx:ltx2", "span": "head:5.04"}, SPEC, 5.04, "with each clip, up to 5.04 s; at most 130 tokens each"),
    ({"for": "ltx:ltx2"}, DEAF, 0, "because gemma-3 takes none, although ltx:ltx2 trains on it. Use Gemma 4"),
    ({"for": "ltx:ltx2", "audio": "off"}, SPEC, 0, "(--audio off), although ltx:ltx2 trains on it"),
    ({"audio": "off"}, SPEC, 0, ""),
    ({"audio": "on", "span": "1-3"}, SPEC, 2, "up to 2 s; at most 54 tokens each"),
])  # fmt: skip
def test_what_a_run_decides(given, spec, max_s, said):
    plan = plan_sound(Settings.from_dict(given), spec)
    assert plan.max_s == max_s and said in plan.message and bool(said) == bool(plan.message)
    assert bool(plan.tokens) == bool(max_s)


def test_sound_that_the_model_does_not_take_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match=r"--audio on: gemma-3 takes no sound. Use Gemma 4 E2B, E4B or 12B"):
        plan_sound(Settings.from_dict({"audio": "on"}), DEAF)


def test_the_targets_that_train_on_sound():
    assert {row.name for row in all_targets() if row.sound} == {
        "musubi:ltx2", "musubi:minimax-h3", "diffusion-pipe:minimax-h3", "ltx:ltx2", "ltx:ltx2.5", "ai-toolkit:ltx2",
        "ai-toolkit:ltx2.5", "ai-toolkit:minimax-h3", "simpletuner:ltx2", "simpletuner:minimax-h3", "diffsynth:ltx2",
        "diffsynth:minimax-h3",
    }  # fmt: skip
    assert not trains_on_sound("ltx") and not trains_on_sound(None) and trains_on_sound("ai-toolkit:h3")
    assert not trains_on_sound("onetrainer:ltx2")  # not in the table: no trainer that leaves sound out


@pytest.mark.parametrize(("span", "longest"), [
    ("whole", float("inf")), ("head:2,5", 5), ("middle:1.5", 1.5), ("1-3.5", 2.5), ("head:81f", float("inf")),
])  # fmt: skip
def test_how_long_a_span_is_at_most(span, longest):
    assert max_span_s(span) == longest


@pytest.fixture
def clips(tmp_path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    clip(folder / "a.mp4", seconds=3, tracks=[("aac", 48_000, bursts(3, [1.0]))])
    write(folder / "b.mp4", list(range(24)))
    return folder


def test_a_run_sends_sound_and_says_so(clips, command, script):
    heard = ("--engine", "scripted", "--model", script(default="It lasts {audio_s} seconds.", max_audio_s=30))
    done = command("caption", clips, *heard, "--for", "ltx:ltx2", "--span", "head:2", "--json")
    assert done.code == 0 and done.err.count("sound: sent with each clip, up to 2 s") == 1, done.err
    assert (clips / "a.txt").read_text() == "It lasts 2.0 seconds."
    assert (clips / "b.txt").read_text() == "It lasts 0 seconds."
    [journal] = (clips / ".gemma-captioner" / "runs").glob("*.jsonl")
    records = {r["path"]: r for r in map(json.loads, journal.read_text().splitlines()) if r.get("kind") == "caption"}
    assert records["a.mp4"]["audio_s"] == 2 and records["a.mp4"]["flags"] == ["sound_missing"]
    assert "audio_s" not in records["b.mp4"] and records["b.mp4"]["flags"] == ["no_audio"]
    assert command("caption", clips, *heard, "--only", "flagged:no_audio", "--dry-run", "--json").json["clips"] == 1


def test_a_run_that_sends_no_sound_says_why(clips, command, script):
    deaf = ("--engine", "scripted", "--model", script())
    done = command("caption", clips, *deaf, "--for", "ltx:ltx2")
    assert done.code == 0 and "sound: not sent, because scripted takes none" in done.err
    done = command("caption", clips, *deaf, "--audio", "on", "--existing", "overwrite")
    assert done.code == 2 and "--audio on: scripted takes no sound" in done.err and done.err.count("\n") < 6


def test_gemma_3_is_refused_before_it_is_loaded(clips, command):
    done = command("caption", clips, "--model", "demo", "--audio", "on")
    assert done.code == 2 and "--audio on: demo takes no sound. Use Gemma 4" in done.err
    assert "weights" not in done.err and not list(clips.glob("*.txt"))


def test_a_dry_run_tells_what_sound_costs(clips, command, script):
    heard = ("--engine", "scripted", "--model", script(max_audio_s=30), "--audio", "on", "--dry-run")
    dry = command("caption", clips, *heard, "--json").json
    assert dry["audio_tokens"] == 2 * 754 and "at most 754 tokens each" in " ".join(dry["notes"])
    assert "(1,508 for sound)" in command("caption", clips, *heard).out


def test_captions_made_without_the_setting_are_not_stale():
    plain, heard = ({"for": "ltx:ltx2"}, {"for": "ltx:ltx2", "audio": "on"})
    hashes = [Settings.from_dict(given).settings_hash("clip") for given in (plain, plain | {"audio": "auto"}, heard)]
    assert hashes[0] == hashes[1] != hashes[2]
    images = {Settings.from_dict(given).settings_hash("image") for given in (plain, heard)}
    assert len(images) == 1
