"""Counts a caption's tokens with the tokenizer of a trainer's text encoder."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...config.targets import token_limit
from ...storage.filesystem import expand_home
from .checkpoint import map_loading_errors

# Whose repositories hold the tokenizer of each text encoder (config/targets.toml), as a `tokenizer.json` at this path.
# All of a line have the same vocabulary: Qwen 2.5 and 3 differ in special tokens, Llama 3 and 3.1 do not.
_SOURCES: Mapping[str, Sequence[tuple[str, str]]] = {
    "CLIP": [("openai/clip-vit-large-patch14", ""), ("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "")],
    "T5": [
        ("black-forest-labs/FLUX.1-dev", "tokenizer_2/"),
        ("black-forest-labs/FLUX.1-schnell", "tokenizer_2/"),
        ("google-t5/t5-base", ""),
        ("google-t5/t5-small", ""),
    ],
    "umT5": [
        ("google/umt5-xxl", ""),
        ("Wan-AI/Wan2.1-T2V-14B", "google/umt5-xxl/"),
        ("Wan-AI/Wan2.1-T2V-1.3B", "google/umt5-xxl/"),
        ("Wan-AI/Wan2.2-T2V-A14B", "google/umt5-xxl/"),
    ],
    "LLaMA": [
        ("meta-llama/Llama-3.1-8B-Instruct", ""),
        ("unsloth/Meta-Llama-3.1-8B-Instruct", ""),
        ("hunyuanvideo-community/HunyuanVideo", "tokenizer/"),
    ],
    "Qwen": [
        ("Qwen/Qwen2.5-VL-7B-Instruct", ""),
        ("Qwen/Qwen3-4B", ""),
        ("Qwen/Qwen3-8B", ""),
        ("Qwen/Qwen3-0.6B", ""),
    ],
    "Gemma": [
        (f"{owner}/gemma-3-{size}-{kind}", "")
        for owner in ("google", "unsloth")
        for size in ("12b", "27b", "4b")
        for kind in ("it", "pt")
    ],
    "Mistral": [("black-forest-labs/FLUX.2-dev", "tokenizer/")],
    "SmolLM3": [("HuggingFaceTB/SmolLM3-3B", "")],
}
_OTHER_VOCABULARY = {"lumina2"}  # targets whose encoder is another one of the family: Gemma 2

_FILES = ["*.json", "*.txt", "*.model"]  # vocabularies and merges of BPE, SentencePiece models


def token_counter(name: str | None, token: str | None = None) -> Callable[[str], int] | None:
    """Return a function that counts a text's tokens, special tokens excluded. Raises `ModelError`.

    name: a Hugging Face id or a folder. None: no counter, the tokens are estimated.
    """
    if name is None:
        return None
    with map_loading_errors(name, token):
        folder = expand_home(name)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download  # AutoTokenizer retries an unreachable hub for a minute

            folder = Path(snapshot_download(name, allow_patterns=_FILES, token=token))
        if (file := folder / "tokenizer.json").is_file():
            return _counter_of(file)
        from transformers import AutoTokenizer  # takes seconds to import

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _counter_of(file: Path) -> Callable[[str], int]:
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(file))
    backend.no_truncation()
    backend.no_padding()
    return lambda text: len(backend.encode(text, add_special_tokens=False).ids)


def token_counter_at_hand(name: str | None, target: str | None) -> Callable[[str], int] | None:
    """Return a counter as `token_counter` does, if its file is on this machine, else None. Nothing is downloaded.

    name: of `--tokenizer`. None: the tokenizer of the target's text encoder, where the Hugging Face cache has it.
    """
    files: list[Any] = []
    if name is not None and (folder := expand_home(name)).is_dir():
        files = [folder / "tokenizer.json"]
    else:
        from huggingface_hub import try_to_load_from_cache

        limit = token_limit(target)
        is_listed = limit is not None and (target or "").rpartition(":")[2] not in _OTHER_VOCABULARY
        sources = [(name, "")] if name is not None else _SOURCES[limit.encoder] if limit and is_listed else []
        with suppress(ValueError):  # the name is none of a repository
            files = [try_to_load_from_cache(repository, f"{inside}tokenizer.json") for repository, inside in sources]
    for file in files:
        if isinstance(file, str | Path) and Path(file).is_file():
            with suppress(Exception):  # the library's own errors, of a damaged file
                return _counter_of(Path(file))
    return None
