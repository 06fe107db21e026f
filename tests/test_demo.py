"""The demo checkpoint, graded, and the `demo` command."""

import json
import re
from itertools import pairwise
from random import Random

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer
from transformers.utils.sentencepiece_model_pb2_new import ModelProto

from gemma_captioner.demo.drawing import random_scene
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from tools.grade_demo_model import grade


@pytest.mark.parametrize(
    ("order", "files"),
    [
        ("media-first", 80),
        pytest.param("text-first", 80, marks=pytest.mark.long),
        pytest.param("media-first", 500, marks=pytest.mark.prove),  # docs/decisions.md
        pytest.param("text-first", 500, marks=pytest.mark.prove),
    ],
)
def test_the_demo_is_right(order, files):
    graded = grade(files, order)
    assert graded.share(".png") >= 0.97, graded.wrong
    assert graded.share(".mp4") >= 0.95, graded.wrong


def test_the_demo_command(command, tmp_path):
    done = command("demo", tmp_path / "new")
    assert done.code == 0, done.err
    files = sorted(p.name for p in (tmp_path / "new").iterdir() if p.suffix in (".png", ".jpg", ".mp4"))
    assert len(files) == 12
    rows = [line for line in done.out.splitlines() if re.match(r"\d\d-", line)]
    assert len(rows) == 12 and str(tmp_path / "new") in done.out.replace("\n", "")
    assert done.out.count(" yes") >= 11, done.out
    temporary = command("demo")
    assert temporary.code == 0 and "gemma-captioner-demo-" in temporary.out


def test_the_demo_is_laid_out_as_googles_checkpoints_are():
    """vLLM and llama.cpp's converter read these tensor names, and llama.cpp derives the layer pattern by itself."""
    with safe_open(DEMO_CHECKPOINT / "model.safetensors", "pt") as file:
        heads = {".".join(name.split(".")[:2]) for name in file.keys()}  # noqa: SIM118
    assert {name for name in heads if name.startswith("vision_tower")} == {"vision_tower.vision_model"}
    assert "language_model.model" in heads
    text = json.loads((DEMO_CHECKPOINT / "config.json").read_text(encoding="utf-8"))["text_config"]
    assert text["layer_types"] == ["sliding_attention"] * 5 + ["full_attention"]


def sentencepiece_tokens(pieces, text):
    """Tokenize as SentencePiece does: cut at user-defined pieces, then merge the pair that makes the best piece."""
    kinds = ModelProto.SentencePiece.Type
    cuts = sorted((p.piece for p in pieces if p.type == kinds.Value("USER_DEFINED")), key=len, reverse=True)
    scores = {p.piece: p.score for p in pieces if p.type == kinds.Value("NORMAL")}
    tokens = []
    for part in re.split(f"({'|'.join(map(re.escape, cuts))})", text):
        if part in cuts:
            tokens.append(part)
            continue
        symbols = list(part.replace(" ", "▁"))
        while made := [(scores[a + b], -i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in scores]:
            at = -max(made)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        for symbol in symbols:
            tokens += [symbol] if symbol in scores else [f"<0x{byte:02X}>" for byte in symbol.encode()]
    return tokens


def test_both_tokenizers_of_the_demo_agree():
    """llama.cpp's converter reads `tokenizer.model`; transformers and vLLM read `tokenizer.json`."""
    model = ModelProto.FromString((DEMO_CHECKPOINT / "tokenizer.model").read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(DEMO_CHECKPOINT)
    assert [piece.piece for piece in model.pieces] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert tokenizer.tokenize("user\n\n\n<start_of_image>") == ["user", "\n\n\n", "<start_of_image>"]
    rng = Random(0)
    letters = [*map(chr, range(32, 127)), *" \n" * 20, *"aeinorst" * 10, *"é漢🙂\t"]
    learned = [piece.piece.replace("▁", " ") for piece in model.pieces[300:]]
    texts = ["".join(rng.choices(letters, k=rng.randint(1, 60))) for _ in range(100)]
    texts += ["".join(rng.choices(learned, k=12)) for _ in range(100)]
    texts += [f"{random_scene(rng, clip=True).caption}<end_of_turn>\n" for _ in range(100)]
    for text in texts:
        assert tokenizer.tokenize(text) == sentencepiece_tokens(model.pieces, text), repr(text)


def test_captions_say_an_before_a_vowel():
    captions = [random_scene(Random(seed), clip=False).caption for seed in range(100)]
    assert any(c.startswith("An orange ") for c in captions) and any(" on an orange " in c for c in captions)
    assert not any("a orange" in c.lower() or re.search("[Aa]n [^o]", c) for c in captions)
