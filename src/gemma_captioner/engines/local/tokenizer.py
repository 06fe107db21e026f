"""A text encoder's own tokenizer, for counting what it will read."""

from collections.abc import Callable
from pathlib import Path

from .checkpoint import explained


def token_counter(name: str, token: str | None) -> Callable[[str], int]:
    """name: Hugging Face id or folder. Text -> tokens, the encoder's own marks left out. Raises `ModelError`."""
    from transformers import AutoTokenizer  # seconds to import

    with explained(name, token):
        folder = Path(name).expanduser()
        tokenizer = AutoTokenizer.from_pretrained(folder if folder.is_dir() else name, token=token)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
