"""The part of a caption that raises a flag, and the part that a text encoder cuts off."""

import json
from pathlib import Path

import pytest

from gemma_captioner.captions.flags import part_rules
from gemma_captioner.captions.limits import estimated_tokens
from gemma_captioner.captions.marks import Mark, flag_marks, marked_parts, unread_mark
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.tokenizer import token_counter, token_counter_at_hand

LABELED = [json.loads(line) for line in (Path(__file__).parent / "data" / "flags.jsonl").read_text().splitlines()]


def marked(caption: str, *, states_silence: bool = False) -> list[tuple[str, str]]:
    return [
        (mark.flag, caption[mark.start : mark.end])
        for mark in flag_marks(caption, part_rules(states_silence=states_silence))
    ]


@pytest.mark.parametrize(
    ("caption", "parts"),
    [
        ("A red cat sits on a mat.", []),
        ("A street at dusk. There are no people in it.", [("absent_things", "There are no")]),
        ("A sign says \"no parking\". The hall has no chairs, and nobody is there.",
         [("absent_things", "has no"), ("absent_things", "nobody is")]),
        ("A cat. I'm sorry, I cannot describe the image.", None),
        ("A dog, run, run, run, run, run, across a field.", [("repetition", "run, run, run, run,")]),
        ("A cat sits. Describe the image in detail.", [("prompt_echo", "Describe the image")]),
        ("\u4e00\u53ea\u7ea2\u732b\u3002", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_mark_is_what_raises_the_flag(caption, parts):
    found = marked(caption)
    if parts is None:
        assert found[0][0] == "refusal" and found[0][1] in "I'm sorry, I cannot describe the image" and len(found) <= 3
    else:
        assert found == parts


def test_silence_that_the_target_states_is_not_marked():
    caption = "A man walks. There is no music, and no other people are seen."
    assert ("absent_things", "no music") not in marked(caption, states_silence=True)
    assert any("no other" in part for _, part in marked(caption, states_silence=True))


def test_every_mark_of_the_labeled_captions_raises_its_flag_alone():
    """A caption with a flag has a mark for it, and a caption without flags has no marks."""
    rules, seen = part_rules(), set()
    for line in LABELED[::4]:
        caption = line["caption"]
        flags = {flag for flag, breaks in rules.items() if breaks(caption)}
        marks = flag_marks(caption, rules)
        assert {mark.flag for mark in marks} == flags, caption
        for mark in marks:
            assert rules[mark.flag](caption[mark.start : mark.end]), (mark, caption)
        seen |= flags
        assert "".join(part for _, part in marked_parts(caption, marks)) == caption
    assert seen == rules.keys()


def test_marks_are_short():
    """Where one phrase raises the flag, the mark is not the whole caption."""
    lengths = [
        (mark.end - mark.start) / len(line["caption"])
        for line in LABELED[1::4]
        for mark in flag_marks(line["caption"], {"absent_things": part_rules()["absent_things"]})
    ]
    assert len(lengths) > 15 and sum(lengths) / len(lengths) < 0.4


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("caption", "limit", "unread"),
    [
        ("A cat on a mat", 5, None),
        ("A cat on a mat", 3, "a mat"),
        ("A cat on a mat. ", 4, "mat."),
        ("A cat", 0, "A cat"),
    ],
)
def test_the_part_beyond_the_token_limit_is_marked(caption, limit, unread):
    mark = unread_mark(caption, limit, words)
    assert (mark and caption[mark.start : mark.end]) == unread


def test_a_script_without_spaces_is_cut_between_characters():
    caption = "\u4e00\u53ea\u7ea2\u732b"
    mark = unread_mark(caption, 4, lambda text: estimated_tokens(text, "CLIP"))
    assert mark == Mark(2, 4, "too_long")


def test_parts_that_overlap_are_cut():
    marks = [Mark(2, 6, "refusal"), Mark(4, 8, "too_long")]
    assert marked_parts("abcdefghij", marks) == [
        ("", "ab"), ("refusal", "cd"), ("refusal too_long", "ef"), ("too_long", "gh"), ("", "ij"),
    ]  # fmt: skip
    assert marked_parts("", []) == []


def cached(hub: Path, repository: str, inside: str) -> None:
    """Put the tokenizer of the demo where huggingface_hub keeps a file of this repository."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    file = folder / "snapshots" / ("0" * 40) / inside / "tokenizer.json"
    file.parent.mkdir(parents=True)
    file.write_bytes((DEMO_CHECKPOINT / "tokenizer.json").read_bytes())


def test_a_tokenizer_at_hand_counts_without_a_download(tmp_path, monkeypatch):
    """From the cache, by the encoder of the target, or by --tokenizer; a damaged file is none."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    text, exact = "A red circle.", token_counter(str(DEMO_CHECKPOINT))
    assert token_counter_at_hand(None, "flux") is None is token_counter_at_hand("owner/tiny", None)
    cached(tmp_path, "black-forest-labs/FLUX.1-dev", "tokenizer_2")
    cached(tmp_path, "owner/tiny", "")
    cached(tmp_path, "google/gemma-3-4b-it", "")
    for name, target in ((None, "flux"), (None, "ltx2"), ("owner/tiny", None), (str(DEMO_CHECKPOINT), "wan")):
        count = token_counter_at_hand(name, target)
        assert count is not None and count(text) == exact(text)
    for name, target in (
        (None, "sdxl"),
        (None, "lumina2"),
        (None, None),
        (str(tmp_path), "flux"),
        ("no/such/folder", None),
    ):
        assert token_counter_at_hand(name, target) is None
    next((tmp_path / "models--owner--tiny").rglob("tokenizer.json")).write_text("{")
    assert token_counter_at_hand("owner/tiny", None) is None


def test_every_encoder_of_the_targets_has_its_repositories():
    from gemma_captioner.config.targets import all_targets
    from gemma_captioner.engines.local.tokenizer import _SOURCES

    assert {row.encoder for row in all_targets() if row.tokens} <= _SOURCES.keys()
