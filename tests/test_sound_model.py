"""The sound checkpoint, a tiny Gemma 4 that names shape, motion and tone, graded on encoded clips."""

import re

import pytest

from tests.support.sound_model import SOUND_CHECKPOINT
from tools.sound_scenes import write_scenes

SEED = 880_000  # no seed of the training


def captions(command, folder, audio):
    """Caption the clips of a folder. Returns file stem -> caption."""
    prompt = ("--prompt", "Describe this video.")
    done = command("caption", folder, "--model", SOUND_CHECKPOINT, "--frames", 4, "--audio", audio, *prompt)
    assert done.code == 0, done.err
    return {file.stem: file.read_text(encoding="utf-8").strip() for file in folder.glob("*.txt")}


@pytest.mark.parametrize(
    ("count", "seed", "wrong"),
    [
        (3, SEED + 1, 0),
        pytest.param(30, SEED + 2, 2, marks=pytest.mark.long),
        pytest.param(300, SEED, 15, marks=pytest.mark.prove),  # docs/decisions.md
    ],
)
def test_it_names_shape_motion_and_tone(count, seed, wrong, command, tmp_path):
    truth = write_scenes(tmp_path, count, seed)
    said = captions(command, tmp_path, "on")
    misses = {name: (said.get(name), true) for name, true in truth.items() if said.get(name) != true}
    assert len(misses) <= wrong, misses


@pytest.mark.long
def test_without_sound_it_names_no_tone(command, tmp_path):
    truth = write_scenes(tmp_path, 3, SEED + 1)
    assert any("tone sounds" in true for true in truth.values())
    assert captions(command, tmp_path, "off") == {name: re.sub(" while .*", ".", true) for name, true in truth.items()}
