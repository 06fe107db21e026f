"""`check --trigger`: spellings of the trigger word, phrases in the same captions, and which the model sees."""

import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.trigger import NOT_SEEN, TUNED_ON, Score, read_folder, report_on, score
from gemma_captioner.check.inspect import Inspection
from gemma_captioner.check.look import LookPlan, LookResult, parse_answers, question
from gemma_captioner.check.settings import CheckSettings
from gemma_captioner.check.trigger.lexicon import stem
from gemma_captioner.check.trigger.report import TriggerReport
from gemma_captioner.check.trigger.word import trigger_use
from tests.support.servers import HttpResponse, StubServer, completion, images_in, prompt_of

DATA = Path(__file__).parent / "data"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten pictures; all captions have a red scarf, six of them green eyes."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    places = "a boat, a field, a library, a bridge, a market, an attic, a tunnel, a pier, a barn, a meadow".split(", ")
    for number, place in enumerate(places):
        Image.new("RGB", (64, 64), (20 * number, 90, 200)).save(folder / f"{number}.png")
        eyes = " with green eyes" if number < 6 else ""
        (folder / f"{number}.txt").write_text(f"A photo of ohwx{eyes} and a red scarf in {place}.")
    return folder


# Spellings


@pytest.mark.parametrize(("trigger", "text", "is_exact", "variants", "inside"), [
    ("ohwx", "ohwx stands.", True, set(), set()),
    ("ohwx", "Ohwx stands.", False, {"Ohwx"}, set()),
    ("ohwx", "A hat: ohwx's.", True, {"ohwx's"}, set()),
    ("ohwx", "ohwxx sits", False, {"ohwxx"}, set()),
    ("ohwx", "ohvx sits", False, {"ohvx"}, set()),
    ("ohwx", "ohxw sits", False, {"ohxw"}, set()),
    ("ohwx", "ohwx-style, (ohwx:1.2)", True, set(), set()),
    ("ohwx", "ohwx_woman", False, set(), {"ohwx_woman"}),
    ("ohwx", "a fox", False, set(), set()),
    ("sks", "the sky over desks", False, set(), {"desks"}),
    ("art", "art on a cart", True, set(), {"cart"}),
    ("ohwx woman", "ohwx  woman, Ohwx woman", True, {"Ohwx woman"}, set()),
    ("<sks>", "a <sks> dog", True, set(), set()),
])  # fmt: skip
def test_how_a_caption_spells_the_trigger(trigger, text, is_exact, variants, inside):
    use = trigger_use([text], trigger)
    assert (use.is_exact, use.variants, use.inside) == (is_exact, variants, inside)


def test_findings_are_of_the_folder_and_count_captions():
    report = report_on(read_folder("character"))
    found = list(report.findings())
    assert {f.path for f in found} == {"dataset"}
    assert ("no_trigger", "2 of 40 captions (18.txt, 33.txt)") in {(f.code, f.detail) for f in found}
    spellings = {f.detail for f in found if f.code == "trigger_spelling"}
    assert spellings == {
        "'Ohwx' in 1 of 40 captions (17.txt)", "\"ohwx's\" in 1 of 40 captions (23.txt)",
        "'ohwxx' in 1 of 40 captions (29.txt)",
    }  # fmt: skip
    [jacket] = [f for f in found if "denim" in f.detail]
    assert (jacket.code, jacket.detail) == ("fused_with_trigger", '"denim jacket" (clothing) in 35 of 38 captions')
    assert {f.detail.split('"')[1] for f in found if f.code == "names_identity"} == {
        "auburn hair", "freckles", "young woman", "green eyes"
    }  # fmt: skip


def test_words_that_contain_the_trigger_are_one_finding_and_a_placeholder_is_the_trigger():
    captions = ["[trigger] in masks and risks", "sks by a desks row", "a bird", "Sks in masks"]
    found = [(f.code, f.detail) for f in report_on({"trigger": "sks", "captions": captions}).findings()]
    assert found == [
        ("no_trigger", "1 of 4 captions (02.txt)"),
        ("trigger_spelling", "'Sks' in 1 of 4 captions (03.txt)"),
        ("trigger_in_word", "'masks', 'desks', 'risks', in 3 of 4 captions (00.txt, 03.txt, 01.txt)"),
    ]
    report = TriggerReport("sks", Path("dataset"), CheckSettings(for_="musubi"))
    report.add("a.txt", Inspection([], "[trigger] sits"))
    assert [f.code for f in report.findings()] == ["trigger_absent"]
    [absent, inside] = report_on({"trigger": "ohwx", "captions": ["ohwx_man sits"] * 5}).findings()
    assert absent.code == "trigger_absent" and "00.txt, 01.txt, 02.txt and 2 more" in inside.detail


