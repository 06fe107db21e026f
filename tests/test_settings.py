"""Settings: what counts as another way to make a caption."""

import pickle
from dataclasses import fields
from typing import Any

import pytest

from gemma_captioner import Settings
from gemma_captioner.config.decoding import FrameSamplingSettings
from gemma_captioner.config.precedence import without_prompts
from gemma_captioner.config.settings import PATHS_READ
from gemma_captioner.config.settings_hash import hash_fields
from gemma_captioner.errors import UsageError
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.pipeline.decoding import decode_settings

# (of images, of clips) at commit f4aee51: a change makes every user's captions stale. Those with `for` at
# 08d0443: the span of musubi, ltx and simpletuner was wrong then, so only their clips have another hash now.
HASHES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "e3ba0ebb7f72e3fd", "723290d12c04ece8"),
    ({"model": "google/gemma-3-4b-it"}, "6c6f69aed5904a54", "a6634feeef19120a"),
    ({"prompt": "Describe this."}, "fa82a8803d2f5924", "50d6a9cf6dfb824e"),
    ({"prompt": ("One.", "Two.")}, "b3868f446ced238a", "7022ff238b04220d"),
    ({"preset": "wan"}, "21fde5be12407e11", "160bf37d0fc5cf15"),
    ({"for": "musubi:wan"}, "e3ba0ebb7f72e3fd", "45aa938c29a1aace"),
    ({"for": "musubi:wan", "train_frames": 81}, "e3ba0ebb7f72e3fd", "63c400cb9d68abca"),
    ({"for": "diffusion-pipe:wan", "train_frames": 81}, "e3ba0ebb7f72e3fd", "bb763638de9d5017"),
    ({"for": "onetrainer:hunyuan", "train_frames": 25}, "e3ba0ebb7f72e3fd", "481dcb9d6e97ca08"),
    ({"for": "ai-toolkit:wan", "train_frames": 41}, "e3ba0ebb7f72e3fd", "c0a8e4d51b5cff78"),
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
    made = Settings.from_dict(settings)
    assert (made.settings_hash("image"), made.settings_hash("clip")) == (image, clip)


def test_a_new_setting_enters_the_hash_only_where_it_is_not_at_its_default():
    class Later(FrameSamplingSettings):
        new: int = 3

    assert hash_fields(Later()) == hash_fields(FrameSamplingSettings())
    assert hash_fields(Later(new=4)) == hash_fields(FrameSamplingSettings()) | {"new": 4}


def test_decoding_has_the_defaults_of_the_settings():
    assert decode_settings(Settings()) == DecodeSettings()


def test_a_server_is_asked_where_one_is_given():
    given = {"base_url": "http://localhost:8000/v1", "model": "demo"}
    assert Settings.from_dict(given).model.engine == "server"
    assert Settings.from_dict({"serve": "serve {model} {port}"}).model.engine == "server"
    assert Settings.from_dict(given, {"engine": "local"}).model.engine == "local"


def test_every_setting_of_decoding_reaches_it():
    given = {
        **{"frames": 3, "sampling": "ends", "fps": 2.0, "span": "head:4", "background": "black", "animated": "first"},
        **{"exact_pixels": True, "decode_timeout": 5.0, "decode_memory": 2.0, "for": "musubi:wan", "train_frames": 81},
    }
    made, default = decode_settings(Settings.from_dict(given)), DecodeSettings()
    of_the_engine = {"jpeg_scale", "max_audio_s"}
    others = {f.name for f in fields(DecodeSettings)} - of_the_engine
    assert all(getattr(made, name) != getattr(default, name) for name in others)


def test_another_prompt_leaves_nothing_of_the_layers_beneath_it():
    layer = {"prompt-file": "p.txt", "preset": "wan", "clip": {"prompt": "Moves?", "max_new_tokens": 9}, "frames": 4}
    assert without_prompts(layer) == {"clip": {"max_new_tokens": 9}, "frames": 4}


