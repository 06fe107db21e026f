"""Finds and downloads a model's files. Converts all errors of the hub and the loader to `ModelError`."""

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...redaction import redact_token
from ...storage.filesystem import expand_home

DEMO_CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
SUPPORTED_MODEL_TYPES = ("gemma3", "gemma4", "gemma4_unified")  # families.py holds their differences
_CONFIG_PATTERNS = ["*.json", "*.jinja", "tokenizer.model"]
_WEIGHTS_PATTERN = "*.safetensors"
_WRONG_FORMATS = {
    ".gguf": "GGUF files; serve them with llama.cpp or Ollama",
    ".bin": "PyTorch pickles, which may run code when loaded",
    ".pth": "PyTorch pickles, which may run code when loaded",
    ".npz": "JAX arrays",
}
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that was found."""

    name: str  # as the user gave it
    folder: Path  # holds at least the configuration, the tokenizer and the processor
    revision: str  # the hub's commit; for a folder, a digest of its configuration and the sizes of its weight files
    config: dict[str, Any]
    on_hub: bool
    token: str | None = None

    @property
    def family(self) -> str:
        return str(self.config["model_type"])

    @property
    def quantization(self) -> dict[str, Any] | None:
        """The quantization of the stored weights, as the configuration describes it."""
        text = self.config.get("text_config") or {}
        return self.config.get("quantization_config") or text.get("quantization_config")

    def __repr__(self) -> str:  # omits the token
        return f"Checkpoint({self.name!r}, revision={self.revision!r})"


def resolve_checkpoint(model: str, token: str | None) -> Checkpoint:
    """Find the model and fetch its configuration, but not its weights. Raises `ModelError`."""
    with map_loading_errors(model, token):
        if model == "demo":
            folder, on_hub = DEMO_CHECKPOINT, False
        else:
            folder, on_hub = locate(model, token, _CONFIG_PATTERNS)
        config = _read_config(model, folder)
    if config.get("model_type") not in SUPPORTED_MODEL_TYPES:
        raise ModelError(_unsupported_model_message(model, str(config.get("model_type"))))
    quantization = config.get("quantization_config")
    if quantization is not None and "quant_method" not in quantization:  # written by MLX
        raise ModelError(f"{model} is quantized for MLX, which transformers cannot read: use the original checkpoint")
    if not on_hub and not any(folder.glob(_WEIGHTS_PATTERN)):
        raise ModelError(f"{model} has no safetensors weights{_format_hint(folder)}: use a checkpoint that has them")
    revision = folder.name if on_hub else _digest(folder)
    return Checkpoint(model, folder, revision, config, on_hub, token)


def locate(name: str, token: str | None, patterns: list[str]) -> tuple[Path, bool]:
    """Return the folder of a local path or of a hub id, and whether it is on the hub. Downloads what matches."""
    folder = expand_home(name)
    if folder.exists() or name.startswith((".", "/", "~")):
        return folder, False
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=patterns, token=token)), True


def is_downloaded(name: str) -> bool:
    """Whether a hub id's weights are on this machine. False for anything else."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json") if name.count("/") == 1 else None
    return isinstance(config, str) and _has_all_weights(Path(config).parent)


def fetch_weights(checkpoint: Checkpoint) -> None:
    """Check the free disk space, then download the missing weights. Raises `ModelError`."""
    if not checkpoint.on_hub or _has_all_weights(checkpoint.folder):
        return
    from huggingface_hub import snapshot_download

    with map_loading_errors(checkpoint.name, checkpoint.token):
        sizes = _sizes_on_hub(checkpoint)
        if not sizes:
            raise ModelError(f"{checkpoint.name} has no safetensors weights: use a repository that has them")
        local_bytes = sum(file.stat().st_size for file in checkpoint.folder.glob(_WEIGHTS_PATTERN))
        free_bytes = shutil.disk_usage(checkpoint.folder)[2]
        if sum(sizes) - local_bytes > free_bytes:
            raise ModelError(
                f"{checkpoint.name} needs {(sum(sizes) - local_bytes) / _GIB:.1f} GiB of disk space and "
                f"{free_bytes / _GIB:.1f} GiB are free: free some, or set HF_HOME to a folder on a larger disk"
            )
        snapshot_download(
            checkpoint.name, revision=checkpoint.revision, allow_patterns=[_WEIGHTS_PATTERN], token=checkpoint.token
        )


