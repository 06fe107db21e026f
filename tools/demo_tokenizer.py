"""Trains the demo checkpoint's tokenizer, and writes it in both formats that servers read.

`tokenizer.json` is for transformers and vLLM, `tokenizer.model` for llama.cpp's converter. Both tokenize equally,
because both rank a merge by the piece that it makes, as SentencePiece does.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GemmaTokenizer
from transformers.utils.sentencepiece_model_pb2_new import ModelProto

VOCABULARY = 768
CONTROL = ["<pad>", "<eos>", "<bos>"]
GEMMA3_TOKENS = {
    "start_of_turn_token": "<start_of_turn>",
    "end_of_turn_token": "<end_of_turn>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
SPECIAL = [*CONTROL, "<unk>", "<mask>", *GEMMA3_TOKENS.values()]
NEWLINES = ["\n" * n for n in range(1, 9)]  # as in Gemma's vocabulary; vLLM looks for the third and the fourth
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def train_tokenizer(texts: Iterable[str], tokens: Mapping[str, str] = GEMMA3_TOKENS) -> GemmaTokenizer:
    """Train a byte-fallback BPE in Gemma's format. tokens: the model's special tokens by name."""
    special = [*CONTROL, "<unk>", "<mask>", *tokens.values()]
    learner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "removed"),  # no merge may cross a newline
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Punctuation(),
        ]
    )
    learner.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special + NEWLINES + BYTES,
        initial_alphabet=[chr(i) for i in range(33, 127)] + ["▁"],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = json.loads(learner.to_str())["model"]["vocab"]
    tokenizer = GemmaTokenizer(
        vocab=vocabulary,
        merges=all_merges(vocabulary, special),
        extra_special_tokens=dict(tokens),
        add_bos_token=True,
        model_max_length=8192,
    )
    tokenizer.add_tokens([AddedToken(run, normalized=False, special=False) for run in NEWLINES])
    return tokenizer


def all_merges(vocabulary: dict[str, int], special: Sequence[str]) -> list[tuple[str, str]]:
    """Return each pair of pieces that makes a piece, by the id of what it makes: "▁the" -> ("▁", "the"), ...."""
    learned = {piece: id_ for piece, id_ in vocabulary.items() if piece not in {*special, *NEWLINES, *BYTES}}
    pairs = []
    for piece in sorted(learned, key=learned.__getitem__):
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        known = [pair for pair in splits if pair[0] in learned and pair[1] in learned]
        pairs += sorted(known, key=lambda pair: (learned[pair[0]], learned[pair[1]]))
    return pairs


def save_for_sentencepiece(tokenizer: GemmaTokenizer, folder: Path) -> None:
    """Write `tokenizer.model`, and into `tokenizer_config.json` the token types that llama.cpp's converter reads."""
    model = ModelProto()
    kinds = model.SentencePiece.Type
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    for piece, id_ in pieces:
        if piece in BYTES:
            kind, score = kinds.Value("BYTE"), 0.0
        elif piece == "<unk>":
            kind, score = kinds.Value("UNKNOWN"), 0.0
        elif piece in CONTROL:
            kind, score = kinds.Value("CONTROL"), 0.0
        elif piece in SPECIAL or piece in NEWLINES:
            kind, score = kinds.Value("USER_DEFINED"), 0.0
        else:
            kind, score = kinds.Value("NORMAL"), -float(id_)
        model.pieces.add(piece=piece, score=score, type=kind)
    trainer = model.trainer_spec
    trainer.model_type = trainer.ModelType.Value("BPE")
    trainer.vocab_size = len(pieces)
    trainer.byte_fallback = True
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = 0, 1, 2, 3
    trainer.pad_piece, trainer.eos_piece, trainer.bos_piece, trainer.unk_piece = "<pad>", "<eos>", "<bos>", "<unk>"
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())

    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["added_tokens_decoder"] = {
        str(id_): {
            "content": piece,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": piece in SPECIAL,
        }
        for piece, id_ in pieces
        if piece in SPECIAL or piece in NEWLINES
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
