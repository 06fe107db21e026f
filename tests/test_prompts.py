"""Presets, and what prompts, prefixes and suffixes may say of the file at hand."""

import tomllib

import pytest

from conftest import captions, journal
from gemma_captioner.errors import UsageError
from gemma_captioner.prompts import VARIABLES, check, filled, preset_settings, preset_text, presets
from gemma_captioner.settings import Settings


def test_every_preset_is_whole_and_says_why():
    assert {"short-image", "detailed-image", "motion", "wan", "hunyuan", "ltx", "mochi", "flux", "sdxl"} <= set(
        presets()
    )
    assert {"character", "style", "motion-lora", "object"} <= set(presets())
    for name, preset in presets().items():
        assert set(preset) == {"description", "why", "settings"} and preset["why"].strip()
        settings = Settings.of({"preset": name, "trigger": "ohwx"})
        check(settings.prompts.values(), (), "ohwx")
        assert Settings.of(tomllib.loads(preset_text(name))).prompts == settings.prompts


def test_a_flag_beats_for_and_for_beats_a_preset():
    assert Settings.of({"preset": "sdxl"}).judging.target == "sdxl"
    assert Settings.of({"preset": "sdxl", "for": "musubi:wan"}).judging.target == "wan"
    assert Settings.of({"preset": "sdxl", "for": "musubi:wan", "target": "flux"}).judging.target == "flux"
    assert Settings.of({"preset": "sdxl", "prompt": "Mine."}).prompts == {"image": "Mine.", "clip": "Mine."}
    assert Settings.of({"preset": "sdxl"}, {"max_new_tokens": 7}).max_new_tokens("image") == 7
    assert preset_settings("sdxl")["target"] == "sdxl"  # not changed by what was laid over it


def test_the_motion_preset_is_the_originals():
    from gemma_captioner.settings import CLIP_PROMPT

    assert Settings.of({"preset": "motion"}).prompts["clip"] == CLIP_PROMPT


@pytest.mark.parametrize(("text", "says"), [
    ("A {stemm}", "{stem}, {filename}"), ("A {stem", "twice"), ("A {}", "no variable {}"),
    ("{stem.__class__}", "no variable"),
    ("{trigger}", "give --trigger"),
])  # fmt: skip
def test_a_variable_that_is_not_known_is_told_with_those_that_are(text, says):
    with pytest.raises(UsageError) as told:
        check([text], (), "")
    assert says in str(told.value)


def test_braces_are_written_twice_and_numbers_may_be_formatted():
    assert filled("{{a}} {duration:.1f}", {"duration": 2.46}) == "{a} 2.5"


def test_variables_and_facts_reach_prompt_prefix_and_suffix(command, media, script):
    names = sorted(p.name for p in media.iterdir())
    facts = media.parent / "facts.csv"
    facts.write_text(f'file_name,place,tags\n{names[0]},Lisbon,"a, b"\n{names[1].rpartition(".")[0]},Porto,\n')
    (media / names[0]).with_suffix(".txt").write_text("An old caption.")
    prompt = " ".join(f"{name}={{{name}}}" for name in VARIABLES) + " in {place}"
    done = command(
        "caption", media, "--engine", "scripted", "--model", script(default="An answer for it."), "--facts", facts,
        "--prompt", prompt, "--trigger", "ohwx", "--prefix", "{existing} ", "--suffix", " ({place})",
        "--existing", "overwrite", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = {line["path"]: line for line in journal(media) if line["kind"] == "caption"}
    said = lines[names[0]]["prompt"]
    assert f"filename={names[0]}" in said and "width=64" in said and said.endswith("in Lisbon") and "tags=a, b" in said
    assert captions(media)[f"{names[0].rpartition('.')[0]}.txt"] == "An old caption. ohwx An answer for it. (Lisbon)"
    assert lines[names[1]]["prompt"].endswith("in Porto")
    clip = next(name for name in names if name.endswith(".mp4"))
    assert "num_frames=12" in lines[clip]["prompt"] and "duration=0.0" not in lines[clip]["prompt"]


def test_what_is_wrong_with_a_prompt_is_told_before_any_model_is_loaded(command, media, tmp_path):
    (tmp_path / "facts.jsonl").write_text('{"colour": "red"}\n')
    for flags, says in (
        (("--prompt", "A {colour}"), "{stem}"),
        (("--preset", "nope"), "wan"),
        (("--facts", tmp_path / "facts.jsonl"), "file_name"),
        (("--facts", tmp_path / "none.csv"), "No such file"),
        (("--preset", "character"), "--trigger"),
    ):
        done = command("caption", media, "--model", "no/such-model", *flags)
        assert done.code == 2 and says in done.err, done.err


def test_presets_are_listed_and_shown(command):
    assert "sdxl" in command("presets").out
    assert tomllib.loads(command("presets", "show", "sdxl").out)["target"] == "sdxl"
    assert command("presets", "show", "nope").code == 2
