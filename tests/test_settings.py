"""Settings: what counts as another way to make a caption."""

from typing import Any

import pytest

from gemma_captioner import Settings
from gemma_captioner.config.settings import Sampling, _hashed

# (of images, of clips) at commit f4aee51: a change makes every user's captions stale.
HASHES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "e3ba0ebb7f72e3fd", "723290d12c04ece8"),
    ({"model": "google/gemma-3-4b-it"}, "6c6f69aed5904a54", "a6634feeef19120a"),
    ({"prompt": "Describe this."}, "fa82a8803d2f5924", "50d6a9cf6dfb824e"),
    ({"prompt": ("One.", "Two.")}, "b3868f446ced238a", "7022ff238b04220d"),
    ({"preset": "wan"}, "21fde5be12407e11", "160bf37d0fc5cf15"),
    ({"for": "musubi:wan", "train_frames": 81}, "e3ba0ebb7f72e3fd", "e70f3a8ff5f19303"),
    (
        {"image": {"prompt": "One sentence."}, "clip": {"prompt": "What moves?", "max_new_tokens": 120}},
        "4ad2f9cd47846e34",
        "379f1d8ac450dc07",
    ),
    ({"frames": 16, "sampling": "midpoints", "timestamps": True}, "e3ba0ebb7f72e3fd", "867cfd221cf90a34"),
    ({"temperature": 0.7, "seed": 3, "max_new_tokens": 99}, "88b28d475bfa7f2e", "b002a801f9863940"),
    (
        {"prefix": "photo: ", "suffix": " end", "trigger": "ohwx", "language": "german"},
        "af9a25a3cd8b0f5b",
        "7fccb37306d93af1",
    ),
    (
        {"engine": "server", "base_url": "http://localhost:8000/v1", "model": "m", "image_size": 64},
        "16362635ee02a512",
        "4c933b4a099f25af",
    ),
    (
        {"target": "sdxl", "retries": 3, "punctuation": "any", "system": "Be brief."},
        "4968fa7d137d0a0a",
        "1654dffed2866dcd",
    ),
]


@pytest.mark.parametrize(("settings", "image", "clip"), HASHES)
def test_the_settings_hash_keeps_its_values(settings, image, clip):
    made = Settings.of(settings)
    assert (made.recipe("image"), made.recipe("clip")) == (image, clip)


def test_a_new_setting_enters_the_hash_only_where_it_is_not_at_its_default():
    class Later(Sampling):
        new: int = 3

    assert _hashed(Later()) == _hashed(Sampling())
    assert _hashed(Later(new=4)) == _hashed(Sampling()) | {"new": 4}


def test_the_words_that_answers_begin_with_are_part_of_the_hash():
    plain, begun = Settings.of({}), Settings.of({"begin": "A photo of"})
    assert begun.recipe("image") != plain.recipe("image") and begun.recipe("clip") != plain.recipe("clip")