# Phrases


def test_phrases_against_labels():
    """docs/check.md has the figures, and those of the first time for the folders that the rules had not seen."""
    tuned, unseen = (sum(map(score, names), Score()) for names in (TUNED_ON, NOT_SEEN))
    assert tuned.precision >= 0.95 and tuned.recall >= 0.9
    assert unseen.precision >= 0.95 and unseen.recall >= 0.9


def test_captions_of_many_subjects_share_nothing_with_the_trigger():
    """They share words such as "photo", "wearing" and "background"."""
    texts = [(DATA / f"{name}.jsonl").read_text(encoding="utf-8") for name in ("flags", "flags-unseen")]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    good = [x["caption"] for x in lines if not x["expected"] and x["flag"] != "not_in_language"]
    for seed in range(8):
        captions = random.Random(seed).sample(good, 40)
        assert report_on({"trigger": "ohwx", "captions": [f"A photo of ohwx. {c}" for c in captions]}).phrases == []


def captions_of(template: str, count: int = 20) -> list[str]:
    """Captions that differ in one word."""
    things = "boat field library bridge market attic tunnel pier barn meadow".split()
    return [template.format(things[n % 10] + ("" if n < 10 else "side")) for n in range(count)]


def phrases(captions: list[str], language: str = "english") -> dict[str, str]:
    report = TriggerReport("ohwx", Path("dataset"), CheckSettings(language=language))
    for number, caption in enumerate(captions):
        report.add(f"{number}.txt", Inspection([], caption))
    return {phrase.phrase: phrase.kind for phrase in report.phrases}


@pytest.mark.parametrize(("template", "expected"), [
    ("A photo of ohwx, the image shows a {} on the left.", {}),  # words of any caption
    ("ohwx by a {}. The overall mood is serene, creating a sense of depth that draws the viewer's attention.", {}),
    ("ohwx backpack next to a {}.", {}),  # what the trigger is
    ("ohwx woman in a {}, she is standing.", {}),
    ("ohwx in a {}, wearing a black leather jacket.", {"black leather jacket": "clothing"}),
    ("ohwx looks directly at the camera in a {}.", {"looks at camera": "pose"}),
    ("ohwx style, a {} in watercolor.", {"watercolor": "medium"}),
    ("ohwx, a drawing of a {}.", {"drawing": "medium"}),
    ("ohwx by a {}, in soft natural light.", {"soft natural light": "light"}),
    ("ohwx at a {}, a lantern to the right.", {"lantern": "other"}),
])  # fmt: skip
def test_what_a_phrase_names(template, expected):
    assert phrases(captions_of(template)) == expected


def test_looks_that_differ_are_no_identity():
    colors = "red black blonde brown white".split() * 4
    varied = [f"ohwx at a pier, a guest with {color} hair." for color in colors]
    assert "black hair" not in phrases(varied)
    same = [f"ohwx, {color} hair." if n % 5 == 1 else f"ohwx at a {color} pier." for n, color in enumerate(colors)]
    assert phrases(same)["black hair"] == "appearance"


def test_a_phrase_as_frequent_without_the_trigger_is_not_bound_to_it():
    with_trigger = captions_of("ohwx in a {}, wearing a black jacket.")
    assert phrases(with_trigger + captions_of("a man in a {}, wearing a black jacket.")) == {}
    without = [*captions_of("a man in a {}, wearing a white shirt.", 9), "a man in a black jacket."]
    report = TriggerReport("ohwx", Path("dataset"))
    for number, caption in enumerate(with_trigger + without):
        report.add(f"{number}.txt", Inspection([], caption))
    [phrase] = report.phrases
    assert phrase.phrase == "black jacket" and phrase.lift == 10
    assert "in 20 of 20 captions with the trigger, 10.0 times as often as without" in list(report.findings())[-1].detail


def test_few_captions_and_other_languages_are_not_judged():
    assert phrases(captions_of("ohwx in a {} and a red scarf.", 7)) == {}
    assert phrases(captions_of("ohwx tr\u00e4gt in der {} einen roten Schal."), "german") == {}


