"""The engine for any server that speaks the OpenAI protocol."""

from importlib.util import find_spec

from ...errors import ModelError

if find_spec("openai") is None:
    raise ModelError("a server as engine needs the openai client: pip install 'gemma-captioner[server]'")

from .engine import ServerEngine

__all__ = ["ServerEngine"]
