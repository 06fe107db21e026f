"""Presets, and what prompts, prefixes and suffixes may say of the file at hand."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from gemma_captioner import Captioned, Request, caption
from gemma_captioner.config.presets import preset_settings, preset_text, presets
from gemma_captioner.config.prompting import continues
from gemma_captioner.config.settings import Settings
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines import engine_for
from gemma_captioner.engines.scripted import ScriptedEngine, ScriptedSession
from gemma_captioner.errors import UsageError
from gemma_captioner.prompts.context import Context
from gemma_captioner.prompts.metadata import MetadataTable
from gemma_captioner.prompts.variables import VARIABLES, fill_template, validate_templates
from gemma_captioner.types import MediaItem
from tests.support.files import captions, journal


def test_every_preset_is_whole_and_says_why():
    assert {"short-image", "detailed-image", "motion", "wan", "hunyuan", "ltx", "mochi", "flux", "sdxl"} <= set(
        presets()
    )
    assert {"character", "style", "motion-lora", "object"} <= set(presets())
    for name, preset in presets().items():
        assert set(preset) - {"source", "needs_control"} == {"description", "why", "settings"} and preset["why"].strip()
        assert bool(preset.get("source")) == ("target" in preset["settings"]), "of a model, as its owner wants captions"
        control = {"control": "sources"} if preset.get("needs_control") else {}
        settings = Settings.from_dict({"preset": name, "trigger": "ohwx"} | control)
        validate_templates([prompt for prompts in settings.prompts.values() for prompt in prompts], (), "ohwx")
        assert Settings.from_dict(tomllib.loads(preset_text(name))).prompts == settings.prompts


def test_the_models_that_people_train_have_a_preset_in_their_owners_voice():
    listed = "ltx2 ltx2.5 wan2.2 hunyuan-1.5 minimax-h3 flux2 qwen-image z-image krea2 ideogram4 anima fibo".split()
    edits, tags = {"qwen-image-edit", "flux2-edit", "flux-kontext"}, {"anima", "sdxl-tags"}
    assert {*listed, *edits, *tags} <= set(presets())
    for name in {*listed, *edits, *tags} - {"sdxl-tags"}:
        prompts = Settings.from_dict({"preset": name} | ({"control": "sources"} if name in edits else {})).prompts
        for kind, [prompt] in prompts.items():
            says_absence = name.startswith("ltx2") and kind == "clip"  # its clips say that nobody speaks
            asks_for_nothing_absent = re.search(r"absent|Only (?:tags for )?what is visible|stays? the same", prompt)
            assert bool(asks_for_nothing_absent) != (says_absence or name == "minimax-h3"), (name, kind)
            assert "double quotes" in prompt or name in ("wan2.2", "ideogram4", "anima", "fibo"), (name, kind)
    for name in edits:
        with pytest.raises(UsageError, match="give their folder with --control"):
            Settings.from_dict({"preset": name})
        assert Settings.from_dict({"preset": name, "prompt": "Describe it."}).prompts["image"] == ("Describe it.",)
        assert "instruction" in presets()[name]["settings"]["prompt"]
    assert {presets()[name]["settings"]["format"] for name in tags} == {"tags"}


def test_a_flag_beats_for_and_for_beats_a_preset():
    assert Settings.from_dict({"for": "musubi:ideogram4"}).format.name == "ideogram4"
    assert Settings.from_dict({"preset": "wan", "for": "musubi:minimax-h3"}).format.name == "minimax-h3"
    assert Settings.from_dict({"preset": "fibo", "for": "musubi:wan"}).format.name == "fibo"  # wan's own is no format
    assert Settings.from_dict({"for": "musubi:ideogram4", "format": "prose"}).format.name == "prose"
    assert Settings.from_dict({"preset": "sdxl"}).quality.target == "sdxl"
    assert Settings.from_dict({"preset": "sdxl", "for": "musubi:wan"}).quality.target == "wan"
    assert Settings.from_dict({"preset": "sdxl", "for": "sd-scripts"}).quality.target == "sdxl"  # which names no model
    assert Settings.from_dict({"preset": "sdxl", "for": "musubi:wan", "target": "flux"}).quality.target == "flux"
    assert Settings.from_dict({"preset": "sdxl", "prompt": "Mine."}).prompts == {
        "image": ("Mine.",),
        "clip": ("Mine.",),
    }
    assert Settings.from_dict({"preset": "sdxl"}, {"max_new_tokens": 7}).max_new_tokens("image") == 7
    assert preset_settings("sdxl")["target"] == "sdxl"  # not changed by what was laid over it


def test_for_on_the_command_line_overrides_that_of_a_config_file():
    """The file calls it `for`, the command line `for_`."""
    made = Settings.from_dict({"for": "musubi:wan"}, {"for_": "ltx:ltx2.5"})
    assert (made.sampling.for_, made.quality.target) == ("ltx:ltx2.5", "ltx2.5")


def test_a_table_of_a_config_file_keeps_what_the_preset_says_of_that_kind():
    made = Settings.from_dict({"preset": "minimax-h3", "image": {"max_new_tokens": 50}})
    assert made.max_new_tokens("image") == 50
    assert made.prompts == Settings.from_dict({"preset": "minimax-h3"}).prompts
    assert "max_new_tokens" not in preset_settings("minimax-h3")["image"]  # not changed by what was laid over it
    mine = Settings.from_dict({"preset": "minimax-h3", "image": {"prompt": "Mine."}})
    assert "Mine." in mine.prompts["image"][0] and mine.prompts["clip"] == made.prompts["clip"]
    setup = Settings.from_dict({"image": {"max_new_tokens": 50}}, {"image": {"prompt": "Mine."}})
    assert setup.max_new_tokens("image") == Settings().max_new_tokens("image")  # a setup shows all that it sets


def test_the_motion_preset_is_the_originals():
    from gemma_captioner.config.prompting import CLIP_PROMPT

    assert Settings.from_dict({"preset": "motion"}).prompts["clip"] == (CLIP_PROMPT,)


@pytest.mark.parametrize(("text", "says"), [
    ("A {stemm}", "{stem}, {filename}"), ("A {stem", "double it"), ("A {}", "unknown variable {}"),
    ("{stem.__class__}", "unknown variable"),
    ("{trigger}", "give --trigger"), ("{stem:d}", "variable format"), ("{width!x}", "variable format"),
    ("{stem:{widht}}", "widht"),
])  # fmt: skip
def test_a_variable_that_is_not_known_is_told_with_those_that_are(text, says):
    with pytest.raises(UsageError) as told:
        validate_templates([text], (), "")
    assert says in str(told.value)
    validate_templates(["{width:d} {duration:.1f} {stem:>{width}}"], (), "")


def test_braces_are_written_twice_and_numbers_may_be_formatted():
    assert fill_template("{{a}} {duration:.1f}", {"duration": 2.46}) == "{a} 2.5"


def test_a_column_that_overrides_a_number_is_text():
    """A format for numbers would end the run at the first file."""
    with pytest.raises(UsageError, match="invalid variable format"):
        validate_templates(["{duration:.1f}"], ["duration"], "")
    validate_templates(["{duration:+It lasts {duration}.} {width:d}"], ["duration"], "")


@pytest.mark.parametrize("named", ["./day 1/a.png", "day 1\\a.png", "/photos/day 1/a.png", "a.png", "a"])
def test_a_row_names_its_file_by_path_name_or_stem_and_a_list_is_text(tmp_path, named):
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": named, "tags": ["red", None, "round"], "n": 3, "none": []}))
    table = MetadataTable(tmp_path / "m.jsonl")
    item = MediaItem(Path("/photos/day 1/a.png"), "image", "day 1/a.png", Path(), Path())
    assert table.lookup(item) == {"tags": "red, round", "n": "3", "none": ""}


def test_variables_and_facts_reach_prompt_prefix_and_suffix(command, media, script):
    names = sorted(p.name for p in media.iterdir())
    facts = media.parent / "facts.csv"
    rows = [names[0], names[1].rpartition(".")[0], *names[2:]]
    places = ["Lisbon", *["Porto"] * len(names)]
    facts.write_text(
        "file_name,place,tags\n" + "".join(f'{f},{p},"a, b"\n' for f, p in zip(rows, places, strict=False))
    )
    (media / names[0]).with_suffix(".txt").write_text("An old caption.")
    named = [name for name in VARIABLES if name not in ("previous", "transcript")]
    prompt = " ".join(f"{name}={{{name}}}" for name in named) + " in {place}"
    done = command(
        "caption", media, "--engine", "scripted", "--model", script(default="An answer for it."), "--facts", facts,
        "--prompt", prompt, "--trigger", "ohwx", "--prefix", "{existing} ", "--suffix", " ({place})",
        "--existing", "overwrite", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = {line["path"]: line for line in journal(media) if line["kind"] == "caption"}
    [said] = lines[names[0]]["prompts"]
    assert f"filename={names[0]}" in said and "width=64" in said and said.endswith("in Lisbon") and "tags=a, b" in said
    assert captions(media)[f"{names[0].rpartition('.')[0]}.txt"] == "An old caption. ohwx An answer for it. (Lisbon)"
    assert lines[names[1]]["prompts"][0].endswith("in Porto")
    clip = next(name for name in names if name.endswith(".mp4"))
    [said] = lines[clip]["prompts"]
    assert "num_frames=12" in said and "duration=0.0" not in said


@pytest.mark.parametrize(("name", "text", "says"), [
    ("f.jsonl", '{"file_name": "a", "place": "x"}\n\n{"place": "y"}\n', "line 3: 'file_name' is empty"),
    ("f.jsonl", '{"file_name": "a"}\n["b"]\n', "line 2 is not a JSON object"),
    ("f.jsonl", '{"file_name": "a"}\n{"b\n', "line 2 is not valid JSON"),
    ("f.jsonl", "[" * 100_000, "line 1 is not valid JSON"),
    ("f.csv", 'file_name,place\na,"New\nYork"\n,Porto\n', "line 4: 'file_name' is empty"),
    ("f.csv", "file_name,place\na,New York, USA\n", "line 2 has more cells"),
    ("f.csv", "file_name,place\na,Rome\nb,Oslo\na,Rome\nb,Bern\n", "lines 3 and 5 say different things about b"),
])  # fmt: skip
def test_facts_that_make_no_sense_are_told_with_their_line(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as told:
        MetadataTable(tmp_path / name)
    assert says in str(told.value) and str(tmp_path / name) in str(told.value)


@pytest.mark.parametrize(("name", "text"), [
    ("f.jsonl", '{"file_name": "a", "tags": "\u2028"}\n{"file_name": "b", "place": "New\\nYork"}\n'),
    ("f.csv", '\ufefffile_name,tags,place\r\na,\u2028\r\nb,,"New\nYork"\r\n,,,\r\n'),
    ("f.csv", '\ufefffile_name;tags;place\r\na;\u2028\r\nb;;"New\nYork"\r\n'),
    ("f.tsv", 'file_name\ttags\tplace\na\t\u2028\nb\t\t"New\nYork"\n'),
])  # fmt: skip
def test_columns_of_all_rows_and_cells_of_several_lines(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    facts = MetadataTable(tmp_path / name)
    assert facts.columns == ["tags", "place"]
    lookup = {stem: facts.lookup(MediaItem(Path(stem), "image", stem, Path(), Path())) for stem in "abc"}
    assert lookup == {
        "a": {"tags": "\u2028", "place": ""}, "b": {"tags": "", "place": "New\nYork"}, "c": {"tags": "", "place": ""},
    }  # fmt: skip


# Several prompts


def test_several_prompts_give_several_captions_and_the_first_is_the_files(command, media, script):
    name = min(p.name for p in media.iterdir())
    path = script(default="{prompt} is asked of {name}.")
    engine = ("--engine", "scripted", "--model", path)
    done = command("caption", media, *engine, "--prompt", "Style", "--prompt", "Motion", "--trigger", "ohwx", "--json")
    assert done.code == 0 and done.json["captioned"] == 8
    said = [f"ohwx {prompt} is asked of {name}." for prompt in ("Style", "Motion")]
    assert captions(media)[f"{name.rpartition('.')[0]}.txt"] == said[0]
    [line] = [line for line in journal(media) if line.get("path") == name]
    assert line["prompts"] == ["Style", "Motion"] and line["captions"] == said and len(line["raw"]) == 2
    config = media.parent / "two.toml"
    config.write_text('[[prompts]]\nprompt = "Style"\n[[prompts]]\nprompt = "Motion"\n')
    again = command("caption", media, *engine, "--config", config, "--trigger", "ohwx", "--existing", "stale", "--json")
    assert again.json["captioned"] == 0, "asked the same, by the config file"
    lines = ("--for", "onetrainer", "--existing", "overwrite", "--json")
    assert command("caption", media, *engine, "--config", config, "--trigger", "ohwx", *lines).code == 0
    assert captions(media)[f"{name.rpartition('.')[0]}.txt"] == "\n".join(said)


def test_one_prompt_without_a_fit_answer_costs_the_item_and_no_other(command, media, script):
    names = sorted(p.name for p in media.iterdir())
    path = script(batch_size=3, replies={
        names[0]: ["A red circle.", "I'm sorry, I can't describe this."], names[1]: ["I cannot help.", "A blue star."],
    })  # fmt: skip
    asked = ("--prompt", "One", "--prompt", "Two", "--retries", 1, "--json")
    done = command("caption", media, "--engine", "scripted", "--model", path, *asked)
    assert done.code == 3 and done.json["captioned"] == 7 and names[0] in done.json["failures"][0]["path"]
    assert f"{names[0].rpartition('.')[0]}.txt" not in captions(media)
    [line] = [line for line in journal(media) if line.get("path") == names[1]]
    assert line["captions"] == ["A blue star."] * 2 and line["rejected"] == ["I cannot help."]


def test_prompts_of_a_config_file_are_tables():
    with pytest.raises(UsageError, match="prompts"):
        Settings.from_dict({"prompts": ["One", "Two"]})
    assert Settings.from_dict({"prompts": [{"prompt": "One"}]}, {"prompt": "Mine"}).prompts["image"] == ("Mine",)


# Examples


def test_examples_reach_the_model_as_turns_with_their_frames(media, tmp_path):
    examples = tmp_path / "examples"
    shown = draw_samples(examples, images=1, clips=1, seed=5)
    for name in shown:
        (examples / name).with_suffix(".txt").write_text(f"Said of {name}.\n")
    draw_samples(examples, images=1, clips=0, seed=99)  # one without a caption is no example
    asked: list[Request] = []

    class Listening(ScriptedSession):
        def submit(self, request):
            asked.append(request)
            super().submit(request)

    engine = ScriptedEngine()
    engine.open = lambda: Listening(engine.script)
    outcomes = list(caption(media, engine=engine, examples=examples, prompt="What is {stem}?", frames=4))
    assert all(isinstance(outcome, Captioned) for outcome in outcomes) and len(asked) == 8
    for request in asked:
        [example] = request.context
        [name] = [name for name in shown if name.endswith(".mp4") == (request.frames.kind == "clip")]
        assert example.answer == f"Said of {name}." and example.text == f"What is {name.rpartition('.')[0]}?"
        assert len(example.frames.pixels) == len(request.frames.pixels)


def test_examples_change_what_the_demo_model_reads_and_are_counted(tmp_path):
    (tmp_path / "lines.txt").write_text("A red circle on a blue background.\n\nA star.\n")
    plain, shown = (Settings.from_dict({"model": "demo"}, more) for more in ({}, {"examples": tmp_path / "lines.txt"}))
    few, many = (
        engine_for(settings, context=Context(settings).planned).prompt_tokens("Say.", "image", 1)
        for settings in (plain, shown)
    )
    assert many - few > 15
    assert plain.settings_hash("image") != shown.settings_hash("image")


@pytest.mark.parametrize("made", [None, "folder", "file"])
def test_examples_that_are_none_are_told(tmp_path, made):
    place = tmp_path / "examples"
    if made == "folder":
        place.mkdir()
    elif made == "file":
        place.write_text("\n")
    with pytest.raises(UsageError, match="--examples"):
        list(caption(tmp_path, engine=ScriptedEngine(), examples=place))


def test_what_is_wrong_with_a_prompt_is_told_before_any_model_is_loaded(command, media, tmp_path):
    (tmp_path / "facts.jsonl").write_text('{"colour": "red"}\n')
    for flags, says in (
        (("--prompt", "A {colour}"), "{stem}"),
        (("--preset", "nope"), "wan"),
        (("--facts", tmp_path / "facts.jsonl"), "file_name"),
        (("--facts", tmp_path / "none.csv"), "no such file"),
        (("--preset", "character"), "--trigger"),
    ):
        done = command("caption", media, "--model", "no/such-model", *flags)
        assert done.code == 2 and says in done.err, done.err


def test_presets_are_listed_and_shown(command):
    assert "sdxl" in command("presets").out
    assert tomllib.loads(command("presets", "show", "sdxl").out)["target"] == "sdxl"
    assert command("presets", "show", "nope").code == 2


def test_a_condition_with_the_answer_before_continues_it():
    assert continues("{existing:+Improve {previous}}") and not continues("{existing:+Improve {stem}}")
