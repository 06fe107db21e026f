"""Finds out which server answers, and a model's context length, from endpoints outside of the OpenAI protocol.

Sources: the servers' API references, and their answers in tests/data/server_info.json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .client import Client

# (server, an endpoint that only it has, path in the reply to the version or to a key that only it has)
_VERSION_KEYS = ("build_info", "version")
_SERVERS: Sequence[tuple[str, str, Sequence[str | int]]] = (
    ("llama.cpp", "/props", ("build_info",)),
    ("Ollama", "/api/version", ("version",)),
    ("SGLang", "/get_server_info", ("version",)),
    ("vLLM", "/version", ("version",)),
    ("LM Studio", "/api/v0/models", ("data", 0, "state")),
    ("transformers serve", "/openapi.json", ("paths", "/load_model")),
)
# In an entry of GET /models: vLLM and SGLang, hosted APIs, llama.cpp
_CONTEXT_LENGTH_KEYS = ("max_model_len", "context_length", "max_context_length", "context_window", "n_ctx")
# Endpoint -> the place of its list of models. Both list the context length of loaded models.
_NATIVE_MODELS = (("/api/ps", "models"), ("/api/v0/models", "data"))  # Ollama, LM Studio
_NATIVE_CONTEXT_LENGTH_KEYS = ("loaded_context_length", "context_length")


def describe_server(client: Client) -> str | None:
    """Return the server's name with its version, if it reports one. None: an unknown server."""
    for name, path, place in _SERVERS:
        if (found := _at(client.native(path), *place)) is not None:
            return f"{name} {found}" if place[-1] in _VERSION_KEYS else name
    return None


def listed_context(model: dict[str, Any]) -> int | None:
    """Return the context length in an entry of the list of models. llama.cpp: that of one slot."""
    meta = model.get("meta")
    return _first_number(model | meta if isinstance(meta, dict) else model, _CONTEXT_LENGTH_KEYS)


def native_context(client: Client, model: str) -> int | None:
    """Return the context length that Ollama or LM Studio reports for a loaded model."""
    for path, place in _NATIVE_MODELS:
        entries = _at(client.native(path), place)
        for entry in entries if isinstance(entries, list) else ():
            if {model, f"{model}:latest"} & {_at(entry, "id"), _at(entry, "name")}:
                return _first_number(entry, _NATIVE_CONTEXT_LENGTH_KEYS)
    return None


def _at(value: Any, *place: str | int) -> Any:
    for key in place:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return value


def _first_number(entry: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    return next((int(text) for text in (str(entry.get(key)) for key in keys) if text.isdecimal()), None)
