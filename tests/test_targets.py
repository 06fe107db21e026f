"""The table of targets: what a trainer keeps of a clip and reads of a caption, and which files need none."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from gemma_captioner import Settings
from gemma_captioner.captions.flags import evaluate
from gemma_captioner.captions.limits import estimated_tokens, length_flags
from gemma_captioner.config.presets import presets
from gemma_captioner.config.targets import (
    Target,
    all_targets,
    get_target,
    is_auxiliary,
    models,
    span_for,
    target_for,
    token_limit,
    trainers,
    training_lengths,
    unlisted_target_note,
)
from gemma_captioner.errors import UsageError
from gemma_captioner.media.sampling import Timeline, clip_length_flags, parse_span
from gemma_captioner.pipeline.decoding import decode_settings
from tests.support.clips import write
from tests.support.files import captions

FORMATS = r"prose|tags|ideogram4|minimax-h3|fibo|flux2"


def clip(fps: float, frames: int) -> Timeline:
    return Timeline([i / fps for i in range(frames)], end=frames / fps)


# (target, frames trained on, mode, the file's rate and number of frames) -> start and end in seconds, too short or not.
# The arithmetic follows the code named in targets.toml.
SPANS = [
    # musubi without source_fps keeps the first 81 frames of the file: 81 / 24, 81 / 30, 81 / 60.
    ("musubi:wan", "81", None, 24, 240, (0, 3.375), False),
    ("musubi:wan", "81", None, 30, 300, (0, 2.7), False),
    ("musubi:wan", "81", None, 60, 600, (0, 1.35), False),
    # With source_fps it drops frames to 16 a second: 81 / 16. A file at 12 a second has 61 frames up to there: too few.
    ("musubi:wan", "81", "source_fps", 30, 300, (0, 5.0625), False),
    ("musubi:wan", "81", "source_fps", 12, 120, (0, 10), True),
    # Chunks cover the clip, all with the same caption. 80 frames are too few for one of 81.
    ("musubi:hunyuan", "81", "chunk", 24, 240, (0, 10), False),
    ("musubi:hunyuan", "81", None, 24, 80, (0, 80 / 24), True),
    # Of 33 and 81, the clip of 60 frames holds 33. 80 is no 4n+1: 4 * 19 + 1 = 77.
    ("musubi:hunyuan", "33,81", None, 24, 60, (0, 1.375), False),
    ("musubi:hunyuan", "80", None, 24, 240, (0, 77 / 24), False),
    # The fork for LTX-2 keeps the rate of 24 and drops 60 to 25: 121 / 24, 121 / 25.
    ("musubi:ltx2", "121", None, 24, 240, (0, 121 / 24), False),
    ("musubi:ltx2", "121", None, 60, 600, (0, 4.84), False),
    # diffusion-pipe resamples to the model's rate: 81 / 16, 81 / 24, 121 / 24, 85 / 24 (85 = 5 * 17).
    ("diffusion-pipe:wan", "81", None, 24, 240, (0, 5.0625), False),
    ("diffusion-pipe:wan2.2-5b", "81", None, 30, 300, (0, 3.375), False),
    ("diffusion-pipe:ltx2", "121", None, 30, 300, (0, 121 / 24), False),
    ("diffusion-pipe:minimax-h3", "90", None, 24, 240, (0, 85 / 24), False),
    # The middle: (10 - 81 / 16) / 2 = 2.46875 to 7.53125.
    ("diffusion-pipe:wan", "81", "single_middle", 24, 240, (2.46875, 7.53125), False),
    # 48 frames at 24 are 2 s, 32 frames at 16: too few for 33.
    ("diffusion-pipe:wan", "33,81", None, 24, 48, (0, 2), True),
    # LTX's own trainer passes on the file's rate: 121 / 24, 121 / 60.
    ("ltx", "121", None, 24, 240, (0, 121 / 24), False),
    ("ltx:ltx2", "121", None, 60, 600, (0, 121 / 60), False),
    # SimpleTuner keeps the first frames of the file. Wan: 8 * 10 + 1 = 81 of 85. H3: 17n+5, rounded up, 107 of 91.
    ("simpletuner:wan", "85", None, 30, 300, (0, 2.7), False),
    ("simpletuner:minimax-h3", "91", None, 24, 240, (0, 107 / 24), False),
    # OneTrainer draws a window, ai-toolkit and finetrainers spread their frames over the clip: all of it is described.
    ("onetrainer:hunyuan", "25", None, 30, 300, (0, 10), False),
    ("ai-toolkit:wan", "41", None, 24, 240, (0, 10), False),
    ("ai-toolkit:wan", "41", None, 24, 40, (0, 40 / 24), True),
    ("finetrainers:ltx", "49", None, 25, 250, (0, 10), False),
    # DiffSynth: Wan by the file's rate, LTX-2 at 24 a second.
    ("diffsynth:wan", "81", None, 30, 300, (0, 2.7), False),
    ("diffsynth:ltx2", "121", None, 30, 300, (0, 121 / 24), False),
]


@pytest.mark.parametrize(("target", "frames", "mode", "fps", "total", "span", "too_short"), SPANS)
def test_the_span_is_what_the_trainer_keeps(target, frames, mode, fps, total, span, too_short):
    flat = {"for": target, "train_frames": frames, "train_mode": mode}
    settings = decode_settings(Settings.from_dict(flat))
    timeline = clip(fps, total)
    assert parse_span(settings.span, timeline) == pytest.approx(span)
    assert clip_length_flags(timeline, settings) == (("too_short_for_trainer",) if too_short else ())


def test_the_first_frames_of_a_variable_rate_are_counted_not_timed():
    timeline = Timeline([0, 0.1, 0.2, 1.2, 2.2, 3.2], end=4.2)
    assert parse_span("head:3f", timeline) == (0, 1.2) and parse_span("head:6f", timeline) == (0, 4.2)


@pytest.mark.parametrize(
    ("counts", "rounds", "frames", "valid"),
    [
        *(("4n+1", "down", n, v) for n, v in ((1, 1), (2, 1), (4, 1), (5, 5), (80, 77), (81, 81))),
        *(("17n+5", "up", n, v) for n, v in ((1, 1), (5, 5), (6, 22), (91, 107))),
        *(("17n", "down", n, v) for n, v in ((16, 1), (17, 17), (90, 85))),
        ("", "down", 50, 50),
    ],
)
def test_frame_counts_are_rounded_as_the_trainer_does(counts, rounds, frames, valid):
    assert Target("t", counts=counts, rounds=rounds).valid_count(frames) == valid


def test_one_frame_among_buckets_is_for_images():
    assert training_lengths("musubi:wan", (1, 33)) == "33f" and training_lengths("musubi:wan", (1,)) == "1f"


@pytest.mark.parametrize("given", ["33,81", ["33", "81"], (33, 81), [33, 81]])
def test_train_frames_may_be_a_list(given):
    assert Settings.from_dict({"for": "musubi:wan", "train_frames": given}).sampling.train_frames == (33, 81)


@pytest.mark.parametrize("given", [0, "33,", "many", [33, 0], 2.5])
def test_other_train_frames_are_refused(given):
    with pytest.raises(UsageError, match="train-frames"):
        Settings.from_dict({"for": "musubi:wan", "train_frames": given})


def test_a_mode_is_one_of_the_trainer_and_needs_a_trainer():
    with pytest.raises(UsageError, match="Available: source_fps, chunk"):
        Settings.from_dict({"for": "musubi:wan", "train_mode": "single_middle"})
    with pytest.raises(UsageError, match="--train-mode requires --for"):
        Settings.from_dict({"train_mode": "chunk"})


# The table


def test_every_row_is_whole():
    encoders = set()
    for row in all_targets():
        assert row.captions and re.search(r"\b[0-9a-f]{7}\b", row.trainer_source), row.name
        assert row.lines in ("whole", "first", "all", "any") and row.rate in ("source", "model", "at most")
        assert row.keep in ("head", "middle", "whole", "random", "chunks") and row.over in ("cut", "fails")
        for mode in row.modes.values():
            assert set(mode) <= {"keep", "rate"}
        if row.model:
            assert row.source and row.encoder and re.fullmatch(FORMATS, row.format), row.name
            assert row.counts == "" or re.fullmatch(r"\d+n(\+\d+)?", row.counts)
            assert row.rate == "source" or row.fps or not row.counts, row.name
            encoders.add(row.encoder)
    assert all(estimated_tokens("A cat sleeps.", encoder) for encoder in encoders)
    assert {row.model for row in all_targets()} >= models().keys()
    aliases = [alias for model in models().values() for alias in model.get("aliases", ())]
    assert len(set(aliases)) == len(aliases) and not set(aliases) & models().keys()


def test_a_field_of_the_table_is_a_field_of_a_target():
    """A misspelled one would be dropped in silence."""
    from gemma_captioner.config.targets import _table

    known = asdict(Target("t")).keys() - {"trainer"} | {"models", "aliases"}
    for name, trainer in _table()["trainers"].items():
        for fields in (trainer, *trainer.get("models", {}).values(), *models().values()):
            assert fields.keys() <= known, name
        assert trainer.get("models", {}).keys() <= models().keys(), name


def test_names_of_before_still_work():
    before = "wan hunyuan framepack ltx ltx2 mochi flux flux-schnell sdxl sdxl-150 sdxl-225 sd".split()
    for trainer in "musubi diffusion-pipe ltx mochi ai-toolkit simpletuner finetrainers onetrainer sd-scripts".split():
        for model in ("", *before):
            settings = Settings.from_dict({"for": f"{trainer}:{model}" if model else trainer})
            assert settings.sampling.span == "whole"
    for model in before:
        assert Settings.from_dict({"target": model}).quality.target == model


def test_limits_that_differ_by_trainer():
    limits = {
        name: (limit := token_limit(target_for(name))) and limit.max_tokens
        for name in (
            *("musubi:hunyuan", "onetrainer:hunyuan", "sd-scripts:flux", "onetrainer:flux", "ltx", "simpletuner:ltx"),
            *("finetrainers:ltx", "sd-scripts:sd3", "simpletuner:sd3", "onetrainer:sd3", "diffusion-pipe:sdxl"),
            *("musubi:qwen-image", "onetrainer:qwen-image", "ai-toolkit:minimax-h3", "diffusion-pipe:minimax-h3"),
            *("musubi:ideogram4", "ai-toolkit:ideogram4", "ai-toolkit:flux2"),
        )
    }
    assert list(limits.values()) == [
        256, 77, 512, 77, 256, 226, 128, 256, 154, 77, None, 1024, 512, 512, None, 2040, 3064, 480,
    ]  # fmt: skip
    long = "A very long caption about many things. " * 12
    assert length_flags(long, "flux") == () and length_flags(long, "onetrainer:flux") == ("too_long",)
    assert length_flags(long * 9, "diffusion-pipe:sdxl") == ()
    assert Settings.from_dict({"preset": "flux", "for": "onetrainer"}).quality.target == "onetrainer:flux"
    with pytest.raises(UsageError, match="--target nope: give one of"):
        Settings.from_dict({"target": "nope"})


def test_an_unknown_combination_says_what_is_known(command, media):
    assert (
        unlisted_target_note("musubi:wan") is None
        and unlisted_target_note("musubi") is None
        and unlisted_target_note("ltx:x") is None
    )
    known = unlisted_target_note("musubi:sdxl")
    assert known and "musubi with wan, " in known and "sdxl with diffusion-pipe, " in known
    done = command("check", media, "--for", "musubi:sdxl")
    assert done.code == 3 and "note: musubi:sdxl is not in the table" in done.err
    with pytest.raises(UsageError, match="requires a model: give diffusion-pipe:wan, "):
        span_for("diffusion-pipe", (81,))


def test_the_command_lists_and_describes(command):
    done = command("targets")
    assert done.code == 0 and all(trainer in done.out for trainer in trainers())
    one = command("targets", "onetrainer:hunyuan").out
    assert "77" in one and "random" in one and "*-masklabel.png" in one and "HunyuanVideoBaseDataLoader.py:44" in one
    by_model = json.loads(command("targets", "wan2.2", "--json").out)["targets"]
    assert {row["model"] for row in by_model} == {"wan"} and len(by_model) == 6
    assert {row["fps"] for row in by_model} == {16} and all(row["source"] for row in by_model)
    assert len(json.loads(command("targets", "--json").out)["targets"]) == len(list(all_targets()))
    for wrong in ("nope", "musubi:nope", "nope:wan"):
        done = command("targets", wrong, "--json")
        assert done.code == 2 and ("vailable: " in done.err or "Models: " in done.err)
    assert "note: musubi:sdxl" in command("targets", "musubi:sdxl").err


def test_presets_of_a_model_have_its_format():
    for name, preset in presets().items():
        target, caption_format = (preset["settings"].get(name) for name in ("target", "format"))
        if target and caption_format:
            assert caption_format in (models()[target].get("format", "prose"), "tags"), name


# Clips and files


def test_a_clip_shorter_than_the_trainer_keeps_is_captioned_and_flagged(command, tmp_path, script):
    write(tmp_path / "short.mp4", list(range(40)), rate=16)
    write(tmp_path / "long.mp4", list(range(81)), rate=16)
    words = ("caption", tmp_path, "--engine", "scripted", "--model", script(default="A red circle moves left."))
    done = command(*words, "--for", "musubi:wan", "--train-frames", "81", "--json")
    assert done.code == 0 and done.json["captioned"] == 2 and done.json["flagged"] == 1
    assert captions(tmp_path).keys() == {"short.txt", "long.txt"}
    checked = command("check", tmp_path, "--json").json["findings"]
    assert [(Path(f["path"]).name, f["severity"]) for f in checked if f["code"] == "too_short_for_trainer"] == [
        ("short.txt", "note")
    ]
    again = command(*words, "--only", "flagged:too_short_for_trainer", "--json")
    assert again.json["captioned"] == 1


AUXILIARY = [
    ("onetrainer", "a-masklabel.png", True),
    ("onetrainer", "A-CONDLABEL.PNG", True),
    ("onetrainer:sdxl", "deep/a-masklabel.png", True),
    ("onetrainer", "a-masklabel.jpg", False),
    ("onetrainer", "masks/a.png", False),
    ("musubi:qwen-image-edit", "control/a.png", True),
    ("musubi", "set/control/a.png", True),
    ("musubi", "control.png", False),
    ("musubi", "controlled/a.png", False),
    ("musubi", "a-masklabel.png", False),
    ("diffusion-pipe:flux", "masks/a.png", True),
    ("ai-toolkit", "_controls/a.png", True),
    ("csv", "masks/a.png", False),
    (None, "a-masklabel.png", False),
]


@pytest.mark.parametrize(("target", "name", "expected"), AUXILIARY)
def test_masks_and_control_images(target, name, expected):
    assert is_auxiliary(name, target) == expected


def test_masks_are_not_captioned_checked_or_exported_as_images_but_go_along(command, media, script):
    [first, *_] = sorted(media.glob("*.png"))
    mask = first.with_name(f"{first.stem}-masklabel.png")
    mask.write_bytes(first.read_bytes())
    words = ("caption", media, "--engine", "scripted", "--model", script(default="A {name} shape."))
    done = command(*words, "--for", "onetrainer:sdxl", "--json")
    assert done.code == 0 and (done.json["captioned"], done.json["skipped"]) == (8, 1)
    assert not mask.with_suffix(".txt").exists()
    codes = {f["code"] for f in command("check", media, "--for", "onetrainer", "--json").json["findings"]}
    assert "no_caption" not in codes
    assert "no_caption" in {f["code"] for f in command("check", media, "--json").json["findings"]}
    to = media.parent / "training"
    exported = command("export", media, "--for", "onetrainer", "--output", to)
    assert exported.code == 0 and "1 masks or control images" in exported.err, exported.err
    assert (to / mask.name).read_bytes() == mask.read_bytes() and len(captions(to)) == 8
    assert command(*words, "--json").json["captioned"] == 1  # without the trainer, it is an image like any other


def test_get_target_overlays_trainer_and_model():
    row = get_target("simpletuner:wan2.2")
    assert (row.model, row.counts, row.fps, row.lines, row.one_caption_per_line) == ("wan", "8n+1", 16, "all", True)


SILENT = "A man pours milk into a steel jug while the machine hisses; no music plays and nobody else speaks."


def test_clips_of_ltx2_may_say_that_a_kind_of_sound_is_absent(command, media, script):
    assert evaluate(SILENT) == ("absent_things",) and evaluate(SILENT, states_silence=True) == ()
    assert evaluate(SILENT + " There are no people.", states_silence=True) == ("absent_things",)
    words = ("caption", media, "--engine", "scripted", "--model", script(default=SILENT), "--limit", "1", "--json")
    assert command(*words, "--for", "ltx:ltx2").json["flagged"] == 0
    assert command(*words, "--for", "ltx").json["flagged"] == 1


def test_a_model_alone_names_the_trainers_that_know_it():
    with pytest.raises(UsageError, match=r"this is a model. Name its trainer too: .*sd-scripts:sdxl"):
        get_target("sdxl")