def test_the_words_that_answers_begin_with_are_part_of_the_hash():
    plain, begun = Settings.from_dict({}), Settings.from_dict({"begin": "A photo of"})
    assert begun.settings_hash("image") != plain.settings_hash("image") and begun.settings_hash(
        "clip"
    ) != plain.settings_hash("clip")


def test_journals_keep_the_names_of_earlier_versions_and_both_names_are_read():
    settings = Settings.from_dict({"background": "black", "target": "wan", "workers": 3, "facts": "a.csv"})
    dumped = settings.model_dump(mode="json", by_alias=True)
    assert dumped["reading"]["background"] == "black" and dumped["judging"]["target"] == "wan"
    assert dumped["conduct"]["workers"] == 3 and dumped["prompting"]["facts"] == "a.csv"
    for read in (dumped, settings.model_dump(mode="json")):
        assert Settings.model_validate(read).model_dump() == settings.model_dump()
    with pytest.raises(UsageError, match=r"^--metadata 3: give a path$"):
        Settings.from_dict({"facts": 3})


def test_a_copy_with_other_values_has_their_prompts_format_and_hash():
    settings = Settings.from_dict({"prompt": "old"})
    for changed, expected in (
        (settings.with_values("prompting", prompt=("new",)), Settings.from_dict({"prompt": "new"})),
        (settings.with_values("quality", format="tags"), Settings.from_dict({"prompt": "old", "format": "tags"})),
    ):
        assert (changed.prompts, changed.format) == (expected.prompts, expected.format)
        assert changed.settings_hash("image") == expected.settings_hash("image") != settings.settings_hash("image")


def test_settings_on_another_machine_keep_what_their_files_said(tmp_path):
    prompt, schema = tmp_path / "prompt.txt", tmp_path / "format.json"
    prompt.write_text("Name the boat.")
    schema.write_text('{"type": "object", "properties": {"boat": {"type": "string"}}}')
    settings = Settings.from_dict({"prompt_file": prompt, "format": str(schema)})
    prompt.unlink()
    schema.unlink()
    there = pickle.loads(pickle.dumps(settings.with_absolute_paths())).with_model("another")
    assert (there.prompts, there.format) == (settings.prompts, settings.format)
    assert "Name the boat." in there.prompts["image"][0]


def test_every_path_that_other_machines_read_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("weights", "lora", "words", "shots", "sources", "speech", "demo", "auto"):
        (tmp_path / folder).mkdir()
    given = {"model": "weights", "adapter": "lora", "tokenizer": "words", "examples": ["shots", "s3://bucket/shots"]}
    given |= {"control": "sources", "metadata": "facts.csv", "transcripts": "speech"}
    there = Settings.from_dict(given).with_absolute_paths()
    assert (there.model.model, there.model.adapter) == (str(tmp_path / "weights"), str(tmp_path / "lora"))
    assert there.quality.tokenizer == str(tmp_path / "words")
    prompting = there.prompting
    assert list(map(str, prompting.examples)) == [str(tmp_path / "shots"), "s3://bucket/shots"]
    assert prompting.control == (tmp_path / "sources",) and prompting.metadata == tmp_path / "facts.csv"
    assert prompting.transcript_path == tmp_path / "speech"
    names = {"model": "demo", "adapter": "org/lora", "tokenizer": "org/words", "transcripts": "auto"}
    named = Settings.from_dict(names).with_absolute_paths()
    assert (named.model.model, named.model.adapter, named.quality.tokenizer) == ("demo", "org/lora", "org/words")
    assert named.prompting.transcripts == "auto"


def test_every_setting_that_is_a_path_is_known():
    """Actors get the paths of media and captions with each file, and need no other output."""
    found = {
        (group, name)
        for group, field in Settings.model_fields.items()
        for name, setting in field.annotation.model_fields.items()
        if "Path" in repr(setting.annotation)
    }
    known = {(group, name) for group, names in PATHS_READ.items() for name in names}
    carried, by_item = {("prompting", "prompt_file")}, {("selection", "output")}
    assert found <= known | carried | by_item