@pytest.mark.parametrize(("one", "other"), [
    ("jacket", "jackets"), ("smiling", "smiles"), ("blurred", "blurry"), ("eye", "eyes"), ("dress", "dresses"),
    ("freckle", "freckles"), ("sit", "sitting"), ("string", "strings"),
])  # fmt: skip
def test_forms_of_a_word_are_one(one, other):
    assert stem(one) == stem(other) and stem("ear") != stem("earring")


# The command


def test_the_command_reports_in_the_terminal_as_json_and_as_a_page(command, folder):
    done = command("check", folder, "--trigger", "ohwx", "--json")
    assert done.code == 0 and {f["path"] for f in done.json["findings"]} == {str(folder)}
    assert done.json["trigger"]["with_trigger"] == done.json["trigger"]["captions"] == 10
    scarf, eyes = done.json["trigger"]["phrases"]
    assert scarf == {
        "phrase": "red scarf", "kind": "clothing", "changeable": True, "captions": 10, "share": 1.0, "lift": None,
        "visible": None, "looked_at": None,
    }  # fmt: skip
    assert (eyes["phrase"], eyes["changeable"], eyes["captions"]) == ("green eyes", False, 6)
    page = Path(done.json["report"]).read_text()
    assert "Trigger word <code>ohwx</code>" in page and "red scarf" in page and "10 of 10" in page
    said = command("check", folder, "--trigger", "ohwx")
    assert '"red scarf" (clothing) in 10 of 10 captions' in said.out and "->" in said.out
    assert "trigger" not in command("check", folder, "--json").json


def test_a_trigger_that_no_caption_has_is_an_error(command, folder):
    done = command("check", folder, "--trigger", "zwx", "--json")
    assert done.code == 3 and [f["code"] for f in done.json["findings"]] == ["trigger_absent"]


def test_structured_captions_count_by_their_texts(command, folder):
    for path in folder.glob("*.txt"):
        scene = path.read_text()
        path.write_text(
            f"integrated_multimodal_description: [Shot 1] {scene} The camera is static.\n\n"
            "overall_soundscape: Wind in the trees.\n\nnon_diegetic_music: N/A"
            if int(path.stem) % 2
            else json.dumps({"short_description": scene, "objects": [{"description": "A bench near a wall."}]})
        )
    told = command("check", folder, "--trigger", "ohwx", "--json").json
    assert told["formats"] == {"json": 5, "minimax-h3": 5}
    shares = {phrase["phrase"]: phrase["captions"] for phrase in told["trigger"]["phrases"]}
    assert shares["red scarf"] == 10 and told["trigger"]["with_trigger"] == 10
    assert not any("description" in phrase for phrase in shares)


# --look


@pytest.mark.parametrize(("text", "count", "expected"), [
    ("1. Yes\n2. No", 2, [True, False]),
    ("1. yes, 2. no, 3: YES", 3, [True, False, True]),
    ("1: denim jacket - yes\n2) a hat: no.", 2, [True, False]),
    ("**1.** yes\n**2.** No, it is not visible", 2, [True, False]),
    ("1. yes", 2, [True, None]),
    ("Yes.", 1, [True]),
    ("Yes.", 2, [None, None]),
    ("1. yes\n1. no\n2. no", 2, [None, False]),
    ("1. unsure\n2. yes", 2, [None, True]),
    ("A red circle on a blue background.", 2, [None, None]),
    ("", 1, [None]),
])  # fmt: skip
def test_answers(text, count, expected):
    assert parse_answers(text, count) == expected


def test_one_question_names_all_phrases():
    asked = question(["red scarf", "green eyes"], "clip")
    assert "visible in this clip:\n1. red scarf\n2. green eyes\n" in asked and "yes or no" in asked
    plan = LookPlan.of({"engine": "scripted", "model": "s"}, [str(n) for n in range(30)], {"a.txt": "a.png"}, 4)
    assert len(plan.phrases) == 10 and plan.settings.quality.retries == 0


