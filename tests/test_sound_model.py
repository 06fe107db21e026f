"""The sound checkpoint: a tiny Gemma 4 with an audio tower that names shape, motion and tone, graded as users run it."""

import pytest

from tests.support.sound_model import SOUND_CHECKPOINT
from tools.sound_scenes import write_scenes

SEED = 880_000  # no seed of the training


@pytest.mark.parametrize(
    ("count", "seed", "wrong"),
    [
        (3, SEED + 1, 0),
        pytest.param(30, SEED + 2, 2, marks=pytest.mark.long),
        pytest.param(300, SEED, 15, marks=pytest.mark.prove),  # docs/decisions.md
    ],
)
def test_it_names_shape_motion_and_tone_of_encoded_clips(count, seed, wrong, command, tmp_path):
    truth = write_scenes(tmp_path / "clips", count, seed)
    done = command("caption", tmp_path / "clips", "--model", SOUND_CHECKPOINT, "--frames", 4, "--audio", "on")
    assert done.code == 0, done.err
    said = {name: (tmp_path / "clips" / name).with_suffix(".txt").read_text(encoding="utf-8").strip() for name in truth}
    misses = {name: (said[name], caption) for name, caption in truth.items() if said[name] != caption}
    assert len(misses) <= wrong, misses


def test_without_sound_it_names_no_tone(command, tmp_path):
    truth = write_scenes(tmp_path / "clips", 3, SEED + 1)
    assert any("tone sounds" in caption for caption in truth.values())
    done = command("caption", tmp_path / "clips", "--model", SOUND_CHECKPOINT, "--frames", 4, "--audio", "off")
    assert done.code == 0, done.err
    for name, caption in truth.items():
        said = (tmp_path / "clips" / name).with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert said == caption.split(" while ")[0].rstrip(".") + "."
