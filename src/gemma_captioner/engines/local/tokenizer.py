"""Counts a caption's tokens with the tokenizer of a trainer's text encoder."""

from collections.abc import Callable
from pathlib import Path

from .checkpoint import map_loading_errors

_FILES = ["*.json", "*.txt", "*.model"]  # vocabularies and merges of BPE, SentencePiece models


def token_counter(name: str | None, token: str | None = None) -> Callable[[str], int] | None:
    """Return a function that counts a text's tokens, special tokens excluded. Raises `ModelError`.

    name: a Hugging Face id or a folder. None: no counter, the tokens are estimated.
    """
    if name is None:
        return None
    with map_loading_errors(name, token):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            from huggingface_hub import snapshot_download  # AutoTokenizer retries an unreachable hub for a minute

            folder = Path(snapshot_download(name, allow_patterns=_FILES, token=token))
        if (file := folder / "tokenizer.json").is_file():
            import tokenizers

            backend = tokenizers.Tokenizer.from_file(str(file))
            backend.no_truncation()
            backend.no_padding()
            return lambda text: len(backend.encode(text, add_special_tokens=False).ids)
        from transformers import AutoTokenizer  # takes seconds to import

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