def test_what_the_model_sees_decides_what_is_wrong(command, folder, script):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    replies = {f"{n}.png": f"1. yes\n2. {'yes' if n in (2, 8) else 'no'}" for n in range(10)}
    look = "--trigger", "ohwx", "--look", "--engine", "scripted", "--model", script(replies=replies)
    done = command("check", folder, *look, "--json")
    assert done.code == 3
    scarf, eyes = (
        f["what"].partition(": ")[2] for f in sorted(done.json["findings"], key=lambda f: f["severity"])[::-1]
    )
    assert scarf == '"red scarf" (clothing) in 10 of 10 pictures and 10 of 10 captions: the trigger will learn it'
    assert eyes == (
        '"green eyes" (appearance) in 1 of 6 pictures whose captions name it and 6 of 10 captions: '
        "the captions are wrong"
    )
    told = done.json["trigger"]
    assert told["look"] == {"model": look[-1].as_posix(), "files": 10, "failures": [], "answers": 20, "unclear": 0}
    assert [(p["visible"], p["looked_at"]) for p in told["phrases"]] == [(10, 10), (2, 10)]
    assert "2 of 10" in Path(done.json["report"]).read_text()
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_server_gets_one_request_a_file_and_at_most_as_many_as_said(command, folder):
    def rule(asked) -> HttpResponse:
        return HttpResponse(body=completion("1. yes\n2. no"))

    with StubServer(rule) as stub:
        look = "--trigger", "ohwx", "--look", "--limit", 4, "--base-url", stub.url
        dry = command("check", folder, *look, "--dry-run", "--json")
        assert dry.json["dry_run"]["requests"] == 4 and dry.json["dry_run"]["prompt_tokens"] > 200 and not stub.asked
        assert "2 phrases in 4 requests" in dry.err and dry.json["trigger"]["look"] is None
        done = command("check", folder, *look, "--json")
        assert len(stub.asked) == 4 and all(len(images_in(asked)) == 1 for asked in stub.asked)
        assert "1. red scarf\n2. green eyes" in prompt_of(stub.asked[0])
    assert done.json["trigger"]["look"]["files"] == 4


@pytest.mark.long  # imports torch
def test_a_model_that_says_neither_yes_nor_no_changes_nothing(command, folder):
    look = "--trigger", "ohwx", "--look", "--limit", 3, "--model", "demo"
    done = command("check", folder, *look, "--json")
    assert done.code == 0 and done.json["trigger"]["look"]["unclear"] == 6
    assert "6 of 6 answers of demo say neither yes nor no, such as" in done.err and "instruction-tuned" in done.err
    assert all("pictures" not in f["what"] for f in done.json["findings"])


def test_a_model_that_cannot_start_leaves_the_report(command, folder):
    look = "--trigger", "ohwx", "--look", "--engine", "scripted", "--model", "missing.json"
    done = command("check", folder, *look, "--json")
    assert done.code == 1 and "the script missing.json cannot be read" in done.json["error"]
    assert len(done.json["trigger"]["phrases"]) == 2 and "error: the script missing.json cannot be read" in done.err


def test_a_file_that_cannot_be_read_or_answered_costs_itself_alone(command, folder, script):
    (folder / "3.png").write_bytes(b"no picture")
    replies = {"5.png": {"error": "refused"}}
    look = "--look", "--engine", "scripted", "--model", script(default="1. yes\n2. yes", replies=replies)
    done = command("check", folder, "--trigger", "ohwx", *look, "--json")
    assert done.json["trigger"]["look"]["files"] == 8
    assert {Path(f["path"]).name for f in done.json["trigger"]["look"]["failures"]} == {"3.txt", "5.txt"}
    assert "2 files could not be looked at" in done.err


@pytest.mark.parametrize(("arguments", "said"), [
    (["--look"], "--look requires --trigger"),
    (["--trigger", "ohwx", "--model", "demo"], "--model requires --look"),
    (["--trigger", "ohwx", "--dry-run"], "--dry-run requires --look"),
    (["--trigger", "ohwx", "--look", "--dry-run", "--fix"], "--dry-run and --fix cannot be combined"),
    (["--trigger", " "], "--trigger"),
])  # fmt: skip
def test_options_that_need_each_other(command, folder, arguments, said):
    done = command("check", folder, *arguments)
    assert done.code == 2 and said in done.err


def test_a_verdict_needs_three_clear_answers():
    result = LookResult(["a", "b"], "m", {"1": "1. no\n2. yes", "2": "1. no\n2. yes", "3": "nothing"})
    visibility = result.visibility("a", {"1", "2", "3"})
    assert (visibility.visible, visibility.answered, visibility.named) == (0, 2, 2) and not visibility.is_wrong
    assert result.visibility("c", set()) is None and result.unclear == 2
    assert re.search("2 of 6 answers of m", result.warnings[0])
