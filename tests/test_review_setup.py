"""The options of a run on the review page, its command line, and saved setups. Without a browser."""

import shlex
import tomllib
from pathlib import Path

import pytest

from gemma_captioner.cli.caption import read_config_file
from gemma_captioner.cli.shell import app
from gemma_captioner.config.option_layout import COMMON, PANELS
from gemma_captioner.config.precedence import option_name
from gemma_captioner.config.settings import Settings
from gemma_captioner.errors import UsageError
from gemma_captioner.review.run_options import (
    COMMAND_LINE_ONLY,
    fields_of,
    option_groups,
    parse_fields,
    shown_value,
    value_of,
)
from gemma_captioner.review.run_setup import config_text, equivalent_command, has_tables
from gemma_captioner.review.saved_setups import SavedSetups

SETUPS = {
    "defaults": {},
    "preset": {"preset": "wan"},
    "preset with what it sets": {"preset": "wan", "frames": Settings.from_dict({"preset": "wan"}).sampling.frames},
    "preset and others": {"preset": "sdxl", "trigger": "sks dog", "frames": 20, "temperature": 0.7},
    "back to a default that the preset changed": {"preset": "sdxl-tags", "max_new_tokens": 256},
    "trainer": {"for_": "musubi:wan", "train_frames": "33,81"},
    "trainer with another target": {"for_": "musubi:wan", "target": "sdxl", "span": "head:2"},
    "texts": {"prompt": 'Say "it" \\ in\none $LINE', "prefix": "-x ", "suffix": " \u00e9\U0001f600\x7f"},
    "several": {"prompt": ("One.", "Two."), "include": ("*.png", "a b*.jpg"), "exclude": "x*"},
    "switches": {"timestamps": True, "exact_pixels": True, "recursive": True},
    "format": {"format": "ideogram4", "max_new_tokens": 256},
    "tables": {"image": {"prompt": "An image."}, "clip": {"max_new_tokens": 99}},
    "server": {"base_url": "http://localhost:8000/v1", "concurrency": 4, "model": "gemma"},
}


def on_command_line(line: str) -> Settings:
    """What `caption` would make of the command."""
    program, command, *words = shlex.split(line)
    assert (program, command) == ("gemma-captioner", "caption")
    _, bound, _ = app.parse_args(["caption", *words], exit_on_error=False, print_error=False)
    flags = dict(bound.kwargs)
    return Settings.from_dict(flags)


@pytest.mark.parametrize("name", SETUPS)
def test_the_config_file_and_the_command_line_give_the_same_settings(name, tmp_path):
    settings = Settings.from_dict(SETUPS[name])
    path = tmp_path / "setup.toml"
    path.write_text(config_text(settings, "for tests"), encoding="utf-8")
    read = Settings.from_dict(read_config_file(path, {}))
    assert read == settings
    assert [read.max_new_tokens(kind) for kind in ("image", "clip")] == [
        settings.max_new_tokens(kind) for kind in ("image", "clip")
    ]
    if has_tables(settings):
        assert name == "tables"
        return
    again = on_command_line(equivalent_command(settings, Path("my photos")))
    assert again == settings and again.settings_hash("clip") == settings.settings_hash("clip")


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, "gemma-captioner caption 'my photos'"),
        ({"frames": 12}, "gemma-captioner caption 'my photos'"),
        ({"preset": "wan"}, "gemma-captioner caption 'my photos' --preset wan"),
        ({"trigger": "sks dog"}, "gemma-captioner caption 'my photos' --trigger 'sks dog'"),
        ({"prefix": "--x"}, "gemma-captioner caption 'my photos' --prefix=--x"),
    ],
)
def test_the_command_line_has_only_what_differs_and_is_quoted(chosen, words):
    assert equivalent_command(Settings.from_dict(chosen), Path("my photos")) == words


def test_no_secret_is_in_a_setup():
    settings = Settings.from_dict({"hf_token": "hf_abcdefghijkl", "base_url": "https://me:secret@host/v1?key=k9"})
    for text in (config_text(settings), equivalent_command(settings, Path("x"))):
        assert "hf_a" not in text and "secret" not in text and "k9" not in text
        assert "https://host/v1" in text