def weight_bytes(checkpoint: Checkpoint) -> int:
    """Return the stored size of the weights, on this disk or on the hub. Raises `ModelError`."""
    index = checkpoint.folder / "model.safetensors.index.json"
    with map_loading_errors(checkpoint.name, checkpoint.token):
        if index.is_file() and (size := json.loads(index.read_bytes()).get("metadata", {}).get("total_size")):
            return int(size)
        if checkpoint.on_hub and not _has_all_weights(checkpoint.folder):
            return sum(_sizes_on_hub(checkpoint))
        return sum(file.stat().st_size for file in checkpoint.folder.glob(_WEIGHTS_PATTERN))


def _sizes_on_hub(checkpoint: Checkpoint) -> list[int]:
    """The size of each weight file in bytes."""
    from huggingface_hub import HfApi

    info = HfApi(token=checkpoint.token).model_info(checkpoint.name, revision=checkpoint.revision, files_metadata=True)
    return [file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(".safetensors")]


def _has_all_weights(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return all((folder / f).is_file() for f in set(json.loads(index.read_bytes())["weight_map"].values()))
    return any(folder.glob(_WEIGHTS_PATTERN))


def _read_config(model: str, folder: Path) -> dict[str, Any]:
    if not folder.exists():
        raise ModelError(f"{folder} does not exist: give a folder, a Hugging Face id, or `demo`")
    if folder.is_file():
        raise ModelError(f"{folder} is a file{_format_hint(folder.parent)}: give the folder that holds config.json")
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{model} has no config.json{_format_hint(folder)}. "
            "Give the folder of a checkpoint saved by transformers, or a Hugging Face id"
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a model configuration: download it again")
    return config


def _format_hint(folder: Path) -> str:
    for suffix, description in _WRONG_FORMATS.items():
        if any(folder.glob(f"*{suffix}")):
            return f" (the folder holds {description})"
    return ""


def _unsupported_model_message(model: str, model_type: str) -> str:
    if model_type in ("gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text"):
        return f"{model} is a text-only model: use Gemma 3 4b, 12b or 27b, or a Gemma 4"
    if model_type == "gemma3n":
        return (
            f"{model} is a Gemma 3n, which the local engine does not support: use a Gemma 3 or Gemma 4, or serve the "
            "model and use --engine server"
        )
    return f"{model} has the unsupported model type {model_type!r}. Supported: {', '.join(SUPPORTED_MODEL_TYPES)}"


def _digest(folder: Path) -> str:
    content = (folder / "config.json").read_text(encoding="utf-8")
    content += str(sorted((f.name, f.stat().st_size) for f in folder.glob(_WEIGHTS_PATTERN)))
    return hashlib.sha256(content.encode()).hexdigest()[:12]


@contextmanager
def map_loading_errors(model: str, token: str | None) -> Iterator[None]:
    """Convert every error of the hub or the loader to a one-line `ModelError` that names the remedy."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        # safetensors, huggingface_hub and its HTTP client raise exceptions whose only common base is Exception.
        raise ModelError(redact_token(_error_message(model, error), token)) from error


def _error_message(model: str, error: BaseException) -> str:
    from huggingface_hub import errors as hub

    if isinstance(error, hub.LocalEntryNotFoundError) and isinstance(error.__cause__, hub.HfHubHTTPError):
        error = error.__cause__  # the hub did answer; its response says more
    for kind, message in (
        (
            hub.GatedRepoError,
            f"{model} is gated: accept its license on the model's page, then run `hf auth login` or pass --hf-token",
        ),
        (
            hub.RepositoryNotFoundError,
            f"{model} does not exist on the hub, or is private: check the spelling; if it is private, run "
            "`hf auth login` or pass --hf-token",
        ),
        (hub.DisabledRepoError, f"{model} was disabled on the hub: use another model"),
        (
            hub.HFValidationError,
            f"{model!r} is not a model name: give a Hugging Face id (owner/name), a folder, or `demo`",
        ),
        (
            (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError, TimeoutError),
            f"{model} is not on this machine, and the hub cannot be reached: check the network and HF_HUB_OFFLINE, "
            "or give a local folder",
        ),
    ):
        if isinstance(error, kind):
            return message
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the Hugging Face token is not valid: run `hf auth login` again, or pass another --hf-token"
    if status in (403, 429):
        return (
            f"the hub refused access to {model} (HTTP {status}): check that your token can read it, or try again later"
        )
    if isinstance(error, hub.HfHubHTTPError):
        return f"the hub failed to serve {model} (HTTP {status}): try again later"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no disk space left for {model}: free some, or set HF_HOME to a folder on a larger disk"
    if isinstance(error, json.JSONDecodeError):
        return f"{model} contains a broken JSON file: download it again"
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return f"cannot load {model} ({type(error).__name__}: {reason}): download it again, or use another model"
