"""Replies made captions: cleaned, judged, asked again."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.flags import labeled, precision_and_recall
from gemma_captioner.captions.clean import apply_affixes, strip_boilerplate, to_last_sentence
from gemma_captioner.captions.flags import evaluate
from gemma_captioner.captions.formats.plain import Tags
from gemma_captioner.captions.limits import estimated_tokens, length_flags
from gemma_captioner.captions.sound import sound_flags
from gemma_captioner.captions.unfinished import is_unfinished
from tests.support.files import captions, journal
from tests.support.good_captions import CLEAN_CAPTIONS

LABELED = Path(__file__).parent / "data" / "flags.jsonl"


@pytest.mark.parametrize(("raw", "expected"), [
    ("A red circle.", "A red circle."),
    ("Here is a caption:\n\n**A red circle.**\n\nLet me know if you'd like another!", "A red circle."),
    ('Sure! Here\'s a detailed caption for the video: "A man walks."', "A man walks."),
    ("Okay, here are a few options:\n\n**Option 1 (Concise):** A dog runs.\n\n**Option 2:** A big dog.", "A dog runs."),
    ("**Caption:** A cat's tail.", "A cat's tail."),
    ("Image description: A boat.", "A boat."),
    ("This image shows a cat on a mat.", "A cat on a mat."),
    ("The video depicts two boys, running.", "Two boys, running."),
    ("In this image, there is a red barn.", "A red barn."),
    ("# Description\n\nA boat.\n\n* A man rows\n* Water splashes", "A boat. A man rows. Water splashes."),
    ("1. A man rows.\n2. Water splashes.", "A man rows. Water splashes."),
    ("```\nA red *star*.\n```", "A red star."),
    ("<start_of_turn>model\nA cat.<end_of_turn>", "A cat."),
    ("<|channel>thought\nLet me see.<channel|>A cat.", "A cat."),
    ("A cat. Would you like me to describe more?", "A cat."),
    ("\u201cA cat\u2019s tail \u2014 long\u2026\u201d", "A cat's tail - long..."),
    ("A  cat ,\tand a\ndog .", "A cat, and a dog."),
    ("   \n ", ""),
    ("**", "**"),
    ('```json {"caption": "A cat sits on a mat."}```', "A cat sits on a mat."),
    ('```json\n{"description": "A \u201cred\u201d cat."}\n```', 'A "red" cat.'),
    ("Sure! <caption>A cat.</caption> Hope this helps!", "A cat."),
    ("Final answer: A cat sits.", "A cat sits."),
    ("Output: A cat sits.", "A cat sits."),
    ("Assistant: A cat sits.", "A cat sits."),
    ("Title: A Cat", "A Cat"),
    ("Title: A Cat\n\nDescription: It sits.", "A Cat. It sits."),
    ("<image_soft_token><unused0>A cat<br>sits.", "A cat sits."),
    ("A cat sits. Hope this helps!", "A cat sits."),
    ("A cat sits.\n\nWant me to tweak it?", "A cat sits."),
    ("A cat sits. If you want, I can make it shorter.", "A cat sits."),
    ("A cat sits. Let me know if you like it! I can also adjust the tone.", "A cat sits."),
    ("A cat.\n\nTo help me refine it, tell me:\n* The style\n* The mood", "A cat."),
    ("A cat sits. (3 words)", "A cat sits."),
    ("A cat sits.\n\n**Keywords:** cat, mat", "A cat sits."),
    ("A cat sits. Keywords: cat, mat.", "A cat sits."),
    ("Here is your caption.\n\nA cat sits on a mat.", "A cat sits on a mat."),
    ("Here is the description of the image. A cat sits.", "A cat sits."),
    ("A cat<end_of_turn>\n<start_of_turn>model\nA cat", "A cat"),
    ("A cat<end_of_turn> and more", "A cat"),
    ("<start_of_turn>user\nSay.<end_of_turn>\n<start_of_turn>model\nA cat.<end_of_turn>", "A cat."),
    ("Here are a few options: 1. A cat. 2. A big cat. 3. A red cat.", "A cat."),
    ("Here are three captions:\n\n1. A cat.\n2. A big cat.", "A cat."),
    ("**Here are some options:**\n\n* A cat.\n* A big cat.", "A cat."),
    ("<think>Hm.</think>A cat.", "A cat."),
    ("The user wants one.</think>A cat.", "A cat."),
    ("This image is of a cat.", "A cat."),
    ("A cat sits.\nCaption: A dog.\nCaption: A cow.", "A cat sits."),
    ("Caption: A cat sits\nCaption: A dog.", "A cat sits."),
    ("The Cat\n\nCaption: A cat sits.", "The Cat. A cat sits."),
    ("A cat sits.\nCaption:\nCaption", "A cat sits."),
    ("The <em>red</em> cat <strong>sits</strong>.<h2>On it</h2>", "The red cat sits. On it"),
    ('A <a href="x">cat</a>.</p>\n<em>It sits.', "A cat. It sits."),
    ("A cat sits.\\\nIt looks up.\\", "A cat sits. It looks up."),
    # what must stay as it is
    *((kept, kept) for kept in CLEAN_CAPTIONS),
    ('A sign says "Let me know" in red.', 'A sign says "Let me know" in red.'),
    ('"Stop" and "Go" are painted there: "Stop"', '"Stop" and "Go" are painted there: "Stop"'),
    ("The image shows how to tie a knot.", "The image shows how to tie a knot."),
    ("1girl, solo, blue_hair, (smile:1.2)", "1girl, solo, blue_hair, (smile:1.2)"),
    ("A 3 * 4 grid * of dots", "A 3 * 4 grid * of dots"),
    ("Sure-footed goats climb.", "Sure-footed goats climb."),
    ("<lora:cat:1> sits, a <b and c> d", "<lora:cat:1> sits, a <b and c> d"),
    ("a cat \\(cartoon\\)", "a cat \\(cartoon\\)"),
    ("A man says: hello there.", "A man says: hello there."),
    ("Here is a man with a dog.", "Here is a man with a dog."),
    ("A poster, 'Here Is New York'.", "A poster, 'Here Is New York'."),
    ("Model 3 parked by a wall.", "Model 3 parked by a wall."),
    ("\u732b\u304c\u5ea7\u308b\u3002", "\u732b\u304c\u5ea7\u308b\u3002"),
])  # fmt: skip
def test_what_surrounds_a_caption_goes_and_the_caption_stays(raw, expected):
    assert strip_boilerplate(raw) == expected


def test_the_text_of_a_link_begins_at_the_last_bracket():
    """From any bracket on, a reply of thousands of brackets would take hours."""
    assert strip_boilerplate("A cat [on [a mat](https://a.b) sits.") == "A cat [on a mat sits."


def test_typographic_punctuation_stays_where_it_is_asked_for():
    assert strip_boilerplate("\u2018a\u2019 \u2013 b", ascii_punctuation=False) == "\u2018a\u2019 \u2013 b"


@pytest.mark.parametrize(("kept", "of_a_model"), [
    *((kept, kept) for kept in CLEAN_CAPTIONS),
    ("Title: The Fall", "The Fall"),
    ("Sure! Magazine", "Magazine"),
    ("Output: a dial", "a dial"),
    ("A cat. (3 words)", "A cat."),
    ("A cat sits.\nKeywords: cat", "A cat sits."),
    ("This image captures Paris.", "Paris."),
    ("A poster. Let me know if you see my dog.", "A poster."),
    ("Here are two options: 1. A cat. 2. A dog.", "A cat."),
    ('{"caption": "A cat."}', "A cat."),
    ("1. A cat", "1. A cat"),
])  # fmt: skip
def test_a_person_keeps_what_a_model_would_not(kept, of_a_model):
    assert strip_boilerplate(kept, from_model=False) == " ".join(kept.split()) and strip_boilerplate(kept) == of_a_model


@given(st.text(max_size=300))
def test_a_caption_is_one_line_and_clean_already(raw):
    caption = strip_boilerplate(raw)
    assert "\n" not in caption and caption == caption.strip()
    assert caption.isascii() or not raw.isascii()


@pytest.mark.parametrize(("text", "expected"), [
    ("A cat sits. It looks at the", "A cat sits."),
    ("A cat sits on", "A cat sits on"),
    ('He says "Go." Then he', 'He says "Go."'),
    ("Mr. Fox walks and", "Mr. Fox walks and"),
    ("It is 3.5 m long. A", "It is 3.5 m long."),
    ("A man stands at 5 p.m. by the", "A man stands at 5 p.m. by the"),
    ("It is 5 p.m. The sun is", "It is 5 p.m."),
    ("A cat sleeps at 5 p.m.", "A cat sleeps at 5 p.m."),
    ("A cat. A portrait of Mrs. Smith at the", "A cat."),
    ("A road. Route No. 66 and", "A road."),
    ("A box. Tools, e.g. hammers", "A box."),
    ("A cat. A U.S. Army jeep", "A cat."),
    ('A cat. A sign says "Go!" in', "A cat."),
    ("\u732b\u304c\u5ea7\u308b\u3002\u72ac\u304c", "\u732b\u304c\u5ea7\u308b\u3002"),
    ("\u092c\u093f\u0932\u094d\u0932\u0940\u0964 \u0915\u0941", "\u092c\u093f\u0932\u094d\u0932\u0940\u0964"),
])  # fmt: skip
def test_a_cut_reply_ends_with_its_last_whole_sentence(text, expected):
    assert to_last_sentence(text) == expected


def test_trigger_prefix_and_suffix_are_put_in_once():
    wanted = {"prefix": "photo: ", "suffix": ", film", "trigger": "ohwx"}
    once = apply_affixes("A man.", **wanted)
    assert once == "photo: ohwx A man., film"
    assert apply_affixes(once, **wanted) == once
    assert apply_affixes("", **wanted) == ""


@pytest.mark.parametrize(("caption", "put", "expected"), [
    ("Ohwx stands.", {"trigger": "ohwx"}, "ohwx stands."),
    ("A photo of OHWX", {"trigger": "ohwx"}, "A photo of ohwx"),
    ("ohwxes", {"trigger": "ohwx"}, "ohwx ohwxes"),
    ("OHWX and ohwx", {"trigger": "ohwx"}, "OHWX and ohwx"),
    ("apple tree", {"prefix": "a "}, "a apple tree"),
    ("a tree", {"prefix": "a "}, "a tree"),
    ("Photo: a tree", {"prefix": "Photo:\n"}, "Photo: a tree"),
    ("a cart", {"suffix": " art"}, "a cart art"),
    ("a cat, art", {"suffix": ", art\n"}, "a cat, art"),
])  # fmt: skip
def test_what_is_in_a_caption_already(caption, put, expected):
    assert apply_affixes(caption, **put) == expected == apply_affixes(expected, **put)


def test_flags_against_captions_that_others_labeled():
    """0.95 each is the goal; docs/flags.md has the figures, also for a set that the rules never saw."""
    counts: dict[str, dict[tuple[bool, bool], int]] = defaultdict(lambda: defaultdict(int))
    for line in LABELED.read_text(encoding="utf-8").splitlines():
        example = json.loads(line)
        flagged = example["flag"] in evaluate(example["caption"], prompt=example.get("prompt", ""))
        counts[example["flag"]][flagged, example["expected"]] += 1
    assert set(counts) == {"repetition", "refusal", "prompt_echo", "not_in_language", "absent_things"}
    for flag, of in counts.items():
        assert of[True, True] / (of[True, True] + of[True, False]) >= 0.95, flag
        assert of[True, True] / (of[True, True] + of[False, True]) >= 0.95, flag


@pytest.mark.parametrize("caption", [
    "Two hands reach out toward each other.", "The image is not in focus at its edges, a dog in the middle.",
    "A boy sends the ball flying over a hedge.", "A meme of a cat with a caption below it.", "A sorry dog sits.",
    "A road with a sign: do not enter.", "It is impossible to tell the twins apart.", "A patient consults a doctor.",
    "A protest sign reads I can't breathe in black paint.", "A shirt saying I'm sorry hangs there.",
    "User interface of a photo editor with sliders on the right.", "System of pipes and valves on a wall.",
    "Instructions for folding a paper crane on a sheet.", "Summary of what was left after the fire.",
    "Return of the boats: nets on the quay, a video still.", "A training manual about safety guidelines on a desk.",
    "A ruler marked 1 2 3 4 5 6 7 8 9 10 11 12.", "A comic of a sleeper: zzzzzzzzzzzzzzzz.", "A comic, AAAAAAAA!",
    "I am running away, so let's go!", "I would say that it is a tree.", "Who is she? A woman sits on a bench.",
    "No one else wears a hat like his.", "An error message on a screen.", "A man insists, null and void.",
    "A girl inserts a caption card.", "The user interface of a game.", "You have a dog, a cat and a hat.",
])  # fmt: skip
def test_what_would_cost_a_file_its_caption_is_not_flagged_lightly(caption):
    assert not {"refusal", "repetition", "prompt_echo"} & set(evaluate(caption, prompt="Describe this image."))


@pytest.mark.parametrize(("caption", "flag"), [
    ("N/A", "empty"), ("None", "empty"), ("null", "empty"), ("<image>", "empty"), ("None.", "empty"),
    ("[Insert description here]", "prompt_echo"), ("Your caption here.", "prompt_echo"),
    ("User: describe it.", "prompt_echo"), ("We need to produce a caption of a cat.", "prompt_echo"),
    ("Okay, the user asked for a caption.", "prompt_echo"), ("List the subjects of the image.", "prompt_echo"),
    ("Summary of what is visible: a cat.", "prompt_echo"),
    ("What is it? Who is she?", "prompt_echo"), ("Is it a cat?!", "prompt_echo"), ("2009/06/13, 16:04", "empty"),
    ("Image not found.", "refusal"), ("It is not possible to describe the image.", "refusal"),
    ("You haven't uploaded an image yet.", "refusal"), ("Error: CUDA out of memory. Tried to", "refusal"),
    ("This goes against the safety guidelines.", "refusal"),
    ("cat cat cat cat", "repetition"), ("the the the the", "repetition"), ("A dog, " + "z" * 60, "repetition"),
    ("A ruler, " + " ".join(map(str, range(1, 20))), "repetition"), ("A dog titititititititititititi", "repetition"),
])  # fmt: skip
def test_what_is_no_caption_is_not_stored(caption, flag):
    assert flag in evaluate(caption)


def test_a_tag_is_not_told_as_absence():
    assert evaluate("no humans, scenery, mountain") == evaluate("scenery, no_humans") == ()
    assert evaluate("A street with no humans.") == ("absent_things",)
    assert evaluate("A caf\ufffd at night.") == ("lost_characters",)
    assert strip_boilerplate("A cat sits.\ufffd\ufffd") == "A cat sits."  # cut inside a character
    assert evaluate('A sign reads "STOP" and there are no people.') == ("absent_things",)


@pytest.mark.parametrize(("caption", "language", "is_flagged"), [
    ("Ein Mann l\u00e4uft \u00fcber die Stra\u00dfe und tr\u00e4gt einen roten Hut.", "english", True),
    ("Ein Mann l\u00e4uft \u00fcber die Stra\u00dfe und tr\u00e4gt einen roten Hut.", "german", False),
    ("A man walks across the street in a red hat.", "german", True),
    ("\u4e00\u53ea\u732b\u5750\u5728\u57ab\u5b50\u4e0a", "chinese", False),
])  # fmt: skip
def test_the_language_that_is_asked_for(caption, language, is_flagged):
    assert ("not_in_language" in evaluate(caption, language=language)) == is_flagged


def test_an_echo_of_do_not_mention_is_no_absence():
    echo = "A cat. Do not mention anything that is absent. No introduction."
    assert evaluate(echo, prompt="Describe this. Do not mention anything that is absent.") == ("prompt_echo",)


@pytest.mark.parametrize(("flag", "precision", "recall"), [
    ("empty", 1, 0.8), ("not_in_language", 1, 1), ("prompt_echo", 0.84, 0.84), ("repetition", 0.75, 0.85),
])  # fmt: skip
def test_flags_against_continuations_of_a_real_base_model(flag, precision, recall):
    figures = precision_and_recall(example for example in labeled("real model") if example["flag"] == flag)
    assert figures[0] >= precision and figures[1] >= recall


@pytest.mark.parametrize(("caption", "language", "expected"), [
    ("A red bowl beside a vase of", "english", True), ("A red bowl beside a vase of tulips", "english", False),
    ("A cat, a dog and", "english", True), ("A vase placed on", "english", True),
    ("a boy with a cap on", "english", False),
    ('A sign that reads "OPEN', "english", True), ("A car (seen from the rear", "english", True),
    ('A 12" record on a shelf', "english", False), ("1girl, solo, :(, arms up, standing on", "english", False),
    ("A barn. Overcast sky, soft light", "english", False), ("A barn. It stands on a hill in", "english", True),
    ("A barn. It stands high on a hill", "english", True), ("Un perro con una pelota a", "spanish", False),
    ("", "english", False), ("a" * 70_000 + ".", "english", False),
])  # fmt: skip
def test_a_caption_that_stops_in_mid_sentence(caption, language, expected):
    assert is_unfinished(caption, language) is expected


def test_unfinished_ends_against_labels():
    """The rule was tuned on this set; docs/flags.md has the figures of the first time."""
    examples = labeled("ends")
    precision, recall = precision_and_recall(examples)
    assert len(examples) == 200 and precision >= 0.98 and recall >= 0.9


def test_sound_flags_against_captions_labeled_before_the_rules():
    examples = labeled("sound")
    assert len(examples) == 2 * 168
    for flag in ("sound_missing", "sound_invented"):
        precision, recall = precision_and_recall(example for example in examples if example["flag"] == flag)
        assert precision >= 0.98 and recall >= 0.98, flag


def test_what_a_caption_says_of_sound_is_flagged_only_against_what_is_known():
    heard, silent = "A dog sleeps while a kettle whistles loudly.", "A dog sleeps on a mat."
    assert sound_flags(silent, True) == ("sound_missing",) and sound_flags(heard, True) == ()
    assert sound_flags(heard, False) == ("sound_invented",) and sound_flags(silent, False) == ()
    assert sound_flags(heard, None) == sound_flags(silent, None) == ()
    assert sound_flags('A man says, "Come in."', False) == ("sound_invented",)
    assert sound_flags('A sign says "COME IN" beside a man who speaks.', False) == ()


@pytest.mark.parametrize(
    "caption",
    [
        "A dog sleeps. The clip has no sound.",
        "A cook plates a dessert. There is no speech, no music and no ambient noise.",
        "A ballerina ties her shoes. Neither speech nor music is present.",
        "Two children build a castle; nobody is heard speaking.",
        "A car drives along a road without any music or dialogue.",
    ],
)
def test_that_a_kind_of_sound_is_absent_may_be_said_to_some_models(caption):
    assert evaluate(caption, states_silence=True) == () and evaluate(caption) == ("absent_things",)
    assert evaluate(f"{caption} There are no people.", states_silence=True) == ("absent_things",)
    assert sound_flags(caption, False) == ()


def test_lengths_against_what_a_text_encoder_reads():
    assert length_flags("A cat", None) == ("too_short",)
    long = "A very long caption about many things. " * 12
    assert length_flags(long, None) == () and length_flags(long, "wan") == ()
    assert length_flags(long, "sdxl") == ("too_long",)
    assert length_flags(long, "sdxl", lambda text: 70) == ()
    assert estimated_tokens("\u732b" * 10, "T5") >= 10


# Asked again


def test_what_is_unfit_is_asked_again_and_then_fails_without_a_file(command, media, script):
    loop = "A red circle, a red circle, a red circle, a red circle, a red circle, a red circle."
    names = sorted(p.name for p in media.iterdir())
    path = script(replies={
        names[0]: ["I'm sorry, I can't describe this.", loop, "A red circle."],
        names[1]: ["I cannot help with that request."],
        names[2]: {"text": "A blue star. It moves to the", "finish_reason": "length"},
        names[3]: "There is no text in this image of a square.",
    })  # fmt: skip
    done = command("caption", media, "--engine", "scripted", "--model", path, "--json")
    assert done.code == 3 and done.json["failed"] == 1 and done.json["flagged"] == 2
    assert "refused" in done.json["failures"][0]["error"] and names[1] in done.json["failures"][0]["path"]
    written = captions(media)
    assert len(written) == 7 and written[f"{names[0].rpartition('.')[0]}.txt"] == "A red circle."
    assert written[f"{names[2].rpartition('.')[0]}.txt"] == "A blue star."
    lines = {line["path"]: line for line in journal(media) if line["kind"] == "caption"}
    assert lines[names[0]]["retries"] == 2 and lines[names[0]]["rejected"][1] == loop
    [failure] = [line for line in journal(media) if line["kind"] == "failure"]
    assert failure["rejected"] == ["I cannot help with that request."] * 3
    assert lines[names[2]]["flags"] == ["truncated"] and lines[names[3]]["flags"] == ["absent_things"]
    again = command("caption", media, "--engine", "scripted", "--model", path, "--retries", 0, "--json")
    assert again.json["skipped"] == 7 and again.json["failed"] == 1


def test_a_target_that_is_unknown_lists_those_that_are(command, media):
    for flags in (("--target", "dalle"), ("--language", "klingon")):
        done = command("caption", media, "--model", "demo", *flags)
        assert done.code == 2 and "give one of" in done.err


def test_a_prefix_never_fuses_with_a_word():
    assert apply_affixes("A dog.", trigger="ohwx", prefix="photo") == "photo ohwx A dog."
    assert apply_affixes("A dog", prefix="Photo: ", suffix=", ohwx") == "Photo: A dog, ohwx"
    for prefix in ("ohwx, ", "a photo of ohwx: "):
        once = apply_affixes("A dog", trigger="ohwx", prefix=prefix)
        assert once.count("ohwx") == 1 and apply_affixes(once, trigger="ohwx", prefix=prefix) == once
        assert ", ".join(Tags().add_affixes(["dog", "red"], trigger="ohwx", prefix=prefix)).count("ohwx") == 1
    assert apply_affixes("A dog", trigger="ohwx", suffix=", ohwx style").startswith("ohwx ")  # an encoder cuts the end
    assert Tags().add_affixes(["dog"], trigger="ohwx", suffix=", ohwx style")[0] == "ohwx"
    assert apply_affixes("a manatee swims", trigger="man", prefix="a man") == "a man a manatee swims"
    assert apply_affixes("a woman", suffix="man") == "a woman man"
    assert apply_affixes("一只狗", prefix="照片") == "照片一只狗"
