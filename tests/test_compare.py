"""`compare`: which files, which variants, what is shown of them, and what is left alone."""

import json
import signal
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from gemma_captioner.compare.sample import evenly_spaced
from gemma_captioner.compare.shared_engine import SharedEngine, SharedModel
from gemma_captioner.compare.variants import MAX_VARIANTS, Axes, Variant, build_variants, group_by_model
from gemma_captioner.config.settings import Settings
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines import session_key
from gemma_captioner.errors import UsageError
from gemma_captioner.types import Frames, MediaItem, Request
from tests.support.command import Command
from tests.support.files import captions


class Page(HTMLParser):
    """A page's text and elements, as a browser has them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.elements, self.pictures = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def compare(command) -> Command:
    """Run `gemma-captioner compare ARGS...`."""
    return lambda *args: command("compare", *args)


def scripted(folder: Path, name: str = "script.json", **values: object) -> Path:
    (folder / name).write_text(json.dumps(values))
    return folder / name


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("total", "count", "places"),
    [
        (60, 6, [5, 15, 25, 35, 45, 55]),
        (7, 3, [1, 3, 5]),
        (4, 6, [0, 1, 2, 3]),
        (1, 6, [0]),
        (10**5, 2, [25_000, 75_000]),
    ],
)
def test_a_sample_is_spread_over_what_there_is(total, count, places):
    assert evenly_spaced(total, count) == places


def test_variants_are_the_product_with_those_of_a_model_together():
    axes = Axes(models=["a", "b"], prompts=["One."], presets=["wan"], frames=[4, 8])
    variants = build_variants(
        axes, {"prompt": "of the config", "clip": {"prompt": "of its clips"}}, {"trigger": "ohwx"}
    )
    assert [(v.letter, v.name) for v in variants] == [
        ("A", 'a, "One.", 4 frames'),
        ("B", 'a, "One.", 8 frames'),
        ("C", "a, preset wan, 4 frames"),
        ("D", "a, preset wan, 8 frames"),
        ("E", 'b, "One.", 4 frames'),
        ("F", 'b, "One.", 8 frames'),
        ("G", "b, preset wan, 4 frames"),
        ("H", "b, preset wan, 8 frames"),
    ]
    first, wan = variants[0].settings, variants[2].settings
    assert first.prompts["clip"] == ("One.",) and first.quality.target is None
    assert "80 to 100 words" in wan.prompts["clip"][0] and wan.quality.target == "wan"
    assert {v.settings.prompting.trigger for v in variants} == {"ohwx"}
    [(of_a, together), (of_b, _)] = group_by_model(variants)
    assert [v.letter for v in together] == ["A", "B", "C", "D"]
    assert (of_a.model.model, of_b.model.model) == ("a", "b")
    assert of_a.sampling.frames == 8 and of_a.max_new_tokens("clip") == 256  # what the most demanding takes
    assert set(of_a.prompts["clip"]) == {"One.", wan.prompts["clip"][0]}


@pytest.mark.parametrize(
    ("values", "is_shared"),
    [
        ({"prompt": "Another.", "frames": 5, "max_new_tokens": 9, "fps": 1.0, "trigger": "ohwx"}, True),
        *(
            ({name: value}, False)
            for name, value in {
                "model": "b", "quantize": "8bit", "order": "text-first", "system": "Be brief.", "begin": "A",
                "examples": "shots", "control": "sources", "timestamps": True, "audio": "on", "for": "musubi:ltx",
                "span": "head:4.5", "api_key_env": "MY_KEY", "base_url": "http://localhost:1",
            }.items()
        ),
    ],
    ids=str,
)  # fmt: skip
def test_variants_share_a_model_if_its_session_reads_the_same(values, is_shared):
    layers = {"model": "a", "prompt": "One."}, {"model": "a", "prompt": "One."} | values
    variants = [Variant(layer["model"], "", (layer,), Settings.from_dict(layer)) for layer in layers]
    assert len(list(group_by_model(variants))) == (1 if is_shared else 2)
    first, second = (session_key(variant.settings) for variant in variants)
    assert (first == second) == is_shared


def test_what_is_not_an_axis_is_as_the_config_has_it():
    [only] = build_variants(Axes(), {"prompt": "of the config", "frames": 5, "model": "demo"}, {})
    assert (only.name, only.settings.prompts["image"], only.settings.sampling.frames) == ("demo", ("of the config",), 5)
    assert [v.name for v in build_variants(Axes(frames=[3, 3]))] == ["3 frames"]


def test_prompts_that_begin_alike_have_names_of_their_own():
    long = "Describe what happens in this clip from its first frame to its last one"
    names = [v.name for v in build_variants(Axes(prompts=[f"{long}, twice.", f"{long}, once."]))]
    assert len(set(names)) == 2


def test_more_than_can_be_read_is_refused():
    with pytest.raises(UsageError, match=r"3 x 6 = 18 variants, but the limit is 16"):
        build_variants(Axes(models=["a", "b", "c"], frames=range(1, 7)))
    assert len(build_variants(Axes(frames=range(1, MAX_VARIANTS + 1)))) == MAX_VARIANTS


def test_the_demo_model_is_loaded_once_and_shown_with_its_frames(compare, tmp_path):
    truth = draw_samples(tmp_path / "media", images=1, clips=1, seed=3)
    page = tmp_path / "pages" / "here.html"
    done = compare(
        tmp_path / "media", "--model", "demo", "--frames", 12, "--frames", 2, "--target", "sdxl",
        "--html", page, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    a, b = done.json["variants"]
    assert {Path(c["path"]).name: c["caption"] for c in a["captions"]} == truth
    assert a["load_seconds"] > 0 and b["load_seconds"] is None
    assert done.err.count("still loaded") == 1
    image, clip = b["captions"]
    assert image["frame_times_s"] == [0] and len(clip["frame_times_s"]) == 2
    assert 0 < clip["tokens"] <= b["limit"] == 75 and clip["words"] == len(clip["caption"].split())
    shown = Page(page.read_text())
    assert len(shown.pictures) == 1 + 12 + 2  # the image once, the clip as each saw it
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in shown.pictures)
    for caption in truth.values():
        assert caption in shown.text


def test_nothing_beside_the_media_changes_and_captioned_files_take_part(compare, media, tmp_path):
    for file in sorted(media.iterdir())[:4]:
        file.with_suffix(".txt").write_text("by hand")
    before = files_below(media)
    one = scripted(tmp_path, "one.json", default="One says {prompt}")
    done = compare(
        media, "--engine", "scripted", "--model", one, "--prompt", "was {existing} here.", "--prompt", "Two.",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.count("One says was by hand here.") == 3 and done.out.count("One says was here.") == 3
    after = files_below(media)
    [page] = after.keys() - before.keys()
    assert page.startswith(".gemma-captioner/compare/") and page.endswith(".html")
    assert before == {name: after[name] for name in before}
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.out.count("One says") == 6 * 2


def test_what_a_model_or_a_file_says_is_text_on_the_page(compare, tmp_path):
    [name] = draw_samples(tmp_path / "media", images=1, clips=0)
    (tmp_path / "media" / name).rename(tmp_path / "media" / "<b>bold<b>.png")
    caption = 'A red sign says "<script>alert(1)</script>" & more.'
    done = compare(
        tmp_path / "media", "--engine", "scripted", "--model", scripted(tmp_path, default=caption),
        "--prompt", "<u>Why?</u>", "--prompt", "Who?", "--html", tmp_path / "page.html",
    )  # fmt: skip
    assert done.code == 0, done.err
    page = Page((tmp_path / "page.html").read_text())
    assert not {"b", "i", "u", "script"}.intersection(page.elements)
    for said in (caption, "<u>Why?</u>", "<b>bold<b>.png"):
        assert said in page.text


def test_a_variant_that_cannot_start_is_shown_and_the_others_go_on(compare, media, tmp_path):
    (media / "00-broken.png").write_bytes(b"no picture")
    script = scripted(tmp_path)
    arguments = [media, "--engine", "scripted", "--limit", 20, "--model", tmp_path / "missing.json"]
    done = compare(*arguments, "--model", script, "--json")
    assert done.code == 3, done.err
    missing, good = done.json["variants"]
    assert "missing.json" in missing["error"] and missing["captions"] == []
    assert (good["error"], good["failed"], len(good["captions"])) == (None, 1, 9)
    assert [c["error"] is None for c in good["captions"]] == [False] + [True] * 8
    page = Page(Path(done.json["html"]).read_text())
    assert missing["error"] in page.text and good["captions"][0]["error"] in page.text
    shown = compare(*arguments, "--model", script)
    assert " ".join(shown.out.split()).count("failed: ") == 2  # the file, and the model
    assert max(map(len, shown.out.splitlines())) <= 80
    alone = compare(*arguments)
    assert alone.code == 1 and "missing.json" in alone.err and alone.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--preset", "wan", "--preset", "character"], 2, "give --trigger WORD"),
        (["--preset", "wan", "--preset", "nonesuch"], 2, "Available: anima, character"),
        (["--frames", "4", "--frames", "0"], 2, "--frames 0: give 1 or more"),
        (["--include", "*.bmp"], 1, "no images or clips"),
        (["--html", __file__ + "/page.html"], 1, "give another path with --html"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_starts(compare, media, tmp_path, arguments, code, said):
    done = compare(media, "--engine", "scripted", "--model", scripted(tmp_path), *arguments)
    assert done.code == code and said in done.err, done.err
    assert "A (of" not in done.err and done.out == ""


def test_a_model_is_lent_again_and_again_unless_it_still_owes_an_answer(tmp_path):
    settings = Settings.from_dict({"engine": "scripted", "model": str(scripted(tmp_path))})
    item = MediaItem(tmp_path / "a.png", "image", "a.png", tmp_path / "a.txt", tmp_path)
    request = Request(0, item, Frames(np.zeros((1, 8, 8, 3), np.uint8), (0.0,)), "What?", 9)
    shared_model = SharedModel(settings)
    loaded = shared_model.session()
    for is_answered in (True, False):
        with SharedEngine(shared_model, settings, lambda request: None).open() as session:
            session.submit(request)
            if is_answered:
                assert len(session.poll(0.1)) == 1
        assert (shared_model.session() is loaded) == is_answered


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_keeps_what_is_there(fork_server, media, tmp_path):
    script = scripted(tmp_path, delay_s=0.3, batch_size=1)
    words = [
        "compare", media, "--engine", "scripted", "--model", script, "--limit", "2", "--prompt", "One.",
        "--prompt", "Two.", "--html", tmp_path / "page.html",
    ]  # fmt: skip
    with fork_server.start(list(map(str, words)), media, {"COLUMNS": "200"}) as running:
        while "B (of 2)" not in running.err:
            assert running.poll() is None, "it ended before its second variant"
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        done = running.wait()
    assert done.code == 130
    assert "A scripted caption" in done.out
    assert Page((tmp_path / "page.html").read_text()).text.count("A scripted caption") >= 2
    assert captions(media) == {}