def test_the_page_offers_every_setting_but_those_that_are_withheld():
    """Those are named on the page with the reason; the common ones come first, the panels are those of the help."""
    (title, common), *groups = option_groups()
    offered = [option.name for _, options in ((title, common), *groups) for option in options]
    known = {
        name
        for group, field in Settings.model_fields.items()
        if group not in ("image", "clip")
        for name in field.annotation.model_fields
    }
    withheld = {name for names in COMMAND_LINE_ONLY.values() for name in names}
    assert sorted(offered) == sorted(known - withheld) and withheld < known
    assert [title for title, _ in groups] == [title for title in PANELS if title in dict(groups)]
    assert [o.name for o in common][:5] == [name for name in COMMON["caption"] if name in offered][:5]
    assert all(option.help and option.label for _, options in groups for option in options)
    files = {option.name for _, options in option_groups(of_files=True) for option in options}
    assert {"recursive", "existing", "limit", "include", "stop_after"}.isdisjoint(files) and "frames" in files


def test_fields_become_settings_and_settings_become_fields(tmp_path):
    fields = {
        "prompt": "One.\nstill one\n---\nTwo.", "frames": " 8 ", "timestamps": "on", "exact_pixels": "off",
        "include": "*.png\n\na b*", "train_frames": "33,81", "for_": "musubi:wan", "prefix": " x ", "limit": "",
        "language": "german", "fps": "2.5", "transcripts": "auto:small",
    }  # fmt: skip
    values = parse_fields(fields, tmp_path, Settings())
    settings = Settings.from_dict(values)
    assert settings.prompting.prompt == ("One.\nstill one", "Two.") and settings.sampling.frames == 8
    assert settings.selection.include == ("*.png", "a b*") and settings.prompting.prefix == " x "
    assert settings.sampling.timestamps and "exact_pixels" in values and "limit" not in values
    assert settings.sampling.train_frames == (33, 81)
    shown = {name: shown_value(name, value_of(settings, name)) for name in fields}
    assert Settings.from_dict(parse_fields(shown, tmp_path, Settings())) == settings
    loaded = fields_of(tomllib.loads(config_text(settings)) | {"hf_token": "hf_x", "output": "/elsewhere"})
    assert "hf_token" not in loaded and "output" not in loaded
    assert Settings.from_dict(parse_fields(loaded, tmp_path, Settings())) == settings


def test_the_page_reads_nothing_outside_its_folder(tmp_path):
    folder, outside = tmp_path / "set", tmp_path / "private.txt"
    (folder / "sources").mkdir(parents=True)
    outside.write_text("secret")
    (folder / "prompt.txt").write_text("Describe it.")
    (folder / "link.txt").symlink_to(outside)
    inside = {"prompt_file": "prompt.txt", "control": "sources", "metadata": "~/x.csv", "examples": "s3://bucket"}
    found = parse_fields(inside, folder, Settings())
    assert found["prompt_file"] == str(folder / "prompt.txt") and found["control"] == (str(folder / "sources"),)
    assert found["metadata"] == str(folder / "~" / "x.csv") and found["examples"] == (str(folder / "s3:" / "bucket"),)
    for name, value in (
        ("prompt_file", "../private.txt"), ("prompt_file", str(outside)), ("prompt_file", "link.txt"),
        ("control", str(tmp_path)), ("format", str(tmp_path / "a.json")),
        ("transcripts", "/etc"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=rf"{option_name(name)} .*start `review` with {option_name(name)}"):
            parse_fields({name: value}, folder, Settings())
    with pytest.raises(UsageError, match="looks like an option"):
        parse_fields({"model": "--trust-remote-code"}, folder, Settings())
    given = Settings.from_dict({"prompt_file": str(outside)})
    assert parse_fields({"prompt_file": str(outside)}, folder, given) == {"prompt_file": str(outside)}
    assert parse_fields({"format": "ideogram4"}, folder, given) == {"format": "ideogram4"}


def test_setups_are_saved_with_the_dataset(tmp_path):
    setups = SavedSetups(tmp_path)
    assert setups.names() == []
    path = setups.save("my setup", config_text(Settings.from_dict({"frames": 9})))
    assert path == tmp_path / ".gemma-captioner" / "setups" / "my setup.toml"
    assert setups.names() == ["my setup"] and setups.read("my setup") == {"frames": 9}
    assert Settings.from_dict(read_config_file(path, {})).sampling.frames == 9
    assert [p.name for p in path.parent.iterdir()] == ["my setup.toml"]
    for name in ("../up", "", ".hidden", "a/b", "x" * 61):
        with pytest.raises(UsageError, match="the name of a setup"):
            setups.save(name, "")
    outside = tmp_path.parent / "outside.toml"
    (path.parent / "link.toml").symlink_to(outside)
    with pytest.raises(UsageError, match="points outside the folder"):
        setups.save("link", "frames = 1")
    assert not outside.exists()
    path.write_text("frames = ")
    with pytest.raises(UsageError, match="cannot be read"):
        setups.read("my setup")
