"""A dataset with one of each fault: found by code and path, mended, and brought back."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemma_captioner.captions.encoding import decode_text
from gemma_captioner.captions.repair import find_faults, repair, repair_steps
from gemma_captioner.captions.stats import CaptionStats, match_captions
from gemma_captioner.check.inspect import inspect_caption
from gemma_captioner.check.media.rules import MEDIA_RULES
from gemma_captioner.check.pairs import PAIR_RULES
from gemma_captioner.check.report import bars
from gemma_captioner.check.scan import DatasetScan
from gemma_captioner.check.settings import CheckSettings
from gemma_captioner.check.trainer_rules import ALL_RULES, TRAINER_RULES
from gemma_captioner.check.trigger.rules import TRIGGER_RULES
from gemma_captioner.config.targets import trainers
from gemma_captioner.dataset.discover import resolve_roots
from gemma_captioner.dataset.journal import Journal
from gemma_captioner.dataset.restore import restore
from tests.support.command import AS_UNPRIVILEGED_USER
from tests.support.good_captions import CLEAN_CAPTIONS

GOOD = "A red fox runs across a field of snow at dawn."

FAULTY_CAPTIONS = {  # code -> the bytes of a caption
    "empty": b" \n",
    "not_utf8": "A café at night, and a dog's bowl.".encode("cp1252"),
    "bom": b"\xef\xbb\xbfA boat lies on the shore.",
    "mojibake": "A dog\u2019s bowl stands on the floor.".encode().decode("cp1252").encode(),
    "lost_characters": "A caf\ufffd at night in the rain.".encode(),
    "control_characters": b"A boat lies\x00 on the wide shore.",
    "error_message": b"Error processing a.png: CUDA out of memory. Tried to allocate 2 GiB",
    "leftover": b"Here is a caption: A horse stands in the rain.",
    "multi_line": b"A tree stands by a river.\nA man sits below it.",
    "whitespace": b" A ship  sails past the lighthouse.",
    "typographic": "A woman\u2019s hat hangs on the wall.".encode(),
    "refusal": b"I'm sorry, but I can't describe this image.",
    "repetition": b"A man runs and runs and runs and runs and runs and runs.",
    "prompt_echo": b"Describe the image in one sentence for training data.",
    "not_in_language": "Ein Hund läuft über die Wiese und bellt die Nachbarn an.".encode(),
    "absent_things": b"A street at night. There are no people visible in it.",
    "unfinished": b"A cat sits on a mat beside a vase of",
    "too_short": b"a cat",
    "too_long": b"A dog walks past a house and a tree, turns at the corner, and comes back to sleep by the stove. "
    b"Outside, three women carry baskets of apples up the steps while an old man sweeps leaves into a heap. Beyond "
    b"them lies the harbour, where two boats are tied to the quay, nets are drying in the sun, and gulls wait on "
    b"every post for what the fishermen throw away. A boy with a red cap feeds them bread.",
    "maybe_too_long": b"Dog, cat; cow, pig; hen, fox; elk, owl. They stand, sit, lie, run, swim, fly, jump, eat, "
    b"drink, look, wait, turn; all day, all night, all week, all year, in rain, in sun, in snow.",
}  # fmt: skip


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)


def dataset(folder: Path, **captions: bytes) -> Path:
    """A picture for each caption, by its stem."""
    for stem, content in captions.items():
        picture(folder / f"{stem}.png")
        (folder / f"{stem}.txt").write_bytes(content)
    return folder


def run_scan(folder: Path, *, fix: bool = False, **settings: Any) -> DatasetScan:
    settings = CheckSettings(**settings)
    [root] = resolve_roots([folder], settings.captions)
    scan = DatasetScan(root, settings)
    scan.run(fix=fix)
    return scan


def found(scan: DatasetScan) -> set[tuple[str, str]]:
    """(path within, code)."""
    return {(str(Path(f.path).relative_to(scan.root.folder)), f.code) for f in scan.findings}


@pytest.fixture
def faulty(tmp_path) -> Path:
    """Every general fault once, in a file named after it, and one caption without any."""
    folder = dataset(tmp_path / "faulty", good=GOOD.encode(), **FAULTY_CAPTIONS)
    dataset(folder, duplicate=b"A red kite is in the sky.", duplicate2=b"a red KITE is in the sky")
    picture(folder / "no_caption.png")
    (folder / "empty_media.png").touch()
    (folder / "empty_media.txt").write_text("A lamp stands on a desk.")
    (folder / "no_media.txt").write_text("A clock hangs on a tower.")
    dataset(folder, collision=b"Two shells lie on the sand.")
    picture(folder / "collision.jpg")
    return folder


def test_each_fault_is_found_at_its_file(faulty):
    scan = run_scan(faulty, target="sdxl")
    expected = {(f"{code}.txt", code) for code in FAULTY_CAPTIONS}
    expected |= {("duplicate.txt", "duplicate"), ("duplicate2.txt", "duplicate"), ("no_media.txt", "no_media")}
    expected |= {(f"{code}.png", code) for code in ("no_caption", "empty_media", "collision")} | {
        ("collision.jpg", "collision")
    }
    assert found(scan) == expected
    assert scan.files == len(list(faulty.glob("*.png"))) + 1


def test_what_is_saved_otherwise_is_told_and_mended(faulty):
    before = {path: path.read_bytes() for path in faulty.glob("*.txt")}
    scan = run_scan(faulty, fix=True)
    mendable = [code for code in FAULTY_CAPTIONS if ALL_RULES[code].fixed]
    assert {Path(f.path).stem for f in scan.fixed} == set(mendable)
    assert (faulty / "not_utf8.txt").read_text(encoding="utf-8") == "A café at night, and a dog's bowl."
    assert (faulty / "mojibake.txt").read_bytes() == b"A dog's bowl stands on the floor."
    assert (faulty / "leftover.txt").read_bytes() == b"A horse stands in the rain."
    assert (faulty / "multi_line.txt").read_bytes() == b"A tree stands by a river. A man sits below it."
    assert not {code for path, code in found(scan) if Path(path).stem in mendable}
    again = run_scan(faulty, fix=True)
    assert not again.fixed and found(again) == found(scan)
    # Taken back, to the last byte; what was edited since stays.
    (faulty / "bom.txt").write_text("Edited since.")
    assert sum(file.reason is None for file in restore(faulty, scan.run_id)) == len(mendable) - 1
    after = {path: path.read_bytes() for path in faulty.glob("*.txt")}
    assert after == {**before, faulty / "bom.txt": b"Edited since."}


def test_a_file_that_cannot_be_read_costs_itself_alone(tmp_path):
    dataset(tmp_path, good=GOOD.encode(), huge=b"word " * 20_000, odd=b"\x81\xfe\x00\x05\xff", gone=b"")
    (tmp_path / "gone.txt").unlink()
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.txt").mkdir()
    scan = run_scan(tmp_path, fix=True)
    assert found(scan) == {
        ("loop.png", "empty_media"),
        ("loop.png", "no_caption"),
        ("huge.txt", "unreadable"),
        ("odd.txt", "not_utf8"),
        ("gone.png", "no_caption"),
    }
    assert not scan.fixed


@pytest.mark.skipif(os.name == "nt", reason="chmod takes no reading away there")
def test_permissions(tmp_path):
    dataset(tmp_path, locked=GOOD.encode(), sub=GOOD.encode())
    (tmp_path / "locked.txt").chmod(0)
    done = subprocess.run(
        [*AS_UNPRIVILEGED_USER, sys.executable, "-m", "gemma_captioner", "check", tmp_path, "--json"],
        capture_output=True, text=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    [hit] = json.loads(done.stdout)["findings"]
    assert (Path(hit["path"]).name, hit["code"]) == ("locked.txt", "unreadable")


@pytest.mark.parametrize(("content", "text", "name"), [
    (b"A cat.", "A cat.", "UTF-8"),
    ("Ein Bär.".encode(), "Ein Bär.", "UTF-8"),
    ("A cat.".encode("utf-16"), "A cat.", "UTF-16"),
    ("A cat.".encode("utf-16-le"), "A cat.", "UTF-16"),
    ("A cat.".encode("utf-16-be"), "A cat.", "UTF-16"),
    ("A cat.".encode("utf-32"), "A cat.", "UTF-32"),
    ("\ufeffA cat.".encode(), "A cat.", "UTF-8 with a BOM"),
    ("\u201cA cat\u2019s\u201d".encode("cp1252"), "\u201cA cat\u2019s\u201d", "Windows-1252"),
    ("Il va à la plage d'été.".encode("cp1252"), "Il va à la plage d'été.", "Windows-1252"),
    ("Собака бежит по снегу.".encode("cp1251"), "Собака бежит по снегу.", "Windows-1251"),
    ("Кот сидит на коврике".encode("koi8-r"), "Кот сидит на коврике", "KOI8"),
    ("кот сидит на коврике".encode("koi8-r"), None, "Windows-1251 or KOI8"),
    ("Кот сидит на коврике".encode("iso-8859-5"), None, "no known encoding fits"),
    ("Кот сидит на коврике".encode("cp866"), None, "no known encoding fits"),
    ("一只猫坐在垫子上。".encode("utf-16-le"), None, "no known encoding fits"),
    ("一只猫坐在垫子上。".encode("utf-16-be"), None, "no known encoding fits"),
    ("犬が雪の上を走る。".encode("cp932"), "犬が雪の上を走る。", "Shift-JIS"),
    ("\uac1c\uac00 \ub208 \uc704\ub97c \ub2ec\ub9b0\ub2e4.".encode("euc_kr"), None, "GBK or EUC-KR"),
    (b"\xff\xfe\x00", None, "UTF-16"),
    (b"A \x81\xfe\x00\x05\xff", None, "no known encoding fits"),
])  # fmt: skip
def test_encodings(content, text, name):
    assert decode_text(content) == (text, name)


@pytest.mark.parametrize("kept", [
    "1girl, solo, >_<, ^_^, >_>, blue_hair, (smile:1.2)",
    "a __color__ dress, {red|blue}, <lora:style:0.8>",
    "猫在“树”上——睡觉。",
    "A 3 * 4 grid * of dots",
    GOOD,
    *CLEAN_CAPTIONS,
])  # fmt: skip
def test_what_is_a_persons_way_to_write_stays(kept):
    assert repair(kept, repair_steps()) == kept and not find_faults(kept, repair_steps())


@pytest.mark.parametrize(("text", "expected"), [
    ("Here\u2019s a caption:\r\n\r\nA cat\u2019s tail. ", "A cat's tail."),
    ("<start_of_turn>model\nblue_hair and_<end_of_turn>", "blue_hair and_"),
    ("a dog\u00e2\u20ac\u2122s tail, \u00e2\u20ac\u0153long\u00e2\u20ac\x9d", 'a dog\'s tail, "long"'),
    ("Caption:", "Caption:"),
    ("A cat\x0bon\x85a\x0cmat", "A cat on a mat"),
    ("A \x1b[31mred\x1b[0m cat", "A red cat"),
    ("A cat<end_of_turn>\n<start_of_turn>model\nA cat", "A cat"),
])  # fmt: skip
def test_mending(text, expected):
    assert repair(text, repair_steps()) == expected


FRAGMENTS = [
    "Here is a caption:", "This image shows ", "Sure! ", "Option 1: ", "Caption:", "Let me know", "<end_of_turn>",
    "model\n", "A cat sits. ", "blue_hair", "**", "*", "_", "- ", "1. ", "# ", "`", '"', "\u201c", "\u2019", "\x00",
    "\u00e2\u20ac\u2122", "\ufeff", "\n", "\r\n", "\u2028", " ", "\t", "\u00a0", ",", ".", "\u2014", "\u732b",
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=14), st.booleans())
def test_what_is_mended_has_no_fault_left(fragments, alternatives):
    text, by = "".join(fragments), repair_steps(alternatives=alternatives)
    assert find_faults(repair(text, by), by) == []
    fixed_bytes = inspect_caption(text.encode(), CheckSettings(for_="onetrainer" if alternatives else None)).fixed_bytes
    assert fixed_bytes is None or re.search(r"\w", fixed_bytes.decode())


def test_lines_that_are_alternatives_stay_apart():
    by = repair_steps(alternatives=True)
    assert find_faults("\nA cat.", by) == ["whitespace"]
    assert repair(" A cat.\n\n  \nHere is a caption: A dog. \n", by) == "A cat.\nA dog."
    assert "multi_line" not in find_faults("A cat.\nA dog.", by)


# What trips one trainer: the caption of a.png, or files; how it is checked; the finding's path and what it says.
CAPTIONED = {"a.png": "", "a.txt": GOOD}
TRAINER_CASES: list[tuple[str, str, str | dict[str, str], str, str]] = [
    ("first_line_only", "sd-scripts:sdxl", "A tree.\nA river runs by.", "a.txt", "A tree."),
    ("first_line_only", "sd-scripts", "\nA tree by a river.", "a.txt", "the first line is blank"),
    ("several_lines", "onetrainer", "A tree stands here.\nA river runs by.", "a.txt", "2 captions"),
    ("structure_lost", "onetrainer", '{\n"scene": "A tree.", "subjects": []\n}', "a.txt", "json"),
    ("not_json", "fibo", "A tree stands here.", "a.txt", "A tree"),
    ("not_json", "fibo", "1girl, red scarf, snowy street", "a.txt", "1girl"),
    ("blank_line", "simpletuner", "A tree stands here.\n \nA river.", "a.txt", ""),
    ("final_newline", "ai-toolkit", f"{GOOD}\n", "a.txt", ""),
    ("not_ascii", "diffusion-pipe:wan", "A café at night.", "a.txt", "é"),
    ("wildcard", "sd-scripts", "A {red|blue} hat lies here.", "a.txt", "{red|blue}"),
    ("placeholder", "ai-toolkit", "A photo of [trigger] at sea.", "a.txt", "[trigger]"),
    ("comma_in_number", "ai-toolkit", "A crowd of 1,000 people.", "a.txt", "1,000"),
    ("media_not_read", "finetrainers", {"a.PNG": "", "a.txt": GOOD}, "a.PNG", "lower case"),
    ("media_not_read", "huggingface", {"a.webm": "", "a.txt": GOOD}, "a.webm", "mp4"),
    ("media_not_read", "sd-scripts", {"a.mp4": "", "a.txt": GOOD}, "a.mp4", "png"),
    ("subfolder_not_read", "musubi:wan", {"s/a.png": "", "s/a.txt": GOOD}, "s", "1 file"),
    ("stray_file", "diffusion-pipe", {**CAPTIONED, "x.csv": "1"}, "x.csv", ""),
    ("other_source", "diffusion-pipe", {"a.png": "", "captions.json": "{}"}, "captions.json", ""),
    ("other_source", "finetrainers", {"a.png": "", "metadata.jsonl": ""}, "metadata.jsonl", ""),
    ("metadata_json", "finetrainers", {**CAPTIONED, "metadata.json": "[]"}, "metadata.json", ""),
    ("sidecars_not_read", "ltx", CAPTIONED, ".", ""),
    ("full_names", "mochi", {"a.png": "", "a.png.txt": GOOD}, ".", ""),
    ("extension_to_say", "musubi", CAPTIONED, ".", ".txt"),
    ("hidden_media", "simpletuner", {"a.png": "", ".old/b.png": ""}, ".old/b.png", ""),
    ("named_like_a_split", "huggingface", {"a.png": "", "test-1.png": ""}, "test-1.png", "'test'"),
    ("named_like_a_split", "fibo", {"a.png": "", "val_1.png": ""}, "val_1.png", "'val'"),
    ("clips_not_read", "diffusion-pipe", {"a.mp4": ""}, "", "frame_buckets"),
    ("clips_not_read", "ai-toolkit", {"a.mp4": ""}, "", "num_frames"),
    ("mixed_metadata", "finetrainers", {"a.png": "", "metadata.json": "", "metadata.csv": ""}, "metadata.csv", "json"),
    ("mixed_metadata", "huggingface", {"a.png": "", "metadata.csv": "", "metadata.jsonl": ""}, "metadata.csv", "jsonl"),
]


@pytest.mark.parametrize(("code", "trainer", "files", "path", "what"), TRAINER_CASES)
def test_what_trips_a_trainer(tmp_path, code, trainer, files, path, what):
    for name, content in ({"a.png": "", "a.txt": files} if isinstance(files, str) else files).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    how = {"recursive": True, "name": "full" if code == "full_names" else "stem"}
    [hit] = [f for f in run_scan(tmp_path, for_=trainer, **how).findings if f.code == code]
    assert Path(hit.path) == tmp_path / path and what in hit.detail
    # Another trainer does not trip over it.
    other = next(t for t in trainers() if t not in TRAINER_RULES[code].trainers)
    assert code not in {f.code for f in run_scan(tmp_path, for_=other, **how).findings}


def test_clips_without_sound_and_with_less_than_the_model_knows(tmp_path):
    frames = [np.zeros((64, 64, 3), np.uint8)] * 12
    for name, rate in (("mute", 0), ("phone", 8_000), ("good", 44_100)):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            video = container.add_stream("libx264", rate=24, options={})
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            sound = container.add_stream("aac", rate=rate, layout="mono") if rate else None
            for picture in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode())
            if sound is not None:
                noise = np.random.default_rng(0).normal(0, 0.1, (1, rate // 2)).astype(np.float32)
                heard = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
                heard.sample_rate = rate
                container.mux(sound.encode(heard))
                container.mux(sound.encode())
        (tmp_path / f"{name}.txt").write_text(f'{GOOD} A voice says, "It is {name}."')
    (tmp_path / "broken.mp4").write_bytes(b"no clip")

    def found(target: str) -> dict[str, tuple[str, str]]:
        findings = run_scan(tmp_path, for_=target).findings
        codes = ("no_sound_track", "low_sample_rate")
        invented = [Path(f.path).name for f in findings if f.code == "sound_invented"]
        found = {Path(f.path).stem: (f.code, f.detail) for f in findings if f.code in codes}
        assert invented == ["mute.txt"] * bool(found)
        return found

    assert found("ltx:ltx2") == {
        "mute": ("no_sound_track", "trained on its frames only"),
        "phone": ("low_sample_rate", "8,000 Hz; the model is trained on 16,000 Hz"),
    }
    assert found("simpletuner:ltx2")["mute"] == ("no_sound_track", "left out, unless audio.allow_zero_audio is on")
    assert found("diffusion-pipe:minimax-h3").keys() == {"mute", "phone"}
    assert found("musubi:wan") == found("diffusion-pipe:ltx2") == {}  # not trained on sound


def test_every_trap_is_tried_and_of_a_known_trainer():
    assert {trip[0] for trip in TRAINER_CASES} == set(TRAINER_RULES) - {"no_sound_track", "low_sample_rate"}
    assert set(trainers()) == {t for trap in TRAINER_RULES.values() for t in trap.trainers}
    others = (
        ALL_RULES.keys() - TRAINER_RULES.keys() - TRIGGER_RULES.keys() - MEDIA_RULES.keys()
    )  # tests/test_trigger.py
    assert others - FAULTY_CAPTIONS.keys() == {
        "unreadable", "unfixable", "empty_media", "no_caption", "other_caption", "collision", "no_media", "truncated",
        "partial_video", "partial_image", "too_short_for_trainer", "duplicate", "no_audio", "silent", "partial_audio",
        "sound_missing", "sound_invented", "speech_mismatch",
        "invalid_format", "format_style", "shortened",  # tests/test_formats.py
        *PAIR_RULES,  # tests/test_context.py
    }  # fmt: skip


def test_lines_are_not_joined_where_they_are_alternatives(tmp_path):
    dataset(tmp_path, a=b" A tree stands by a river.\nA man sits below a tree. ")
    scan = run_scan(tmp_path, fix=True, for_="onetrainer")
    assert (tmp_path / "a.txt").read_bytes() == b"A tree stands by a river.\nA man sits below a tree."
    assert found(scan) == {("a.txt", "several_lines")}


def test_a_placeholder_is_no_prompt_said_again(tmp_path):
    dataset(tmp_path, a=b"A photo of [trigger] by the sea, [name] beside it.")
    assert not found(run_scan(tmp_path)) and found(run_scan(tmp_path, for_="ai-toolkit")) == {("a.txt", "placeholder")}


def test_captions_elsewhere_otherwise_named_and_in_subfolders(tmp_path):
    for name in ("a.png", "sub/b.png", "sub/b.jpg"):
        picture(tmp_path / "media" / name)
    captions = tmp_path / "captions"
    (captions / "sub").mkdir(parents=True)
    for name in ("a.png.caption", "sub/b.png.caption", "sub/b.jpg.caption"):
        (captions / name).write_text(f"{GOOD[:-1]}, {name}.\n")
    (captions / "sub" / "c.png.caption").write_text("A lamp stands on a desk. ")
    scan = run_scan(tmp_path / "media", captions=captions, name="full", extension=".caption", recursive=True, fix=True)
    assert scan.files == 3
    assert [(Path(f.path), f.code) for f in scan.findings] == [(captions / "sub" / "c.png.caption", "no_media")]
    assert (captions / ".gemma-captioner" / "runs" / f"{scan.run_id}.jsonl").is_file()
    assert not (tmp_path / "media" / ".gemma-captioner").exists()
    beside = run_scan(tmp_path / "media", recursive=True)
    assert {(Path(f.path).name, f.code) for f in beside.findings} == {
        ("a.png", "no_caption"), ("b.png", "no_caption"), ("b.jpg", "no_caption"),
        ("b.png", "collision"), ("b.jpg", "collision"),
    }  # fmt: skip


def test_a_caption_under_another_name_is_pointed_at(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.TXT").write_text(GOOD)
    [finding] = run_scan(tmp_path).findings
    assert finding.code == "no_caption" and "a.TXT exists" in finding.detail


def test_ours_is_told_by_its_digest_and_its_flags_by_the_journal(command, tmp_path, script):
    for name in ("01.png", "02.png"):
        picture(tmp_path / "m" / name)
    cut = {"text": "\u201cA star\u201d is painted on a wall. It glows in", "finish_reason": "length"}
    answers = script(replies={"01.png": cut})
    done = command("caption", tmp_path / "m", "--engine", "scripted", "--model", answers, "--punctuation", "any",
                   "--prefix", "Caption: ")  # fmt: skip
    assert done.code == 0, done.err
    scan = run_scan(tmp_path / "m")
    assert {c for p, c in found(scan) if p == "01.txt"} == {"truncated"}
    # The same words from elsewhere are a stranger's, and a person's once they are edited.
    caption = (tmp_path / "m" / "01.txt").read_text()
    (tmp_path / "m" / "01.txt").write_text(f"{caption} ")
    assert {c for p, c in found(run_scan(tmp_path / "m")) if p == "01.txt"} == {
        "leftover", "typographic", "whitespace"
    }  # fmt: skip


def test_the_command(command, faulty):
    done = command("check", faulty, "--target", "sdxl", "--json")
    assert done.code == 3 and done.err == ""
    told = done.json
    hits = {(Path(f["path"]).name, f["code"]) for f in told["findings"]}
    assert {("not_utf8.txt", "not_utf8"), ("no_caption.png", "no_caption")} <= hits
    assert told["errors"] == sum(f["severity"] == "error" for f in told["findings"]) > 0
    assert all(f["what"] and f["remedy"] for f in told["findings"])
    assert Path(told["report"]) == faulty / ".gemma-captioner" / "check" / "report.html"
    said = command("check", faulty, "--fix")
    assert said.code == 3 and "not_utf8.txt: detected as Windows-1252" not in said.out
    [line] = [line for line in said.err.splitlines() if "restore" in line]
    before = (faulty / "leftover.txt").read_bytes()
    assert command(*line.split()[1:]).code == 0
    assert (faulty / "leftover.txt").read_bytes() == FAULTY_CAPTIONS["leftover"] != before


def test_exit_codes(command, tmp_path):
    fine = dataset(tmp_path / "fine", a=GOOD.encode())
    done = command("check", fine, "--json", "--html", tmp_path / "page.html")
    assert done.code == 0 and done.json["findings"] == [] and (tmp_path / "page.html").is_file()
    assert not (fine / ".gemma-captioner").exists()
    (tmp_path / "none").mkdir()
    none = command("check", tmp_path / "none", "--json")
    assert none.code == 1 and none.json["files"] == 0 and "no images or clips" in none.err
    unknown = command("check", fine, "--for", "nonsense")
    assert unknown.code == 2 and "Available: musubi" in unknown.err
    assert command("check", fine / "a.png").code == 2
    notes = command("check", dataset(tmp_path / "notes", a=b"a cat"))
    assert notes.code == 0 and "note  too_short      1" in notes.out


def test_a_page_shows_captions_as_text_and_stays_small(command, tmp_path):
    folder = dataset(tmp_path, **{"<script>alert(1)": b"Error processing <script>alert(2)</script> " + b"word " * 900})
    for i in range(60):
        dataset(folder, **{f"e{i}": b"Error processing it"})
    assert command("check", folder, "--json").json["errors"] == 61
    page = (folder / ".gemma-captioner" / "check" / "report.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page and "&lt;script&gt;alert(2)" in page
    assert page.count("data:image/jpeg") == 24 and "and 41 more" in page
    assert len(page) < 100_000


def test_pairs():
    named = {"a.png": "a.txt", "a.mp4": "a.txt", "b.png": "b.txt"}
    assert list(match_captions(named, ["a.txt", "c.txt"], named.__getitem__)) == [
        ("a.txt", ("a.png", "a.mp4"), True), ("b.txt", ("b.png",), False), ("c.txt", (), True)
    ]  # fmt: skip
    assert list(match_captions(named, ["A.TXT", "c.txt"], named.__getitem__, str.casefold)) == [
        ("A.TXT", ("a.png", "a.mp4"), True), ("b.txt", ("b.png",), False), ("c.txt", (), True)
    ]  # fmt: skip


def test_bars_have_a_round_width_and_end_at_the_limit():
    from collections import Counter

    shown = bars(Counter({3: 1, 4: 2, 75: 1, 76: 4}), 75)
    assert [(b.first, b.last, b.count) for b in shown if b.count] == [(1, 5, 3), (71, 75, 1), (76, 80, 4)]
    assert [b.over for b in shown if b.count] == [False, False, True] and shown[-1].height == 100
    assert bars(Counter(), None) == []


def test_tokens_counted_exactly_are_no_estimate():
    fits = inspect_caption(FAULTY_CAPTIONS["maybe_too_long"], CheckSettings(target="sdxl"), lambda text: 75)
    assert not {code for code, _ in fits.findings} & {"too_long", "maybe_too_long"} and fits.length == 75
    [hit] = inspect_caption(GOOD.encode(), CheckSettings(target="sdxl"), lambda text: 76).findings
    assert hit == ("too_long", "76 tokens; sdxl reads 75")


@pytest.mark.prove
def test_what_an_audit_holds_grows_with_names_not_with_captions():
    def peak(entries: int) -> int:
        tracemalloc.start()
        stats = CaptionStats()
        for i in range(entries):
            stats.add(f"/data/set/clip_{i:06}.txt", f"Clip {i} shows a dog. " + "It runs past a tree. " * 40, 200)
        assert next(stats.duplicates(), None) is None
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    small, large = peak(1_000), peak(10_000)
    assert large < 11 * small
    assert large < 10_000 * 600  # a caption alone is 860 bytes
    stats = CaptionStats()
    for i in range(20_000):
        stats.add(f"{i}.txt", "The same words.", 3)
    [names] = stats.duplicates()
    assert len(names) == 20_000


@pytest.mark.prove
def test_five_thousand_captions(command, tmp_path):
    for i in range(5_000):
        (tmp_path / f"{i}.png").write_bytes(b"x")
        (tmp_path / f"{i}.txt").write_text("Here is a caption: A dog runs.")
    done = command("check", tmp_path, "--json", timeout=240)
    assert len(done.json["findings"]) == 10_000  # a leftover and a duplicate each
    assert (tmp_path / ".gemma-captioner" / "check" / "report.html").stat().st_size < 200_000
    assert json.dumps(done.json["findings"][0])


def test_the_page_replaces_no_caption(command, tmp_path):
    dataset(tmp_path, a=GOOD.encode())
    done = command("check", tmp_path, "--html", tmp_path / "a.txt")
    assert "it exists, and is not an HTML page" in done.err and (tmp_path / "a.txt").read_text() == GOOD
    for _ in range(2):
        command("check", tmp_path, "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("extension", "undo"), [("caption", "gemma-captioner restore"), ("tags", ".jsonl")])
def test_what_was_repaired_can_be_undone(command, tmp_path, extension, undo):
    """`restore` writes only files of types that are captions, because anybody may have written the journal."""
    picture(tmp_path / "a.png")
    caption = tmp_path / f"a.{extension}"
    caption.write_bytes(b"\xef\xbb\xbfA cat.")
    done = command("check", tmp_path, "--extension", extension, "--fix")
    assert caption.read_bytes() == b"A cat." and undo in done.err
    if "restore" in undo:
        assert command("restore", done.err.split(" restore ")[1].split()[0], tmp_path).code == 0
        assert caption.read_bytes() == b"\xef\xbb\xbfA cat."


@pytest.mark.parametrize("command_of_it", ["fix", "restore"])
def test_an_edit_made_meanwhile_stays(tmp_path, monkeypatch, command_of_it):
    dataset(tmp_path, bom=b"\xef\xbb\xbfA cat.")
    scan = run_scan(tmp_path, fix=command_of_it == "restore")

    def edit_after_append(self, store, record, *, append=Journal.append, **options):
        append(self, store, record, **options)
        (tmp_path / "bom.txt").write_text("Edited meanwhile.")

    monkeypatch.setattr(Journal, "append", edit_after_append)
    if command_of_it == "restore":
        [file] = restore(tmp_path, scan.run_id)
        assert "changed this caption meanwhile" in str(file.reason)
    else:
        scan = run_scan(tmp_path, fix=True)
        assert ("bom.txt", "unfixable") in found(scan) and not scan.fixed
    assert (tmp_path / "bom.txt").read_text() == "Edited meanwhile."
